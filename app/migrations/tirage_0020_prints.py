"""What a photo can be printed as."""

from app.kernel.migrate import sql_migration

ID = "0020"
VERSION = "1.38.0"
DESCRIPTION = "prints"

UP = "ALTER TABLE assets ADD COLUMN prints jsonb;"
DOWN = "ALTER TABLE assets DROP COLUMN prints;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
