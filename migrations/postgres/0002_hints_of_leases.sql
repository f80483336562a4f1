-- A renewal that acknowledges more tells those who wait for acknowledgements, and does not wake all gateways: its
-- notification says 'lease'. Everything else is as it was, for nodes of the version before too.
CREATE OR REPLACE FUNCTION renew_lease(holder TEXT, applied BIGINT, carried_out BIGINT)
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
            PERFORM pg_notify('heliograph', 'lease');
        END IF;
    END IF;

    RETURN QUERY
        SELECT reached, c.version, c.mesh, c.peer, c.standing
        FROM (VALUES (1)) AS always (one)
        LEFT JOIN log AS c ON c.peer IS NOT NULL AND c.version > applied AND c.version <= reached
        ORDER BY c.version;
END;
$$;
