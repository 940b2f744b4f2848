//! What one event costs where no network and no database is involved: steps 5 to 7 of its path, part by part.
//!
//! # How to run it
//! `cargo bench --bench parts` measures everything in a minute and a half; `cargo bench --bench parts -- sign` only what
//! has `sign` in its name. `perf record` on the built program (`--bench --profile-time 5 prepare`) shows where it goes;
//! `CARGO_PROFILE_BENCH_STRIP=none` keeps the names for that.
//!
//! # How to read it
//! The table comes first: the allocations of one call, counted, so the same on every run and every machine. `calls` is
//! how often the allocator was asked (a buffer that grows asks again), `bytes` what it was asked for in all, `peak` the
//! most bytes at one time. What a part makes counts to it and what it is given does not; all of it is dropped within
//! the call, as the daemon drops it after the send.
//!
//! Then criterion's time a call, dropping included: low, estimate, high of the 95 % interval; for what works on many
//! bytes the throughput as well; and from the second run on how it changed. The counting allocator is in the time, about
//! 10 ns for each of the `calls`: compare runs of this program with each other only, and take what it says of a part
//! with many `calls` for more than the daemon needs.
//!
//! # What is measured
//! - **render**: the default body, and templates: one as a CRM wants it, and the largest that may be saved.
//! - **sign**: each of the two signatures, over a usual body and over one of 64 KiB.
//! - **seal**, **open**: the key ring on what an endpoint consists of. Opening happens when an endpoint has changed.
//! - **read**: what opening goes on with: from opened bytes to values that a request can be made of.
//! - **egress**: the verdict on a URL, and on one resolved address.
//! - **prepare**: step 6 as a whole: body, headers, both signatures.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on ends, and it tells on stdout"
)]

mod part;
mod samples;

use std::{hint::black_box, net::IpAddr};

use jiff::Timestamp;
use lead_webhook::{
    delivery::{headers::CustomHeaders, payload, request::Request, signature, template::Template},
    egress::{Lists, Policy},
    event::{Event, EventKind},
    keyring::{Column, KeyRing, Place},
    secret::SigningSecret,
};
use part::Part;
use uuid::Uuid;

fn main() {
    let parts = [render(), sign(), seal_and_open(), read(), egress(), prepare()].concat();
    part::print_allocations(&parts);
    let mut criterion = part::criterion().configure_from_args();
    for part in &parts {
        part.measure(&mut criterion);
    }
    criterion.final_summary();
}

fn render() -> Vec<Part> {
    fn template(name: &'static str, template: &Template, event: Event, omit_empty: bool) -> Part {
        let template = template.clone();
        let bytes = template.render(&event, omit_empty).unwrap().len();
        Part::new("render", name, move || template.render(black_box(&event), omit_empty)).over(bytes)
    }
    let crm = Template::parse(samples::CRM_TEMPLATE).unwrap();
    let largest = Template::parse(&samples::largest_template()).unwrap();
    let [created, re_engaged] = [EventKind::Created, EventKind::ReEngaged].map(samples::event);
    vec![
        Part::new("render", "default body", move || payload::default_body(black_box(&created))),
        Part::new("render", "default body, re-engaged", move || payload::default_body(black_box(&re_engaged))),
        template("CRM template", &crm, samples::event(EventKind::ReEngaged), false),
        template("CRM template, omit_empty", &crm, samples::sparse_event(), true),
        template("largest template", &largest, samples::event(EventKind::ReEngaged), false),
        template("largest template, omit_empty", &largest, samples::sparse_event(), true),
    ]
}

