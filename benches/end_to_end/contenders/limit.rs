//! The limit: the daemon's HTTP client alone, on one thread, with no database behind it.
//!
//! It makes each request as the daemon does, with the same library and allocator, and asks nobody what to send. One client
//! for all of them, as the library is usually used; the daemon has one for each attempt at a time, so that it opens no more
//! connections than it has attempts.

use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use lead_webhook::{
    delivery::{
        headers::CustomHeaders,
        request::{Endpoint, Identity, Request},
    },
    egress::{Lists, Policy},
    event::{Event, EventKind},
    secret::SigningSecret,
};
use reqwest::{Client, redirect, retry};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{child::Child, stand::Stand, usage};

/// Requests in flight.
const IN_FLIGHT: u64 = 64;

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// CPU seconds.
    pub(crate) cpu: f64,
    /// MiB.
    pub(crate) peak_memory: f64,
}

/// Sends so many requests from a process of its own.
pub(crate) fn measure(stand: &Stand, requests: u64) -> Limit {
    let (url, ca_file) = (stand.receiver.url(), stand.receiver.ca_file().display().to_string());
    let requests = requests.to_string();
    let mut child = Child::in_role(&["limit", "--url", &url, "--ca-file", &ca_file, "--requests", &requests]);
    serde_json::from_str(&child.line()).unwrap()
}

/// That process.
pub(crate) async fn run(url: &str, ca_file: &Path, requests: u64) -> io::Result<()> {
    let client = client(ca_file);
    let endpoint = Arc::new(endpoint(url));
    let before = usage::cpu(std::process::id());
    let mut senders: JoinSet<()> =
        (0..IN_FLIGHT).map(|_| send(client.clone(), Arc::clone(&endpoint), requests / IN_FLIGHT)).collect();
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    let this = std::process::id();
    let limit = Limit { cpu: usage::cpu(this) - before, peak_memory: usage::peak_memory(this) };
    writeln!(io::stdout(), "{}", serde_json::to_string(&limit).unwrap())
}

async fn send(client: Client, endpoint: Arc<Endpoint>, requests: u64) {
    let identity = Identity { header_prefix: "X-Wilow".to_owned(), user_agent: "Wilow-Webhook/1.0".to_owned() };
    for number in 0..requests {
        let now = Timestamp::now();
        let prepared = Request::prepare(&endpoint, &identity, &event(number, now), Uuid::new_v4(), now).unwrap();
        let mut request = client.post(prepared.url.url().clone()).body(prepared.body.clone());
        for (name, value) in &prepared.headers {
            request = request.header(name, value.expose());
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success());
        answer.bytes().await.unwrap();
    }
}

/// The daemon's settings, but for its resolver, which vets addresses, and what bounds its connections.
#[expect(clippy::disallowed_methods, reason = "the library alone is what is measured")]
pub(super) fn client(ca_file: &Path) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_file_iter(ca_file).unwrap().map(Result::unwrap));
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .http1_title_case_headers()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .tcp_nodelay(true)
        .timeout(Duration::from_secs(15))
        .build()
        .unwrap()
}

fn endpoint(url: &str) -> Endpoint {
    let lists = Lists { allow_hosts: vec!["localhost".to_owned()], ..Lists::default() };
    Endpoint {
        url: Policy::new(lists).vet_url(url).unwrap(),
        secret: SigningSecret::generate().unwrap(),
        headers: CustomHeaders::default(),
        template: None,
        omit_empty: false,
        timeout: Duration::from_secs(15),
    }
}

fn event(number: u64, now: Timestamp) -> Event {
    Event {
        event_id: Uuid::new_v4(),
        kind: EventKind::Created,
        tenant_id: "t-000042".into(),
        lead_id: number.to_string(),
        email: Some(format!("lead{number}@example.com")),
        phone: Some("+491234567890".into()),
        first_name: Some("Ann".into()),
        conversation_id: Some("c-000000000042".into()),
        captured_at: now,
        last_conversation_at: None,
    }
}
