-- The tables of lead_webhook, without the triggers: those follow the configured mapping and are made anew by
-- every `lead-webhook migrate`. Nothing here refers to a table of the application's (no view, foreign key or
-- row type), so that the application's own migrations never meet us.

CREATE TABLE lead_webhook.installation (
    installation_id       uuid        NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    only_one              boolean     NOT NULL DEFAULT true UNIQUE CHECK (only_one),
    installed_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    leads_since           timestamptz,
    system_identifier     bigint,
    database_name         text        NOT NULL,
    table_oid             oid         NOT NULL,
    key_check_sealed      bytea       NOT NULL,
    uniqueness_key_sealed bytea       NOT NULL,
    mapped                text
);
COMMENT ON TABLE lead_webhook.installation IS 'The one installation in this database: what a restored or cloned copy is told by.';
COMMENT ON COLUMN lead_webhook.installation.installation_id IS 'Names the installation; bound into everything that is sealed for it.';
COMMENT ON COLUMN lead_webhook.installation.only_one IS 'Always true: allows one row.';
COMMENT ON COLUMN lead_webhook.installation.installed_at IS 'When the triggers were first installed.';
COMMENT ON COLUMN lead_webhook.installation.leads_since IS 'Leads captured from then on came after the install: its time, that of the migrate to another leads table, or later where captured times were ahead of the server''s clock. Others are not looked for. NULL: not noted, the install''s time counts.';
COMMENT ON COLUMN lead_webhook.installation.system_identifier IS 'The server''s system identifier at the install; NULL where the server refuses to tell.';
COMMENT ON COLUMN lead_webhook.installation.database_name IS 'The database''s name at the install.';
COMMENT ON COLUMN lead_webhook.installation.table_oid IS 'This table''s own oid at the install: another one where it was restored from a dump.';
COMMENT ON COLUMN lead_webhook.installation.key_check_sealed IS 'A known text, sealed: opens only with the key file that this installation was made with.';
COMMENT ON COLUMN lead_webhook.installation.uniqueness_key_sealed IS 'The HMAC key of lead_webhook.uniqueness, sealed by the key file.';
COMMENT ON COLUMN lead_webhook.installation.mapped IS 'What the triggers go by: the table, and how id, tenant, email and phone are mapped. A daemon that maps them otherwise claims nothing.';

CREATE TABLE lead_webhook.endpoints (
    tenant_id      text COLLATE "C" NOT NULL PRIMARY KEY CHECK (tenant_id <> ''),
    enabled        boolean     NOT NULL DEFAULT true,
    url_sealed     bytea,
    host           text,
    port           integer     CHECK (port BETWEEN 1 AND 65535),
    secret_sealed  bytea,
    headers_sealed bytea,
    header_names   text[]      NOT NULL DEFAULT '{}',
    template       text        CHECK (octet_length(template) <= 65536),
    omit_empty     boolean     NOT NULL DEFAULT false,
    timeout_ms     integer     CHECK (timeout_ms BETWEEN 1000 AND 60000),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    secret_set_at  timestamptz,
    takes_part     boolean     NOT NULL GENERATED ALWAYS AS (url_sealed IS NOT NULL AND secret_sealed IS NOT NULL) STORED,
    CONSTRAINT url_has_host CHECK ((url_sealed IS NULL) = (host IS NULL) AND (url_sealed IS NULL) = (port IS NULL)),
    CONSTRAINT secret_has_time CHECK ((secret_sealed IS NULL) = (secret_set_at IS NULL)),
    CONSTRAINT headers_have_names CHECK ((headers_sealed IS NULL) = (cardinality(header_names) = 0))
);
-- For the triggers' look at it, once a lead: one page and no comparison, where the primary key's has a search on each level.
CREATE INDEX endpoints_tenant ON lead_webhook.endpoints USING hash (tenant_id);
COMMENT ON TABLE lead_webhook.endpoints IS 'Where each tenant''s leads are sent, one row a tenant. Written by `lead-webhook endpoint` and `lead-webhook secret`.';
COMMENT ON COLUMN lead_webhook.endpoints.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.endpoints.enabled IS 'Off: leads are logged as skipped / disabled, everything else is kept.';
COMMENT ON COLUMN lead_webhook.endpoints.url_sealed IS 'The whole URL, AES-256-GCM sealed by the key file: its path and query are credentials.';
COMMENT ON COLUMN lead_webhook.endpoints.host IS 'The URL''s host, in clear.';
COMMENT ON COLUMN lead_webhook.endpoints.port IS 'The URL''s port, in clear.';
COMMENT ON COLUMN lead_webhook.endpoints.secret_sealed IS 'The signing secret, sealed. There is no way to read it back.';
COMMENT ON COLUMN lead_webhook.endpoints.headers_sealed IS 'The custom headers with their values, sealed.';
COMMENT ON COLUMN lead_webhook.endpoints.header_names IS 'The custom headers'' names, in the order they are sent.';
COMMENT ON COLUMN lead_webhook.endpoints.template IS 'The body''s JSON template; NULL: the default body.';
COMMENT ON COLUMN lead_webhook.endpoints.omit_empty IS 'Leave out members and elements whose placeholders all came out empty.';
COMMENT ON COLUMN lead_webhook.endpoints.timeout_ms IS 'Milliseconds for a whole attempt; NULL: delivery.timeout of the configuration.';
COMMENT ON COLUMN lead_webhook.endpoints.created_at IS 'When the endpoint was made.';
COMMENT ON COLUMN lead_webhook.endpoints.updated_at IS 'When anything of it last changed.';
COMMENT ON COLUMN lead_webhook.endpoints.secret_set_at IS 'When the present secret was generated.';
COMMENT ON COLUMN lead_webhook.endpoints.takes_part IS 'Has a URL and a secret: only then are its tenant''s leads queued.';

