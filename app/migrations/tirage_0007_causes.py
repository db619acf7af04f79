"""Jobs by what caused them: the story of an order asks so."""

from app.kernel.migrate import sql_migration

ID = "0007"
VERSION = "1.38.0"
DESCRIPTION = "causes"

UP = "CREATE INDEX jobs_cause ON jobs (cause) WHERE cause IS NOT NULL;"

DOWN = "DROP INDEX jobs_cause;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
