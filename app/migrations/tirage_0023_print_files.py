"""Every version of a print file that was stored, until when it is locked; rows go with their objects."""

from app.kernel.migrate import sql_migration

ID = "0023"
VERSION = "1.38.0"
DESCRIPTION = "print files"

UP = """
CREATE TABLE print_files (
    key text NOT NULL,
    version text NOT NULL,
    line_id uuid NOT NULL REFERENCES order_lines ON DELETE RESTRICT ON UPDATE RESTRICT,
    region text NOT NULL,
    locked_until timestamptz NOT NULL,
    PRIMARY KEY (key, version)
);
CREATE INDEX print_files_line ON print_files (line_id);
CREATE INDEX print_files_lock ON print_files (locked_until);
INSERT INTO print_files (key, version, line_id, region, locked_until)
SELECT l.master->>'key', l.master->>'version', l.line_id, coalesce(l.master->>'region', 'home'),
       m.made_at + interval '30 days'
FROM fulfilment_lines l JOIN order_manifests m USING (line_id) WHERE l.master IS NOT NULL
ON CONFLICT DO NOTHING;
"""

DOWN = "DROP TABLE print_files;"

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
