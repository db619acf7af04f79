"""Whether a session's blocks alone are its file; `assemble` is what processes of the build before still write."""

from app.kernel.migrate import sql_migration

ID = "0026"
VERSION = "1.38.0"
DESCRIPTION = "uploads by blocks"

UP = """
ALTER TABLE uploads ADD COLUMN by_blocks boolean NOT NULL DEFAULT false;
UPDATE uploads SET by_blocks = true WHERE state = 'verifying' AND assemble;
"""

DOWN = "ALTER TABLE uploads DROP COLUMN by_blocks;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
