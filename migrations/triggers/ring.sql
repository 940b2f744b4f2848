-- The doorbell: says "look", carries nothing. A transaction that has notified lines up with all others that have, until
-- its commit is flushed; so it is done only while a daemon waits for it, and no more than @rings@ times if that daemon is gone.
IF FOUND@unless@ AND pg_sequence_last_value('lead_webhook.bell'::regclass) < @rings@ THEN
    PERFORM nextval('lead_webhook.bell');
    PERFORM pg_notify('lead_webhook', '');
END IF;
