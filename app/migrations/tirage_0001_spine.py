"""Spine: transitions and their guards, events, jobs, step runs, alerts, owners and their keys."""

from app.kernel.migrate import sql_migration

ID = "0001"
VERSION = "1.38.0"
DESCRIPTION = "spine"

UP = """
CREATE TABLE transitions (
    machine text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    event_type text,
    PRIMARY KEY (machine, from_state, to_state)
);

CREATE FUNCTION refuse_illegal_transition() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE old_state text := CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.state END;
BEGIN
    IF NOT EXISTS (SELECT FROM transitions
                   WHERE machine = TG_ARGV[0] AND from_state = old_state AND to_state = NEW.state) THEN
        RAISE EXCEPTION 'illegal transition %: % -> %', TG_ARGV[0], old_state, NEW.state
            USING ERRCODE = 'TR001', CONSTRAINT = TG_ARGV[0];
    END IF;
    RETURN NEW;
END $$;

-- occurred_at is the transaction's own timestamp, so the check reads one partition and one moment.
CREATE FUNCTION require_transition_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_state text := CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.state END;
    wanted text;
BEGIN
    SELECT event_type INTO wanted FROM transitions
    WHERE machine = TG_ARGV[0] AND from_state = old_state AND to_state = NEW.state;
    IF wanted IS NOT NULL AND NOT EXISTS (
        SELECT FROM events WHERE aggregate_id = NEW.id AND occurred_at = now()
                             AND tx_id = pg_current_xact_id() AND type = wanted) THEN
        RAISE EXCEPTION 'transition % % -> % has no event %', TG_ARGV[0], old_state, NEW.state, wanted
            USING ERRCODE = 'TR002', CONSTRAINT = TG_ARGV[0];
    END IF;
    RETURN NULL;
END $$;

-- Puts both guards on a table with columns id and state.
CREATE FUNCTION guard_states(guarded regclass, machine text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER state_guard_insert BEFORE INSERT ON %s FOR EACH ROW
                    EXECUTE FUNCTION refuse_illegal_transition(%L)', guarded, machine);
    EXECUTE format('CREATE TRIGGER state_guard_update BEFORE UPDATE OF state ON %s FOR EACH ROW
                    WHEN (OLD.state IS DISTINCT FROM NEW.state)
                    EXECUTE FUNCTION refuse_illegal_transition(%L)', guarded, machine);
    EXECUTE format('CREATE CONSTRAINT TRIGGER state_event_insert AFTER INSERT ON %s
                    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
                    EXECUTE FUNCTION require_transition_event(%L)', guarded, machine);
    EXECUTE format('CREATE CONSTRAINT TRIGGER state_event_update AFTER UPDATE OF state ON %s
                    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
                    EXECUTE FUNCTION require_transition_event(%L)', guarded, machine);
END $$;

CREATE TABLE owners (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('guest', 'account')),
    created_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz
);

CREATE TABLE devices (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX devices_owner ON devices (owner_id);

CREATE TABLE person_keys (
    owner_id uuid PRIMARY KEY REFERENCES owners ON DELETE RESTRICT ON UPDATE RESTRICT,
    kek_id text NOT NULL,
    wrapped bytea NOT NULL
);

CREATE TABLE event_heads (
    aggregate_id uuid PRIMARY KEY,
    seq bigint NOT NULL
);

CREATE TABLE events (
    position bigint GENERATED ALWAYS AS IDENTITY,
    tx_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id uuid NOT NULL,
    aggregate_id uuid NOT NULL,
    seq bigint NOT NULL,
    type text NOT NULL,
    schema_version int NOT NULL,
    owner_id uuid,
    order_id uuid,
    actor text NOT NULL,
    cause uuid,
    trace_id text,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    data jsonb NOT NULL,
    PRIMARY KEY (occurred_at, position)
) PARTITION BY RANGE (occurred_at);
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX events_stream ON events (tx_id, position);
CREATE INDEX events_owner ON events (owner_id, tx_id, position);
CREATE INDEX events_aggregate ON events (aggregate_id, seq);
CREATE INDEX events_order ON events (order_id, tx_id, position) WHERE order_id IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'TR003';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION ensure_event_partitions(months int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    start_on date;
    name text;
BEGIN
    FOR step IN 0..months LOOP
        start_on := first + make_interval(months => step);
        name := 'events_' || to_char(start_on, 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)', name,
                start_on::timestamp AT TIME ZONE 'UTC',
                (start_on + interval '1 month')::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
END $$;

CREATE TABLE jobs (
    id uuid PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    region text NOT NULL,
    lane text NOT NULL,
    owner_id uuid,
    share uuid NOT NULL,
    payload jsonb NOT NULL,
    dedupe_key text,
    supersede_key text,
    not_before timestamptz NOT NULL,
    deadline timestamptz,
    attempt int NOT NULL DEFAULT 1,
    max_attempts int NOT NULL,
    time_limit_s int NOT NULL,
    nonce bytea NOT NULL,
    cause uuid,
    traceparent text,
    state text NOT NULL CHECK (state IN ('queued', 'published', 'done', 'parked', 'cancelled')),
    outcome text,
    last_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    finished_at timestamptz
);
CREATE UNIQUE INDEX jobs_dedupe ON jobs (dedupe_key) WHERE state IN ('queued', 'published');
CREATE INDEX jobs_supersede ON jobs (supersede_key) WHERE state = 'queued' AND supersede_key IS NOT NULL;
CREATE INDEX jobs_due ON jobs (region, lane, share, not_before, position) WHERE state = 'queued';
CREATE INDEX jobs_busy ON jobs (region, lane, share) WHERE state = 'published';
CREATE INDEX jobs_stale ON jobs (region, lane, published_at) WHERE state = 'published';
CREATE INDEX jobs_parked ON jobs (kind, position) WHERE state = 'parked';
CREATE INDEX jobs_dedupe_all ON jobs (dedupe_key) WHERE dedupe_key IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_owner ON jobs (owner_id) WHERE owner_id IS NOT NULL;
SELECT guard_states('jobs', 'job');

CREATE TABLE lane_holds (
    region text NOT NULL,
    lane text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (region, lane)
);

CREATE TABLE step_runs (
    job_id uuid NOT NULL REFERENCES jobs ON DELETE CASCADE ON UPDATE RESTRICT,
    step text NOT NULL,
    attempt int NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('ok', 'failed', 'refused', 'lost')),
    reason text,
    ms int NOT NULL,
    engine text,
    body jsonb NOT NULL,
    trace_id text,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, step, attempt)
);
CREATE UNIQUE INDEX step_runs_once ON step_runs (job_id, step) WHERE outcome = 'ok';

CREATE TABLE alerts (
    id uuid PRIMARY KEY,
    rule text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('warning', 'error', 'critical')),
    subject text NOT NULL,
    detail text NOT NULL,
    count int NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX alerts_open ON alerts (rule, subject) WHERE closed_at IS NULL;
"""

DOWN = """
DROP TABLE alerts, step_runs, lane_holds, jobs, events, event_heads, person_keys, devices, owners, transitions CASCADE;
DROP FUNCTION guard_states, require_transition_event, refuse_illegal_transition, refuse_change, ensure_event_partitions;
"""

forwards = sql_migration(ID, DESCRIPTION, UP, DOWN)
