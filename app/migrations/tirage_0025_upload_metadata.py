"""What a tus client said of a file, to be said back to it."""

from app.kernel.migrate import sql_migration

ID = "0025"
VERSION = "1.38.0"
DESCRIPTION = "upload metadata"

UP = "ALTER TABLE uploads ADD COLUMN metadata text;"

DOWN = "ALTER TABLE uploads DROP COLUMN metadata;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
