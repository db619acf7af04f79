"""What an owner has open, in bytes, without reading all that they ever sent."""

from app.kernel.migrate import sql_migration

ID = "0024"
VERSION = "1.38.0"
DESCRIPTION = "open bytes"

UP = "CREATE INDEX uploads_open ON uploads (owner_id) INCLUDE (bytes) WHERE state = 'open';"

DOWN = "DROP INDEX uploads_open;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
