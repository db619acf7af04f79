"""Which region keeps a photo's bytes."""

from app.kernel.migrate import sql_migration

ID = "0022"
VERSION = "1.38.0"
DESCRIPTION = "regions"

UP = """
ALTER TABLE uploads ADD region text NOT NULL DEFAULT 'home';
ALTER TABLE assets ADD region text NOT NULL DEFAULT 'home';
-- What is there already is where jobs ran until now.
UPDATE uploads SET region = j.region FROM (SELECT region FROM jobs ORDER BY position LIMIT 1) j;
UPDATE assets SET region = j.region FROM (SELECT region FROM jobs ORDER BY position LIMIT 1) j;
"""

DOWN = "ALTER TABLE assets DROP region; ALTER TABLE uploads DROP region;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
