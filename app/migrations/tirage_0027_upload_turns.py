"""Until when somebody makes parts of a session's blocks."""

from app.kernel.migrate import sql_migration

ID = "0027"
VERSION = "1.38.0"
DESCRIPTION = "upload turns"

UP = "ALTER TABLE uploads ADD COLUMN gathered_until timestamptz;"

DOWN = "ALTER TABLE uploads DROP COLUMN gathered_until;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
