-- A lock that a row has just waited for in vain is tried, and not waited for again.
IF @has_waited@ THEN
    LOCK TABLE lead_webhook.outbox, lead_webhook.muted IN ROW EXCLUSIVE MODE NOWAIT;
    LOCK TABLE lead_webhook.endpoints IN ACCESS SHARE MODE NOWAIT;
END IF;
