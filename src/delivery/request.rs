//! Step 6, prepare: an event and its tenant's endpoint become one request. Pure, but for the clock that is handed in.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    egress::EndpointUrl,
    event::Event,
    secret::{Secret, SigningSecret},
};

use super::{
    body::{self, TooLong},
    headers::CustomHeaders,
    signature,
    template::Template,
};

/// Everything of an endpoint that a request is made of, opened and checked.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where to.
    pub url: EndpointUrl,
    /// Signs the body.
    pub secret: SigningSecret,
    /// The tenant's own headers.
    pub headers: CustomHeaders,
    /// `None`: the default body.
    pub template: Option<Template>,
    /// Leave out what came out empty.
    pub omit_empty: bool,
    /// For the whole attempt.
    pub timeout: Duration,
}

/// The name under which requests are sent.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What our own headers begin with: `X-Wilow`.
    pub header_prefix: String,
    /// `User-Agent`.
    pub user_agent: String,
}

/// A request that is ready to be sent once.
#[derive(Clone)]
pub struct Request {
    /// Where to.
    pub url: EndpointUrl,
    /// Names and values, in the order they are sent.
    pub headers: Vec<(String, Secret<String>)>,
    /// The body, byte for byte as it was signed.
    pub body: Vec<u8>,
    /// What signed it. It is not sent, but a receiver has it too.
    pub secret: SigningSecret,
    /// For the whole attempt.
    pub timeout: Duration,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("url", &self.url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Request {
    /// The request for one delivery of `event`, sent at `now`.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn prepare(
        endpoint: &Endpoint,
        identity: &Identity,
        event: &Event,
        delivery_id: Uuid,
        now: Timestamp,
    ) -> Result<Self, TooLong> {
        let body = body::of(event, endpoint.template.as_ref(), endpoint.omit_empty)?;
        let webhook_id = event.event_id.to_string();
        let prefix = &identity.header_prefix;
        let own = [
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("User-Agent".to_owned(), identity.user_agent.clone()),
            (format!("{prefix}-Event"), event.kind.as_str().to_owned()),
            (format!("{prefix}-Delivery-Id"), delivery_id.to_string()),
            (format!("{prefix}-Signature"), signature::hex_signature(&endpoint.secret, &body)),
            ("webhook-id".to_owned(), webhook_id.clone()),
            ("webhook-timestamp".to_owned(), now.as_second().to_string()),
            (
                "webhook-signature".to_owned(),
                signature::standard_signature(&endpoint.secret, &webhook_id, now.as_second(), &body),
            ),
        ];
        let custom = endpoint.headers.iter().map(|(name, value)| (name.to_owned(), value.clone()));
        let headers = own.into_iter().map(|(name, value)| (name, value.into())).chain(custom).collect();
        let (url, secret) = (endpoint.url.clone(), endpoint.secret.clone());
        Ok(Self { url, headers, body, secret, timeout: endpoint.timeout })
    }
}