fn sign() -> Vec<Part> {
    fn wilow(name: &'static str, body: Vec<u8>) -> Part {
        let (secret, bytes) = (samples::secret(), body.len());
        Part::new("sign", name, move || signature::hex_signature(&secret, black_box(&body))).over(bytes)
    }
    fn standard(name: &'static str, body: Vec<u8>) -> Part {
        let (secret, bytes) = (samples::secret(), body.len());
        let (id, timestamp) = (Uuid::nil().to_string(), samples::sent_at().as_second());
        let sign = move || signature::standard_signature(&secret, &id, timestamp, black_box(&body));
        Part::new("sign", name, sign).over(bytes)
    }
    vec![
        wilow("X-Wilow-Signature, 200 bytes", samples::body(200)),
        wilow("X-Wilow-Signature, 64 KiB", samples::body(65_536)),
        standard("Standard Webhooks, 200 bytes", samples::body(200)),
        standard("Standard Webhooks, 64 KiB", samples::body(65_536)),
    ]
}

fn seal_and_open() -> Vec<Part> {
    fn both(ring: &KeyRing, name: &'static str, column: Column, plain: Vec<u8>) -> [Part; 2] {
        let place = Place { tenant: samples::TENANT, column };
        let sealed = ring.seal(&place, &plain).unwrap();
        let (sealing, opening) = (ring.clone(), ring.clone());
        [
            Part::new("seal", name, move || sealing.seal(&place, black_box(&plain))),
            Part::new("open", name, move || opening.open(&place, black_box(&sealed))),
        ]
    }
    let ring = samples::ring();
    let secret = samples::secret().text().expose().clone().into_bytes();
    let headers = samples::headers(20).to_json().expose().clone();
    let pairs = [
        both(&ring, "URL", Column::EndpointUrl, samples::URL.into()),
        both(&ring, "secret", Column::EndpointSecret, secret),
        both(&ring, "20 headers", Column::EndpointHeaders, headers),
    ];
    let (seals, opens): (Vec<Part>, Vec<Part>) = pairs.into_iter().map(|[seal, open]| (seal, open)).unzip();
    [seals, opens].concat()
}

fn read() -> Vec<Part> {
    let secret = samples::secret();
    let headers = samples::headers(20).to_json();
    let largest = samples::largest_template();
    vec![
        Part::new("read", "secret", move || SigningSecret::parse(black_box(secret.text().expose()))),
        Part::new("read", "20 headers", move || CustomHeaders::from_json(black_box(headers.expose()), "X-Wilow")),
        Part::new("read", "CRM template", || Template::parse(black_box(samples::CRM_TEMPLATE))),
        Part::new("read", "largest template", move || Template::parse(black_box(&largest))),
    ]
}

fn egress() -> Vec<Part> {
    fn url(name: &'static str, raw: &'static str) -> Part {
        let policy = Policy::new(Lists::default());
        Part::new("egress", name, move || policy.vet_url(black_box(raw)))
    }
    fn answer(name: &'static str, address: &str) -> Part {
        let policy = Policy::new(Lists::default());
        let answers: [IpAddr; 1] = [address.parse().unwrap()];
        Part::new("egress", name, move || policy.vet_addresses("hooks.acme.com", black_box(&answers)))
    }
    vec![
        url("public URL", samples::URL),
        url("address as host", "https://1.1.1.1/hooks"),
        url("refused name", "https://postgres.internal/hooks"),
        answer("answer, IPv4", "1.1.1.1"),
        answer("answer, IPv6", "2606:4700:4700::1111"),
        answer("refused answer, IPv4", "10.0.0.1"),
    ]
}

fn prepare() -> Vec<Part> {
    fn request(name: &'static str, template: Option<&str>, headers: usize) -> Part {
        let endpoint = samples::endpoint(template, headers);
        let (identity, event) = (samples::identity(), samples::event(EventKind::ReEngaged));
        let prepare = move |now: Timestamp| Request::prepare(&endpoint, &identity, black_box(&event), Uuid::nil(), now);
        Part::new("prepare", name, move || prepare(samples::sent_at()))
    }
    vec![
        request("default body", None, 0),
        request("default body, 20 headers", None, 20),
        request("CRM template, 2 headers", Some(samples::CRM_TEMPLATE), 2),
        request("largest template, 20 headers", Some(&samples::largest_template()), 20),
    ]
}
