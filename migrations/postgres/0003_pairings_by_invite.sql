-- no-transaction
-- Who came by an invite: their rights may be taken away with it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS pairings_by_invite ON pairings (invite, mesh, peer);
