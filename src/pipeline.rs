//! One event from step 5 to step 8: open what was sealed, prepare the request, guard the destination, send once.
//!
//! Whatever goes wrong here is an outcome: a tenant's configuration that cannot be used fails that tenant's deliveries
//! and nothing else.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    config::Config,
    delivery::{
        client::Client,
        headers::CustomHeaders,
        request::{Endpoint, Identity, Request},
        template::Template,
        tls::ClientError,
    },
    egress::{EndpointUrl, Policy, Resolver},
    event::Event,
    keyring::{Column, KeyRing, OpenError, Place},
    outcome::{Failure, Outcome, Status},
    secret::{Secret, SigningSecret},
    shortage::Shortage,
    store::endpoints::SealedEndpoint,
};

/// Everything that turns events into outcomes. A reload makes a new one.
pub struct Pipeline {
    keyring: KeyRing,
    resolver: Resolver,
    client: Client,
    identity: Identity,
    timeout: Duration,
}

/// Why an endpoint cannot be used: what its deliveries fail with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Which part.
    pub failure: Failure,
    /// In words, without anything secret.
    pub error: String,
}

impl Pipeline {
    /// A pipeline as `config` says, with the system's resolver.
    ///
    /// # Errors
    /// [`ClientError`]; the operator must act.
    pub fn new(config: &Config, keyring: KeyRing) -> Result<Self, ClientError> {
        let resolver = Resolver::system(Policy::new(config.egress.lists.clone()));
        let client = Client::new(
            resolver.clone(),
            config.egress.ca_file.as_deref(),
            config.delivery.connect_timeout,
            config.log.response_excerpt,
        )?;
        Ok(Self {
            keyring,
            resolver,
            client,
            identity: Identity {
                header_prefix: config.delivery.header_prefix.clone(),
                user_agent: config.delivery.user_agent.clone(),
            },
            timeout: config.delivery.timeout,
        })
    }

    /// The key ring.
    pub fn keyring(&self) -> &KeyRing {
        &self.keyring
    }

    /// The egress policy's resolver.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// `delivery.timeout`: of an attempt, where the endpoint has no limit of its own.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The prefix of our own headers, which no custom header may have.
    pub fn header_prefix(&self) -> &str {
        &self.identity.header_prefix
    }

    /// Step 5: opens what the tenant saved, and holds it to the egress policy again.
    ///
    /// # Errors
    /// [`Unusable`]: the tenant's deliveries fail with it.
    pub fn open(&self, tenant_id: &str, sealed: &SealedEndpoint) -> Result<Endpoint, Unusable> {
        let url = self.open_url(tenant_id, sealed)?;
        let secret = self.open_secret(tenant_id, sealed)?;
        let headers = self.open_headers(tenant_id, sealed)?;
        let template = sealed.template.as_deref().map(Template::parse).transpose().map_err(|faults| {
            let error = faults.first().map(ToString::to_string).unwrap_or_default();
            Unusable { failure: Failure::Template, error }
        })?;
        let timeout =
            sealed.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map_or(self.timeout, Duration::from_millis);
        Ok(Endpoint { url, secret, headers, template, omit_empty: sealed.omit_empty, timeout })
    }

    fn open_url(&self, tenant_id: &str, sealed: &SealedEndpoint) -> Result<EndpointUrl, Unusable> {
        let opened =
            self.unseal(tenant_id, (Column::EndpointUrl, "URL"), sealed.url_sealed.as_deref(), Failure::Secret)?;
        let raw = std::str::from_utf8(opened.expose())
            .map_err(|_| unusable(Failure::Secret, "the stored URL is no text: set the URL anew"))?;
        self.resolver
            .policy()
            .vet_url(raw)
            .map_err(|refused| Unusable { failure: Failure::Blocked, error: refused.to_string() })
    }

    fn open_secret(&self, tenant_id: &str, sealed: &SealedEndpoint) -> Result<SigningSecret, Unusable> {
        let opened = self.unseal(
            tenant_id,
            (Column::EndpointSecret, "secret"),
            sealed.secret_sealed.as_deref(),
            Failure::Secret,
        )?;
        std::str::from_utf8(opened.expose())
            .ok()
            .and_then(|text| SigningSecret::parse(text).ok())
            .ok_or_else(|| unusable(Failure::Secret, "the stored secret is not a signing secret: set the secret anew"))
    }

    /// The tenant's custom headers.
    ///
    /// # Errors
    /// [`Unusable`] where they cannot be opened or are no longer allowed.
    pub fn open_headers(&self, tenant_id: &str, sealed: &SealedEndpoint) -> Result<CustomHeaders, Unusable> {
        let Some(headers) = sealed.headers_sealed.as_deref() else { return Ok(CustomHeaders::default()) };
        let opened = self.unseal(tenant_id, (Column::EndpointHeaders, "headers"), Some(headers), Failure::Headers)?;
        CustomHeaders::from_json(opened.expose(), self.header_prefix())
            .map_err(|error| Unusable { failure: Failure::Headers, error: error.to_string() })
    }

    fn unseal(
        &self,
        tenant: &str,
        (column, part): (Column, &str),
        sealed: Option<&[u8]>,
        failure: Failure,
    ) -> Result<Secret<Vec<u8>>, Unusable> {
        let cannot_be_opened = |error: OpenError| {
            let error = format!("the stored {part} cannot be opened: {error}, or set the {part} anew");
            Unusable { failure, error }
        };
        let sealed = sealed.ok_or_else(|| unusable(failure, &format!("the {part} is not set")))?;
        self.keyring.open(&Place { tenant, column }, sealed).map_err(cannot_be_opened)
    }

    /// Steps 6 to 8: one attempt.
    ///
    /// # Errors
    /// [`Shortage`]: none could be made, and nothing was sent.
    pub async fn send(&self, endpoint: &Endpoint, event: &Event, delivery_id: Uuid) -> Result<Outcome, Shortage> {
        match Request::prepare(endpoint, &self.identity, event, delivery_id, Timestamp::now()) {
            Ok(request) => self.client.send(request, event).await,
            Err(too_long) => {
                let destination = Some(endpoint.url.destination());
                Ok(Outcome::unsent(Status::Failed(Failure::Template), Some(too_long.to_string()), destination))
            }
        }
    }

    /// The same for somebody who does not wait until it can be made.
    pub async fn send_now(&self, endpoint: &Endpoint, event: &Event, delivery_id: Uuid) -> Outcome {
        self.send(endpoint, event, delivery_id).await.unwrap_or_else(|shortage| {
            let destination = Some(endpoint.url.destination());
            Outcome::unsent(Status::Failed(Failure::Connect), Some(shortage.to_string()), destination)
        })
    }

    /// The outcome of a delivery whose endpoint cannot be used.
    pub fn refuse(sealed: &SealedEndpoint, unusable: &Unusable) -> Outcome {
        Outcome::unsent(Status::Failed(unusable.failure), Some(unusable.error.clone()), sealed.destination())
    }
}

fn unusable(failure: Failure, error: &str) -> Unusable {
    Unusable { failure, error: error.to_owned() }
}
