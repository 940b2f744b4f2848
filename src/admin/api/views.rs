//! What is shown: an endpoint without its credentials, a delivery without what a tenant could look around with.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::words::{EventWord, FailureWord, ReasonWord, StatusWord};
use crate::{
    control::{
        endpoint::{Lack, lacks, masked_url, timeout},
        meaning::meaning,
    },
    delivery::headers::MASK,
    outcome::Failure,
    store::{delivery_list::Delivery, endpoints::EndpointRow},
};

/// A tenant's endpoint. Credentials are masked: a URL ends after its port, of headers only the names are told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(in crate::admin) struct EndpointView {
    pub(in crate::admin) tenant_id: String,
    /// On or off.
    pub(in crate::admin) enabled: bool,
    /// Whether its tenant's leads are sent.
    pub(in crate::admin) takes_leads: bool,
    /// What keeps it from taking leads: `off`, `url` or `secret` (it has none).
    pub(in crate::admin) lacks: Vec<&'static str>,
    /// Masked after the port.
    #[schema(example = "https://hooks.example.com:443/…")]
    pub(in crate::admin) url: Option<String>,
    pub(in crate::admin) host: Option<String>,
    pub(in crate::admin) port: Option<i32>,
    /// Names, each with a mask.
    pub(in crate::admin) headers: BTreeMap<String, &'static str>,
    /// The body's JSON, as text; null: the default body.
    pub(in crate::admin) template: Option<String>,
    /// Whether members are left out whose placeholders all came out empty.
    pub(in crate::admin) omit_empty: bool,
    /// For a whole attempt.
    pub(in crate::admin) timeout_ms: u64,
    /// Whether the limit is the endpoint's own, not that of the configuration.
    pub(in crate::admin) timeout_is_own: bool,
    /// When the present secret was generated.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(in crate::admin) secret_set_at: Option<String>,
    #[schema(format = DateTime)]
    pub(in crate::admin) created_at: String,
    #[schema(format = DateTime)]
    pub(in crate::admin) updated_at: String,
}

impl EndpointView {
    /// Of `row`, with the configuration's limit of time.
    pub(in crate::admin) fn of(row: &EndpointRow, default_timeout: Duration) -> Self {
        let EndpointRow { tenant_id, sealed, header_names, created_at, updated_at, secret_set_at } = row;
        let lacks = lacks(sealed);
        let word = |lack: &Lack| match lack {
            Lack::Off => "off",
            Lack::Url => "url",
            Lack::Secret => "secret",
        };
        Self {
            tenant_id: tenant_id.clone(),
            enabled: sealed.enabled,
            takes_leads: lacks.is_empty(),
            lacks: lacks.iter().map(word).collect(),
            url: masked_url(sealed),
            host: sealed.host.clone(),
            port: sealed.port,
            headers: header_names.iter().map(|name| (name.clone(), MASK)).collect(),
            template: sealed.template.clone(),
            omit_empty: sealed.omit_empty,
            timeout_ms: milliseconds(timeout(sealed, default_timeout)),
            timeout_is_own: sealed.timeout_ms.is_some(),
            secret_set_at: secret_set_at.map(|time| time.to_string()),
            created_at: created_at.to_string(),
            updated_at: updated_at.to_string(),
        }
    }
}

/// Whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A delivery, as the log has it. What a tenant is not told is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(in crate::admin) struct DeliveryView {
    #[schema(format = Uuid)]
    pub(in crate::admin) delivery_id: String,
    /// The same in `webhook-id` and in a redelivery.
    #[schema(format = Uuid)]
    pub(in crate::admin) event_id: String,
    pub(in crate::admin) tenant_id: String,
    pub(in crate::admin) lead_id: String,
    #[schema(value_type = EventWord)]
    pub(in crate::admin) event: String,
    #[schema(value_type = StatusWord)]
    pub(in crate::admin) status: String,
    /// A tenant is told `connect` for all that went wrong before an HTTP status.
    #[schema(value_type = Option<FailureWord>)]
    pub(in crate::admin) failure: Option<String>,
    #[schema(value_type = Option<ReasonWord>)]
    pub(in crate::admin) reason: Option<String>,
    pub(in crate::admin) http_status: Option<i16>,
    pub(in crate::admin) error: Option<String>,
    pub(in crate::admin) response_content_type: Option<String>,
    pub(in crate::admin) response_length: Option<i64>,
    pub(in crate::admin) response_error_code: Option<String>,
    pub(in crate::admin) response_excerpt: Option<String>,
    pub(in crate::admin) host: Option<String>,
    pub(in crate::admin) port: Option<i32>,
    /// Where the host led to; for the operator.
    pub(in crate::admin) address: Option<String>,
    #[schema(format = DateTime)]
    pub(in crate::admin) captured_at: Option<String>,
    #[schema(format = DateTime)]
    pub(in crate::admin) queued_at: String,
    #[schema(format = DateTime)]
    pub(in crate::admin) sent_at: Option<String>,
    #[schema(format = DateTime)]
    pub(in crate::admin) finished_at: String,
    /// Microseconds.
    pub(in crate::admin) dns_us: Option<i32>,
    /// Microseconds, the TLS handshake included.
    pub(in crate::admin) connect_us: Option<i32>,
    /// Microseconds from the beginning to the answer's first byte.
    pub(in crate::admin) first_byte_us: Option<i32>,
    /// Microseconds of the whole attempt.
    pub(in crate::admin) total_us: Option<i32>,
    pub(in crate::admin) is_test: bool,
    /// The first delivery of this event, where this is another.
    #[schema(format = Uuid)]
    pub(in crate::admin) redelivery_of: Option<String>,
    #[schema(format = DateTime)]
    pub(in crate::admin) last_conversation_at: Option<String>,
    /// What its status, failure or reason means; to a tenant no more than it is told otherwise.
    #[serde(skip)]
    pub(in crate::admin) meaning: Option<&'static str>,
}