CREATE TABLE lead_webhook.endpoint_switches (
    tenant_id   text COLLATE "C" NOT NULL,
    switched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    is_on       boolean     NOT NULL,
    PRIMARY KEY (tenant_id, switched_at)
);
COMMENT ON TABLE lead_webhook.endpoint_switches IS 'Every change of whether an endpoint takes leads (URL and secret present, and enabled): tells what held when a lead was captured.';
COMMENT ON COLUMN lead_webhook.endpoint_switches.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.endpoint_switches.switched_at IS 'When, on the server''s clock.';
COMMENT ON COLUMN lead_webhook.endpoint_switches.is_on IS 'Whether the endpoint takes leads from then on.';

-- A trigger on our own table keeps the history whichever way the endpoint is changed, by hand in SQL included.
CREATE FUNCTION lead_webhook.note_endpoint_switch() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    was_on boolean := TG_OP <> 'INSERT' AND OLD.enabled AND OLD.url_sealed IS NOT NULL AND OLD.secret_sealed IS NOT NULL;
    is_on  boolean := TG_OP <> 'DELETE' AND NEW.enabled AND NEW.url_sealed IS NOT NULL AND NEW.secret_sealed IS NOT NULL;
BEGIN
    IF is_on <> was_on THEN
        INSERT INTO lead_webhook.endpoint_switches (tenant_id, is_on)
        VALUES (CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END, is_on);
    END IF;
    RETURN NULL;
END $f$;
REVOKE ALL ON FUNCTION lead_webhook.note_endpoint_switch() FROM PUBLIC;
COMMENT ON FUNCTION lead_webhook.note_endpoint_switch() IS 'Writes lead_webhook.endpoint_switches.';
CREATE TRIGGER note_endpoint_switch AFTER INSERT OR UPDATE OR DELETE ON lead_webhook.endpoints
    FOR EACH ROW EXECUTE FUNCTION lead_webhook.note_endpoint_switch();

