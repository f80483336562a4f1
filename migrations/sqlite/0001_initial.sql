-- Pairing, keys and the audit log of a single node.
--
-- Times are milliseconds since the Unix epoch, hashes 32 bytes. `since` is the version under which a row came to
-- be: unique, and the order of lists. What one process alone knows (leases, waiters) is not in the file.

-- "HELI": tells our files from those of other programs.
PRAGMA application_id = 1212501065;

-- The end of the log. One row; a change reads it first and writes it last, in one transaction.
CREATE TABLE head (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL CHECK (version >= 0),
    hash    BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO head (id, version, hash) VALUES (1, 0, zeroblob(32));

-- Row n is change n. `peer` and `standing` tell whose right the change touched, if any.
CREATE TABLE log (
    version  INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    mesh     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    detail   TEXT NOT NULL,
    peer     TEXT,
    standing TEXT CHECK (standing IN ('pending_approval', 'approved', 'rejected', 'revoked')),
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    hash     BLOB NOT NULL CHECK (length(hash) = 32),
    CHECK ((peer IS NULL) = (standing IS NULL))
) STRICT;

CREATE INDEX log_by_mesh ON log (mesh, version);
-- What a gateway that renews its lease reads.
CREATE INDEX log_of_standing ON log (version) WHERE peer IS NOT NULL;

-- The hash chain shows a change; this prevents the careless one.
CREATE TRIGGER log_keeps_rows BEFORE DELETE ON log
BEGIN
    SELECT RAISE(ABORT, 'the log is append-only');
END;

CREATE TRIGGER log_keeps_values BEFORE UPDATE ON log
BEGIN
    SELECT RAISE(ABORT, 'the log is append-only');
END;

CREATE TABLE invites (
    id         TEXT PRIMARY KEY,
    mesh       TEXT NOT NULL,
    code       BLOB NOT NULL CHECK (length(code) = 32),
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked    INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1)),
    since      INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX invites_since ON invites (since);
CREATE INDEX invites_by_mesh ON invites (mesh, since);
CREATE INDEX invites_by_expiry ON invites (expires_at, id);
-- Redemption: one code leads to one invite at most.
CREATE UNIQUE INDEX invites_open_code ON invites (code) WHERE revoked = 0 AND uses_left > 0;
-- The bound of open invites counts here, and only as far as the bound.
CREATE INDEX invites_open ON invites (mesh, expires_at) WHERE revoked = 0 AND uses_left > 0;

CREATE TABLE peers (
    mesh       TEXT NOT NULL,
    peer       TEXT NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending_approval', 'approved', 'rejected', 'revoked')),
    origin     TEXT NOT NULL CHECK (origin IN ('pairing', 'key')),
    role       TEXT NOT NULL,
    pairing    TEXT,
    public_key TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    PRIMARY KEY (mesh, peer),
    CHECK ((origin = 'pairing') = (pairing IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- An invite may be cleared away while its pairings stay, hence no foreign key to it.
CREATE TABLE pairings (
    id           TEXT PRIMARY KEY,
    mesh         TEXT NOT NULL,
    peer         TEXT NOT NULL,
    name         TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending_approval', 'approved', 'rejected', 'revoked')),
    invite       TEXT NOT NULL,
    claim        BLOB NOT NULL CHECK (length(claim) = 32),
    device_token BLOB CHECK (length(device_token) = 32),
    public_key   TEXT,
    address      TEXT,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    since        INTEGER NOT NULL,
    FOREIGN KEY (mesh, peer) REFERENCES peers (mesh, peer)
) STRICT;

CREATE UNIQUE INDEX pairings_since ON pairings (since);
CREATE UNIQUE INDEX pairings_peer ON pairings (mesh, peer);
CREATE UNIQUE INDEX pairings_device_token ON pairings (device_token) WHERE device_token IS NOT NULL;
CREATE INDEX pairings_by_mesh ON pairings (mesh, since);
-- Lists of one state, and the bound of waiting devices, which counts only as far as the bound.
CREATE INDEX pairings_by_state ON pairings (state, since);
CREATE INDEX pairings_by_mesh_and_state ON pairings (mesh, state, since);

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    secret     BLOB NOT NULL CHECK (length(secret) = 32),
    mesh       TEXT NOT NULL,
    peer       TEXT NOT NULL,
    role       TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    since      INTEGER NOT NULL,
    FOREIGN KEY (mesh, peer) REFERENCES peers (mesh, peer)
) STRICT;

CREATE UNIQUE INDEX api_keys_secret ON api_keys (secret);
CREATE UNIQUE INDEX api_keys_since ON api_keys (since);
CREATE INDEX api_keys_by_mesh ON api_keys (mesh, since);
-- The live keys that stand for a peer: its revocation takes them along.
CREATE INDEX api_keys_live ON api_keys (mesh, peer) WHERE revoked_at IS NULL;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
