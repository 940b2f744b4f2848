-- The mark takes no lock that anybody waits for, and a roll-back does not take it back.
BEGIN
    -- But its own definition may be locked: that is waited for once, as the tables are.
    IF @has_waited@ THEN
        PERFORM set_config('lock_timeout', '1ms', true);
    END IF;
    PERFORM nextval('lead_webhook.missed');
EXCEPTION WHEN OTHERS THEN
    NULL;
END;
IF SQLSTATE = '55P03' THEN
    PERFORM set_config('lead_webhook.locked_until', (extract(epoch FROM clock_timestamp()) + 1)::text, true);
END IF;
-- Not SQLERRM, which may quote the lead's values.
RAISE WARNING 'lead_webhook: a lead could not be queued (SQLSTATE %): `lead-webhook check` says more', SQLSTATE;
