-- The doorbell: says "look", carries nothing.
IF FOUND@unless@ THEN
    PERFORM pg_notify('lead_webhook', '');
END IF;