-- No CHECKs: each is set up anew in every statement of the application's that writes here, 5 to 8 us apiece, which is
-- as much as the row itself. The trigger and the claim are the only writers.
CREATE TABLE lead_webhook.outbox (
    tenant_id                text COLLATE "C" NOT NULL,
    queued_at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    event_id                 uuid        NOT NULL DEFAULT gen_random_uuid(),
    lead_id                  varchar(512) NOT NULL,
    kind                     text        NOT NULL,
    previous_conversation_at timestamptz,
    conversation_at          timestamptz,
    was_enabled              boolean     NOT NULL,
    transaction_id           xid8        NOT NULL DEFAULT pg_current_xact_id(),
    event                    text,
    last_conversation_at     timestamptz,
    claimed_by               uuid,
    claimed_at               timestamptz,
    delivery_id              uuid,
    PRIMARY KEY (tenant_id, queued_at, event_id)
)
-- Room for the claim's update beside every row, which makes it more than half as long again: it then touches no index.
WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE lead_webhook.outbox IS 'What is pending or in flight: one row an event, written in the application''s own transaction, deleted in the statement that writes its log row. Ids and times only.';
COMMENT ON COLUMN lead_webhook.outbox.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.outbox.queued_at IS 'The server''s clock when the trigger ran.';
COMMENT ON COLUMN lead_webhook.outbox.event_id IS 'The event; the same in the log, in webhook-id and in a redelivery.';
COMMENT ON COLUMN lead_webhook.outbox.lead_id IS 'The lead, as text.';
COMMENT ON COLUMN lead_webhook.outbox.kind IS 'What the trigger saw: inserted (a row with a contact), contact_added (an update from no contact to some), came_back (the last conversation moved on by the silence or more), recovered (found by the sweep).';
COMMENT ON COLUMN lead_webhook.outbox.previous_conversation_at IS 'came_back only: the last conversation before the update, or the captured time where there was none.';
COMMENT ON COLUMN lead_webhook.outbox.conversation_at IS 'came_back only: the last conversation after the update.';
COMMENT ON COLUMN lead_webhook.outbox.was_enabled IS 'Whether the endpoint was on when the lead was captured.';
COMMENT ON COLUMN lead_webhook.outbox.transaction_id IS 'The application''s transaction: created and re-engaged in one fire only created.';
COMMENT ON COLUMN lead_webhook.outbox.event IS 'What the claim decided, lead.created or lead.re_engaged; decided once, also when the event goes back to the queue.';
COMMENT ON COLUMN lead_webhook.outbox.last_conversation_at IS 'With lead.re_engaged: the last conversation before the silence.';
COMMENT ON COLUMN lead_webhook.outbox.claimed_by IS 'The daemon instance whose attempt it is; NULL: pending. Set and cleared together with claimed_at and delivery_id.';
COMMENT ON COLUMN lead_webhook.outbox.claimed_at IS 'When it was claimed.';
COMMENT ON COLUMN lead_webhook.outbox.delivery_id IS 'The delivery that the claim is for.';

CREATE TABLE lead_webhook.uniqueness (
    key             bytea       NOT NULL PRIMARY KEY CHECK (octet_length(key) = 32),
    tenant_id       text COLLATE "C" NOT NULL,
    lead_id         text COLLATE "C" NOT NULL,
    seen_at         timestamptz NOT NULL,
    came_back_at    timestamptz,
    event_id        uuid,
    transaction_id  xid8
);
CREATE INDEX uniqueness_lead ON lead_webhook.uniqueness (lead_id, tenant_id);
COMMENT ON TABLE lead_webhook.uniqueness IS 'Once per unique visitor per contact: one row for each tenant, visitor and contact that was ever seen. Not pruned with the log.';
COMMENT ON COLUMN lead_webhook.uniqueness.key IS 'HMAC-SHA256 of tenant, visitor and contact under the installation''s own key; nothing personal can be read from it.';
COMMENT ON COLUMN lead_webhook.uniqueness.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.uniqueness.lead_id IS 'The newest lead with this key, as text.';
COMMENT ON COLUMN lead_webhook.uniqueness.seen_at IS 'When the latest event with this key was queued, fired or not; after `seed` the later of the lead''s times.';
COMMENT ON COLUMN lead_webhook.uniqueness.came_back_at IS 'The last-conversation time that the latest re-engagement by an update was fired for: several updates in one come-back fire once.';
COMMENT ON COLUMN lead_webhook.uniqueness.event_id IS 'The latest event with this key that was fired; NULL after `seed`.';
COMMENT ON COLUMN lead_webhook.uniqueness.transaction_id IS 'The application''s transaction of that event.';

