"""A thing's events in one order for every reader: whoever waited for the thing stands behind whom it waited for.

A transaction that got its number early and its turn late would stand before what it answers to. So an event's place is
its own transaction's number or that of the thing's last event, whichever is higher; its own number is the lower bound
that readers need, and the row's `xmin` says it where it matters.
"""

from app.kernel.migrate import sql_migration

ID = "0021"
VERSION = "1.38.0"
DESCRIPTION = "stream order"

_GUARD = """
CREATE OR REPLACE FUNCTION require_transition_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_state text := CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.state END;
    wanted text;
BEGIN
    SELECT event_type INTO wanted FROM transitions
    WHERE machine = TG_ARGV[0] AND from_state = old_state AND to_state = NEW.state;
    IF wanted IS NOT NULL AND NOT EXISTS (
        SELECT FROM events WHERE aggregate_id = NEW.id AND occurred_at = now()
                             AND {own} AND type = wanted) THEN
        RAISE EXCEPTION 'transition % % -> % has no event %', TG_ARGV[0], old_state, NEW.state, wanted
            USING ERRCODE = 'TR002', CONSTRAINT = TG_ARGV[0];
    END IF;
    RETURN NULL;
END $$;
"""

UP = f"""
ALTER TABLE event_heads ADD COLUMN tx_id xid8 NOT NULL DEFAULT '0';
{_GUARD.format(own="xmin = pg_current_xact_id()::xid")}
"""

DOWN = f"""
{_GUARD.format(own="tx_id = pg_current_xact_id()")}
ALTER TABLE event_heads DROP COLUMN tx_id;
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
