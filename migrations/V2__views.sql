-- For those who read in SQL, and for the host application: what the tables say, in words. Nobody but the owner role may read
-- them until they are granted: GRANT USAGE ON SCHEMA lead_webhook, and SELECT on the view.

CREATE VIEW lead_webhook.delivery_log AS
SELECT d.finished_at, d.tenant_id, d.lead_id, d.event,
       d.status || coalesce(' / ' || coalesce(d.failure, d.reason), '') AS outcome,
       d.http_status, d.error, d.host,
       d.sent_at - d.queued_at AS waited,
       round(d.total_us / 1000.0, 1) AS took_ms,
       d.captured_at, d.is_test, d.redelivery_of IS NOT NULL AS is_redelivery, d.event_id, d.delivery_id
FROM lead_webhook.deliveries d;
COMMENT ON VIEW lead_webhook.delivery_log IS 'The log for people: one row a delivery. ORDER BY finished_at DESC LIMIT n reads an index, and so does a tenant or a lead.';
COMMENT ON COLUMN lead_webhook.delivery_log.finished_at IS 'When the outcome was known.';
COMMENT ON COLUMN lead_webhook.delivery_log.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.delivery_log.lead_id IS 'The lead, as text; test_ and more for a test.';
COMMENT ON COLUMN lead_webhook.delivery_log.event IS 'lead.created or lead.re_engaged.';
COMMENT ON COLUMN lead_webhook.delivery_log.outcome IS 'The status, with its failure or reason: delivered, failed / timeout, skipped / duplicate. See lead_webhook.deliveries.';
COMMENT ON COLUMN lead_webhook.delivery_log.http_status IS 'The receiver''s status code; NULL: no answer.';
COMMENT ON COLUMN lead_webhook.delivery_log.error IS 'What went wrong, in words.';
COMMENT ON COLUMN lead_webhook.delivery_log.host IS 'The destination''s host.';
COMMENT ON COLUMN lead_webhook.delivery_log.waited IS 'From the capture to the attempt; NULL: there was none.';
COMMENT ON COLUMN lead_webhook.delivery_log.took_ms IS 'Milliseconds of the whole attempt.';
COMMENT ON COLUMN lead_webhook.delivery_log.captured_at IS 'When the lead was first captured, as the lead says.';
COMMENT ON COLUMN lead_webhook.delivery_log.is_test IS 'Fired by `lead-webhook test`, with a synthetic lead.';
COMMENT ON COLUMN lead_webhook.delivery_log.is_redelivery IS 'An operator''s explicit second send.';
COMMENT ON COLUMN lead_webhook.delivery_log.event_id IS 'The event, webhook-id: the same in a redelivery.';
COMMENT ON COLUMN lead_webhook.delivery_log.delivery_id IS 'The delivery, X-Wilow-Delivery-Id: for `lead-webhook deliveries show`.';

CREATE VIEW lead_webhook.backlog AS
SELECT o.tenant_id,
       count(*) FILTER (WHERE o.claimed_by IS NULL) AS pending,
       count(o.claimed_by) AS in_flight,
       min(o.queued_at) FILTER (WHERE o.claimed_by IS NULL) AS oldest_pending_at
FROM lead_webhook.outbox o
GROUP BY o.tenant_id;
COMMENT ON VIEW lead_webhook.backlog IS 'What waits or is in flight, one row for each tenant that has any. Reads the whole outbox.';
COMMENT ON COLUMN lead_webhook.backlog.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.backlog.pending IS 'Events that no daemon has claimed yet.';
COMMENT ON COLUMN lead_webhook.backlog.in_flight IS 'Events that are claimed, and not yet in the log.';
COMMENT ON COLUMN lead_webhook.backlog.oldest_pending_at IS 'When the oldest pending event was queued; NULL: none is pending.';

CREATE VIEW lead_webhook.endpoint_health AS
SELECT e.tenant_id, e.enabled AND e.takes_part AS takes_leads, e.host,
       day.delivered, day.failed, day.interrupted, day.skipped,
       round(100.0 * day.delivered / nullif(day.delivered + day.failed + day.interrupted, 0), 1) AS success_percent,
       day.last_delivered_at, day.last_failed_at,
       coalesce(b.pending, 0) AS pending, b.oldest_pending_at
FROM lead_webhook.endpoints e
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.status = 'delivered') AS delivered,
           count(*) FILTER (WHERE d.status = 'failed') AS failed,
           count(*) FILTER (WHERE d.status = 'interrupted') AS interrupted,
           count(*) FILTER (WHERE d.status = 'skipped') AS skipped,
           max(d.finished_at) FILTER (WHERE d.status = 'delivered') AS last_delivered_at,
           max(d.finished_at) FILTER (WHERE d.status = 'failed') AS last_failed_at
    FROM lead_webhook.deliveries d
    WHERE d.tenant_id = e.tenant_id AND d.finished_at > now() - interval '24 hours' AND NOT d.is_test
) day
LEFT JOIN lead_webhook.backlog b ON b.tenant_id = e.tenant_id;
COMMENT ON VIEW lead_webhook.endpoint_health IS 'How each tenant''s endpoint did in the last 24 hours, tests left out.';
COMMENT ON COLUMN lead_webhook.endpoint_health.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.endpoint_health.takes_leads IS 'On, with a URL and a secret.';
COMMENT ON COLUMN lead_webhook.endpoint_health.host IS 'The URL''s host.';
COMMENT ON COLUMN lead_webhook.endpoint_health.delivered IS 'Deliveries that the receiver took.';
COMMENT ON COLUMN lead_webhook.endpoint_health.failed IS 'Deliveries that failed.';
COMMENT ON COLUMN lead_webhook.endpoint_health.interrupted IS 'Deliveries that may have arrived.';
COMMENT ON COLUMN lead_webhook.endpoint_health.skipped IS 'Events that were not attempted.';
COMMENT ON COLUMN lead_webhook.endpoint_health.success_percent IS 'Delivered of all that was to be sent; NULL: nothing was.';
COMMENT ON COLUMN lead_webhook.endpoint_health.last_delivered_at IS 'When the latest was delivered.';
COMMENT ON COLUMN lead_webhook.endpoint_health.last_failed_at IS 'When the latest failed.';
COMMENT ON COLUMN lead_webhook.endpoint_health.pending IS 'Events that wait.';
COMMENT ON COLUMN lead_webhook.endpoint_health.oldest_pending_at IS 'When the oldest of them was queued.';
