-- The doorbell: says "look", carries nothing. A transaction that has notified lines up with all others that have, until
-- its commit is flushed; so it is done only while a daemon waits for it, and no more than @rings@ times if that daemon is
-- gone. Once a transaction: a long one must not use the rings up that others need. An expression is set up anew in each
-- transaction that asks it: what most need not ask stands in an IF of its own.
IF FOUND THEN
    IF pg_sequence_last_value('lead_webhook.bell'::regclass) < @rings@ THEN
        IF current_setting('lead_webhook.rung', true) IS DISTINCT FROM 'on'@unless@ THEN
            PERFORM nextval('lead_webhook.bell');
            PERFORM set_config('lead_webhook.rung', 'on', true);
            PERFORM pg_notify('lead_webhook', '');
        END IF;
    END IF;
END IF;
