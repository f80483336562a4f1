-- Pairing, keys, leases and the audit log of a cluster.
--
-- Times are milliseconds since the Unix epoch, hashes 32 bytes. `since` is the version under which a row came to
-- be: unique, and the order of lists. Names compare by their bytes (collation "C"), so that all databases agree
-- on the order of lists. Nothing here looks at a clock of the database.

-- The end of the log. One row; a change locks it first and writes it last, in one transaction, and a renewal of a
-- lease takes it shared: neither can miss the other. Its page has room for the row's next versions.
CREATE TABLE head (
    id      SMALLINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL CHECK (version >= 0),
    hash    BYTEA NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 20);

INSERT INTO head (id, version, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

-- Row n is change n. `peer` and `standing` tell whose right the change touched, if any.
CREATE TABLE log (
    version  BIGINT PRIMARY KEY,
    at       BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    mesh     TEXT COLLATE "C" NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL,
    peer     TEXT COLLATE "C",
    standing TEXT CHECK (standing IN ('pending_approval', 'approved', 'rejected', 'revoked')),
    previous BYTEA NOT NULL CHECK (octet_length(previous) = 32),
    hash     BYTEA NOT NULL CHECK (octet_length(hash) = 32),
    CHECK ((peer IS NULL) = (standing IS NULL))
);

CREATE INDEX log_by_mesh ON log (mesh, version);
-- What a gateway that renews its lease reads.
CREATE INDEX log_of_standing ON log (version) WHERE peer IS NOT NULL;

-- The hash chain shows a change; this prevents the careless one.
CREATE FUNCTION log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the log is append-only';
END;
$$;

CREATE TRIGGER log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log
    FOR EACH STATEMENT EXECUTE FUNCTION log_is_append_only();

CREATE TABLE invites (
    id         TEXT COLLATE "C" PRIMARY KEY,
    mesh       TEXT COLLATE "C" NOT NULL,
    code       BYTEA NOT NULL CHECK (octet_length(code) = 32),
    uses_left  BIGINT NOT NULL CHECK (uses_left >= 0),
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    revoked    BOOLEAN NOT NULL DEFAULT FALSE,
    since      BIGINT NOT NULL
);

CREATE UNIQUE INDEX invites_since ON invites (since);
CREATE INDEX invites_by_mesh ON invites (mesh, since);
CREATE INDEX invites_by_expiry ON invites (expires_at, id);
-- Redemption: one code leads to one invite at most.
CREATE UNIQUE INDEX invites_open_code ON invites (code) WHERE NOT revoked AND uses_left > 0;
-- The bound of open invites counts here, and only as far as the bound.
CREATE INDEX invites_open ON invites (mesh, expires_at) WHERE NOT revoked AND uses_left > 0;

CREATE TABLE peers (
    mesh       TEXT COLLATE "C" NOT NULL,
    peer       TEXT COLLATE "C" NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending_approval', 'approved', 'rejected', 'revoked')),
    origin     TEXT NOT NULL CHECK (origin IN ('pairing', 'key')),
    role       TEXT NOT NULL,
    pairing    TEXT COLLATE "C",
    public_key TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (mesh, peer),
    CHECK ((origin = 'pairing') = (pairing IS NOT NULL))
);

-- An invite may be cleared away while its pairings stay, hence no foreign key to it.
CREATE TABLE pairings (
    id           TEXT COLLATE "C" PRIMARY KEY,
    mesh         TEXT COLLATE "C" NOT NULL,
    peer         TEXT COLLATE "C" NOT NULL,
    name         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending_approval', 'approved', 'rejected', 'revoked')),
    invite       TEXT COLLATE "C" NOT NULL,
    claim        BYTEA NOT NULL CHECK (octet_length(claim) = 32),
    device_token BYTEA CHECK (octet_length(device_token) = 32),
    public_key   TEXT,
    address      TEXT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    since        BIGINT NOT NULL,
    FOREIGN KEY (mesh, peer) REFERENCES peers (mesh, peer)
);

CREATE UNIQUE INDEX pairings_since ON pairings (since);
CREATE UNIQUE INDEX pairings_peer ON pairings (mesh, peer);
CREATE UNIQUE INDEX pairings_device_token ON pairings (device_token) WHERE device_token IS NOT NULL;
CREATE INDEX pairings_by_mesh ON pairings (mesh, since);
-- Lists of one state, and the bound of waiting devices, which counts only as far as the bound.
CREATE INDEX pairings_by_state ON pairings (state, since);
CREATE INDEX pairings_by_mesh_and_state ON pairings (mesh, state, since);

CREATE TABLE api_keys (
    id         TEXT COLLATE "C" PRIMARY KEY,
    secret     BYTEA NOT NULL CHECK (octet_length(secret) = 32),
    mesh       TEXT COLLATE "C" NOT NULL,
    peer       TEXT COLLATE "C" NOT NULL,
    role       TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    since      BIGINT NOT NULL,
    FOREIGN KEY (mesh, peer) REFERENCES peers (mesh, peer)
);

CREATE UNIQUE INDEX api_keys_secret ON api_keys (secret);
CREATE UNIQUE INDEX api_keys_since ON api_keys (since);
CREATE INDEX api_keys_by_mesh ON api_keys (mesh, since);
-- The live keys that stand for a peer: its revocation takes them along.
CREATE INDEX api_keys_live ON api_keys (mesh, peer) WHERE revoked_at IS NULL;

-- Which gateways may decide, and how far each has carried out the changes. Logged as everything else: a lease that
-- a crash forgot would be a gateway that no revocation waits for.
CREATE TABLE leases (
    gateway      TEXT COLLATE "C" PRIMARY KEY,
    acknowledged BIGINT NOT NULL CHECK (acknowledged >= 0),
    beat         BIGINT NOT NULL
) WITH (fillfactor = 50);

-- All leases draw their beats here, so that no beat is used twice, also by a lease that was removed and comes back.
CREATE SEQUENCE lease_beats;

-- Grants or renews a lease in one round trip, and answers the newest version with the changes of standing after
-- `applied`: one row per change, or one without a change.
--
-- A function and not one statement, because the order is what matters, and a single statement sees only what was
-- committed before it began: here each step looks anew (isolation READ COMMITTED), so what is read after the wait
-- for the row of `head` has the change that was waited for.
CREATE FUNCTION renew_lease(holder TEXT, applied BIGINT, carried_out BIGINT)
RETURNS TABLE (newest BIGINT, version BIGINT, mesh TEXT, peer TEXT, standing TEXT)
LANGUAGE plpgsql AS $$
DECLARE
    reached BIGINT;
BEGIN
    SELECT h.version INTO STRICT reached FROM head AS h WHERE h.id = 1 FOR SHARE;

    UPDATE leases AS l SET beat = nextval('lease_beats') WHERE l.gateway = holder AND l.acknowledged >= carried_out;
    IF NOT FOUND THEN
        INSERT INTO leases AS l (gateway, acknowledged, beat) VALUES (holder, carried_out, nextval('lease_beats'))
        ON CONFLICT (gateway) DO UPDATE
            SET acknowledged = greatest(l.acknowledged, excluded.acknowledged), beat = nextval('lease_beats');
        IF carried_out > 0 THEN
            PERFORM pg_notify('heliograph', '');
        END IF;
    END IF;

    RETURN QUERY
        SELECT reached, c.version, c.mesh, c.peer, c.standing
        FROM (VALUES (1)) AS always (one)
        LEFT JOIN log AS c ON c.peer IS NOT NULL AND c.version > applied AND c.version <= reached
        ORDER BY c.version;
END;
$$;

CREATE TABLE settings (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);