CREATE TABLE lead_webhook.muted (
    lead_id   text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    muted_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (lead_id, tenant_id)
);
COMMENT ON TABLE lead_webhook.muted IS 'Leads written by a session with SET lead_webhook.mute = ''on'': nothing is sent for them, and nothing is missing.';
COMMENT ON COLUMN lead_webhook.muted.lead_id IS 'The lead, as text.';
COMMENT ON COLUMN lead_webhook.muted.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.muted.muted_at IS 'When.';

CREATE TABLE lead_webhook.instances (
    instance_id uuid        NOT NULL PRIMARY KEY,
    host        text        NOT NULL,
    process_id  integer     NOT NULL,
    version     text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    key_ids     text[]      NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE lead_webhook.instances IS 'The daemons that run, one row each: a heartbeat. One that has not renewed for 30 s is dead, and its claims are logged as interrupted.';
COMMENT ON COLUMN lead_webhook.instances.instance_id IS 'New at every start.';
COMMENT ON COLUMN lead_webhook.instances.host IS 'The host''s name.';
COMMENT ON COLUMN lead_webhook.instances.process_id IS 'The process on that host.';
COMMENT ON COLUMN lead_webhook.instances.version IS 'The program''s version.';
COMMENT ON COLUMN lead_webhook.instances.started_at IS 'When it first wrote this row.';
COMMENT ON COLUMN lead_webhook.instances.renewed_at IS 'The latest heartbeat, on the server''s clock.';
COMMENT ON COLUMN lead_webhook.instances.key_ids IS 'The ids of the keys that it could open by at the latest heartbeat: `key rotate` seals by none that a daemon lacks.';

-- Few CHECKs, each of what belongs together: one an idea would be a tenth of what the server does for a row.
CREATE TABLE lead_webhook.deliveries (
    delivery_id           uuid        NOT NULL PRIMARY KEY,
    event_id              uuid        NOT NULL,
    tenant_id             text COLLATE "C" NOT NULL,
    lead_id               text COLLATE "C" NOT NULL,
    event                 text        NOT NULL,
    status                text        NOT NULL,
    failure               text,
    reason                text,
    http_status           smallint,
    error                 text,
    response_content_type text,
    response_length       bigint,
    response_error_code   text,
    response_excerpt      text,
    host                  text,
    port                  integer,
    address               inet,
    captured_at           timestamptz,
    queued_at             timestamptz NOT NULL,
    sent_at               timestamptz,
    finished_at           timestamptz NOT NULL,
    dns_us                integer,
    connect_us            integer,
    first_byte_us         integer,
    total_us              integer,
    is_test               boolean     NOT NULL DEFAULT false,
    redelivery_of         uuid,
    instance_id           uuid,
    last_conversation_at  timestamptz,
    -- IS TRUE, because a CHECK lets NULL pass.
    CONSTRAINT status_is_explained CHECK (CASE status
        -- 302 is how a Google Apps Script answers after it ran.
        WHEN 'delivered' THEN failure IS NULL AND reason IS NULL
            AND (http_status BETWEEN 200 AND 299 OR http_status = 302 AND host = 'script.google.com')
        WHEN 'failed' THEN reason IS NULL AND CASE
            WHEN failure = 'http_status' THEN http_status NOT BETWEEN 200 AND 399
            WHEN failure = 'redirect' THEN http_status BETWEEN 300 AND 399
            WHEN failure IN ('template', 'secret', 'headers', 'lead') THEN sent_at IS NULL
            ELSE failure IN ('timeout', 'dns', 'connect', 'tls', 'protocol', 'blocked') END
        WHEN 'interrupted' THEN failure IS NULL AND reason IS NULL
        WHEN 'skipped' THEN failure IS NULL AND sent_at IS NULL
            AND reason IN ('disabled', 'no_endpoint', 'duplicate', 'expired', 'gone', 'discarded')
        END IS TRUE),
    CONSTRAINT attempt_is_whole CHECK (CASE WHEN sent_at IS NULL
        THEN http_status IS NULL AND num_nonnulls(dns_us, connect_us, first_byte_us, total_us) = 0
        ELSE host IS NOT NULL AND total_us IS NOT NULL AND finished_at >= sent_at END),
    CONSTRAINT answer_is_whole CHECK (CASE WHEN http_status IS NULL
        THEN num_nonnulls(response_content_type, response_length, response_error_code, response_excerpt) = 0
        ELSE http_status BETWEEN 100 AND 999 END),
    CONSTRAINT destination_is_whole CHECK ((host IS NULL) = (port IS NULL) AND port BETWEEN 1 AND 65535),
    CONSTRAINT no_number_is_negative CHECK (least(dns_us, connect_us, first_byte_us, total_us, response_length) >= 0),
    CONSTRAINT texts_are_short CHECK (octet_length(error) <= 1024 AND octet_length(response_content_type) <= 100
        AND octet_length(response_error_code) <= 64 AND octet_length(response_excerpt) <= 1024),
    CONSTRAINT a_redelivery_is_of_another_and_no_test CHECK (redelivery_of IS NULL OR redelivery_of <> delivery_id AND NOT is_test),
    CONSTRAINT only_who_came_back_talked_before CHECK (event = 'lead.re_engaged'
        OR event = 'lead.created' AND last_conversation_at IS NULL)
);
-- One log row an event, ever: the last guard behind the claim. An event keeps its queued_at, whoever logs it. Event ids are
-- chance: without the day before them each row would touch a page of its own once the log is long, which is written whole
-- after each checkpoint.
CREATE UNIQUE INDEX deliveries_event ON lead_webhook.deliveries (date_bin('1 day', queued_at, '2000-01-01Z'), event_id)
    WHERE redelivery_of IS NULL;
-- Few: what was sent again.
CREATE INDEX deliveries_again ON lead_webhook.deliveries (event_id) WHERE redelivery_of IS NOT NULL;
CREATE INDEX deliveries_finished ON lead_webhook.deliveries (finished_at, delivery_id);
CREATE INDEX deliveries_tenant ON lead_webhook.deliveries (tenant_id, finished_at, delivery_id);
CREATE INDEX deliveries_lead ON lead_webhook.deliveries (lead_id, tenant_id);
-- How often a tenant was tested just now.
CREATE INDEX deliveries_tests ON lead_webhook.deliveries (tenant_id, queued_at) WHERE is_test;
COMMENT ON TABLE lead_webhook.deliveries IS 'The log: one row an event, written once, when its outcome is known. Only `interrupted` may still be replaced, by whoever made the attempt. Holds no email, phone, name, body, secret, header value or URL path.';
COMMENT ON COLUMN lead_webhook.deliveries.delivery_id IS 'The delivery, X-Wilow-Delivery-Id: new for every send.';
COMMENT ON COLUMN lead_webhook.deliveries.event_id IS 'The event, webhook-id: the same in a redelivery.';
COMMENT ON COLUMN lead_webhook.deliveries.tenant_id IS 'The tenant, as text.';
COMMENT ON COLUMN lead_webhook.deliveries.lead_id IS 'The lead, as text; test_ and more for a test.';
COMMENT ON COLUMN lead_webhook.deliveries.event IS 'lead.created or lead.re_engaged.';
COMMENT ON COLUMN lead_webhook.deliveries.status IS 'delivered: 2xx. failed: one attempt, or none possible; see failure. interrupted: the daemon died in between, it may have arrived; a test stands so until its outcome is known. skipped: not attempted; see reason.';
COMMENT ON COLUMN lead_webhook.deliveries.failure IS 'With failed. http_status: neither 2xx nor a redirect. redirect: 3xx, never followed. timeout, dns, connect, tls, protocol: how far it came. blocked: the egress policy forbids the destination. template, secret, headers: what the tenant saved could not be used. lead: the lead''s values could not be read.';
COMMENT ON COLUMN lead_webhook.deliveries.reason IS 'With skipped. disabled: the endpoint was off. no_endpoint: removed in between. duplicate: the same visitor and contact within the silence. expired: older than max_age. gone: the lead was deleted, or had no contact any more. discarded: the queue of a copied database.';
COMMENT ON COLUMN lead_webhook.deliveries.http_status IS 'The receiver''s status code; NULL: no answer.';
COMMENT ON COLUMN lead_webhook.deliveries.error IS 'What went wrong, in words; nothing secret or personal.';
COMMENT ON COLUMN lead_webhook.deliveries.response_content_type IS 'The answer''s Content-Type.';
COMMENT ON COLUMN lead_webhook.deliveries.response_length IS 'The answer''s length in bytes, as announced, else as far as it was read.';
COMMENT ON COLUMN lead_webhook.deliveries.response_error_code IS 'The error code word of a known destination.';
COMMENT ON COLUMN lead_webhook.deliveries.response_excerpt IS 'The beginning of a non-2xx answer with every sent value blanked out; only with log.response_excerpt.';
COMMENT ON COLUMN lead_webhook.deliveries.host IS 'The destination''s host; never its path or query.';
COMMENT ON COLUMN lead_webhook.deliveries.port IS 'The destination''s port.';
COMMENT ON COLUMN lead_webhook.deliveries.address IS 'The address that was connected to, or refused.';
COMMENT ON COLUMN lead_webhook.deliveries.captured_at IS 'When the lead was first captured, as the lead says.';
COMMENT ON COLUMN lead_webhook.deliveries.queued_at IS 'When the event was queued; for a test, when it was asked for. The server''s clock.';
COMMENT ON COLUMN lead_webhook.deliveries.sent_at IS 'When the attempt began; NULL: there was none. The server''s clock, to within 5 s.';
COMMENT ON COLUMN lead_webhook.deliveries.finished_at IS 'When the outcome was known. The server''s clock, to within 5 s.';
COMMENT ON COLUMN lead_webhook.deliveries.dns_us IS 'Microseconds to resolve the name; NULL on a kept connection.';
COMMENT ON COLUMN lead_webhook.deliveries.connect_us IS 'Microseconds to connect, the TLS handshake included; NULL on a kept connection.';
COMMENT ON COLUMN lead_webhook.deliveries.first_byte_us IS 'Microseconds from the start of the attempt to the answer''s header.';
COMMENT ON COLUMN lead_webhook.deliveries.total_us IS 'Microseconds of the whole attempt.';
COMMENT ON COLUMN lead_webhook.deliveries.is_test IS 'Fired by `lead-webhook test`, with a synthetic lead.';
COMMENT ON COLUMN lead_webhook.deliveries.redelivery_of IS 'The first delivery of the same event, where this is an explicit second send.';
COMMENT ON COLUMN lead_webhook.deliveries.last_conversation_at IS 'With lead.re_engaged: the last conversation before the silence, for a redelivery; NULL where nothing was to be sent.';
COMMENT ON COLUMN lead_webhook.deliveries.instance_id IS 'The daemon instance; NULL where no daemon did it.';

CREATE TABLE lead_webhook.log_edge (
    only_one boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (only_one),
    edge     timestamptz NOT NULL
);
COMMENT ON TABLE lead_webhook.log_edge IS 'Where the log begins: rows that finished before may have been pruned. One row, once anything may have been.';
COMMENT ON COLUMN lead_webhook.log_edge.only_one IS 'Always true: allows one row.';
COMMENT ON COLUMN lead_webhook.log_edge.edge IS 'Leads captured before are not reconciled. It only moves on.';

-- The mark of a failing trigger: advanced without a lock, and a roll-back does not take it back.
CREATE SEQUENCE lead_webhook.missed;
COMMENT ON SEQUENCE lead_webhook.missed IS 'Moves on whenever a trigger could not queue an event.';

CREATE TABLE lead_webhook.swept (
    only_one boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (only_one),
    missed   bigint      NOT NULL,
    swept_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE lead_webhook.swept IS 'How far the sweep has followed the mark of failing triggers. One row, once a daemon has swept.';
COMMENT ON COLUMN lead_webhook.swept.only_one IS 'Always true: allows one row.';
COMMENT ON COLUMN lead_webhook.swept.missed IS 'How often triggers had failed when leads were last looked for that they had missed, and none could come after that.';
COMMENT ON COLUMN lead_webhook.swept.swept_at IS 'When that had been done for so many for the first time.';

-- The doorbell. A sequence, because it is read without a lock and moved on without waiting for anybody, and because a
-- roll-back does not take that back. Nobody listens before a daemon has armed it, so it begins silent.
CREATE SEQUENCE lead_webhook.bell;
COMMENT ON SEQUENCE lead_webhook.bell IS 'How often the triggers have rung since a daemon armed it. They notify while it is below a limit; a daemon that looks anyway keeps it at the limit.';
SELECT setval('lead_webhook.bell', 1000000);