/// What a tenant is told of everything that goes wrong before an HTTP status: else Test would be a port scanner.
const COULD_NOT_CONNECT: &str = "could not connect";

/// What a tenant is told where what is stored cannot be used: why is the operator's.
pub(super) const UNUSABLE: &str = "what is stored of the endpoint cannot be opened: ask the operator";

/// What that means: the same whatever it was.
const NO_ANSWER: &str = "No answer came: it may have arrived all the same. See whether the host's name and port are right, its \
                         certificate is valid for that name and comes with its intermediate, and it answers within the time \
                         limit; the operator sees which of these it was.";

/// What it means that something stored is [`UNUSABLE`].
const CANNOT_BE_OPENED: &str = "Nothing was sent: what is stored of the endpoint cannot be opened. Ask the operator, who sees \
                                which part that is, before you set anything anew: another secret would have to be given to \
                                the receiver too.";

/// The failures that would tell of a network: where a name leads, what listens there, and what not.
pub(super) const OF_A_NETWORK: [Failure; 6] =
    [Failure::Timeout, Failure::Dns, Failure::Connect, Failure::Tls, Failure::Protocol, Failure::Blocked];

/// The second in which a time lies.
pub(super) fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The same, or the next one where the time lies within it: what is asked for until then has the whole of it.
pub(super) fn up_to_the_second(time: Timestamp) -> Timestamp {
    let begun = whole_second(time);
    if begun == time { time } else { begun.saturating_add(SignedDuration::from_secs(1)).unwrap_or(time) }
}

impl DeliveryView {
    /// Of `delivery`, for the operator or for its tenant.
    pub(super) fn of(delivery: Delivery, is_operator: bool) -> Self {
        let finished_at = whole_second(delivery.finished_at);
        let mut shown = Self::whole(delivery);
        if !is_operator {
            shown.address = None;
            if [Failure::Secret, Failure::Headers]
                .iter()
                .any(|sealed| shown.failure.as_deref() == Some(sealed.as_str()))
            {
                shown.meaning = Some(CANNOT_BE_OPENED);
                shown.error = Some(UNUSABLE.to_owned());
            }
            let is_of_a_network = |word: &str| OF_A_NETWORK.iter().any(|failure| failure.as_str() == word);
            if shown.http_status.is_none() && shown.failure.as_deref().is_some_and(is_of_a_network) {
                shown.meaning = Some(NO_ANSWER);
                shown.failure = Some(Failure::Connect.as_str().to_owned());
                shown.error = Some(COULD_NOT_CONNECT.to_owned());
                // Nor how long it took, nor whether it got so far as to be sent.
                shown.sent_at = None;
                shown.finished_at = finished_at.to_string();
                (shown.dns_us, shown.connect_us, shown.first_byte_us, shown.total_us) = (None, None, None, None);
            }
        }
        shown
    }

    fn whole(delivery: Delivery) -> Self {
        let time = |time: Timestamp| time.to_string();
        let meaning = meaning(&delivery, Timestamp::now());
        Self {
            delivery_id: delivery.delivery_id.to_string(),
            event_id: delivery.event_id.to_string(),
            tenant_id: delivery.tenant_id,
            lead_id: delivery.lead_id,
            event: delivery.event,
            status: delivery.status,
            failure: delivery.failure,
            reason: delivery.reason,
            http_status: delivery.http_status,
            error: delivery.error,
            response_content_type: delivery.response_content_type,
            response_length: delivery.response_length,
            response_error_code: delivery.response_error_code,
            response_excerpt: delivery.response_excerpt,
            host: delivery.host,
            port: delivery.port,
            address: delivery.address.map(|address| address.to_string()),
            captured_at: delivery.captured_at.map(time),
            queued_at: time(delivery.queued_at),
            sent_at: delivery.sent_at.map(time),
            finished_at: time(delivery.finished_at),
            dns_us: delivery.dns_us,
            connect_us: delivery.connect_us,
            first_byte_us: delivery.first_byte_us,
            total_us: delivery.total_us,
            is_test: delivery.is_test,
            redelivery_of: delivery.redelivery_of.map(|id| id.to_string()),
            last_conversation_at: delivery.last_conversation_at.map(time),
            meaning,
        }
    }
}
