//! The egress policy at save and, for what was written past it, at every send. The verdict on each URL and address
//! is tested beside the policy; here it is that nobody goes around it.

mod corpus;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use lead_webhook::keyring::{Column, KeyRing, Place};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    harness::{Answer, Cluster, Database, Receiver, Setup},
    own_world::{Everywhere, INTERNET, NameServer, Reply},
};

#[tokio::test]
async fn a_private_url_is_refused_at_save_with_the_rule_and_nothing_is_saved() {
    let setup = Setup::new().await;
    for (url, rule) in [
        ("http://example.com/hook", "https"),
        ("https://10.0.0.1/hook", "RFC 1918"),
        ("https://169.254.169.254/latest", "RFC 3927"),
        ("https://[::1]/hook", "RFC 4291"),
        ("https://postgres/hook", "label"),
        ("https://printer.local/hook", "local"),
        ("https://user:pa55@example.com/hook", "user"),
    ] {
        let output = setup.run(&["endpoint", "set", "acme", "--url", url]).await;
        assert_eq!(output.code, Some(2), "{url}: {}", output.stderr);
        assert!(output.stderr.contains(rule), "{url}: {}", output.stderr);
        assert!(!output.stderr.contains("pa55") && !output.stderr.contains("latest"), "{}", output.stderr);
    }
    assert!(setup.run(&["endpoint", "list", "--json"]).await.ok().stdout.is_empty());
}

#[tokio::test]
async fn a_private_url_written_straight_into_the_table_is_blocked_and_no_socket_is_opened() {
    let setup = Setup::new().await;
    setup.edit_config(&[("egress.allow_networks", json!([])), ("egress.allow_hosts", json!([]))]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let keyring = KeyRing::read(&setup.key_file()).unwrap();
    let admin = setup.db.admin().await;
    let urls =
        [format!("https://127.0.0.1:{port}/"), format!("https://localhost:{port}/"), format!("https://[::1]:{port}/")];
    for (n, url) in urls.iter().enumerate() {
        let tenant = format!("t{n}");
        setup.run(&["secret", "generate", &tenant]).await.ok();
        let sealed = keyring.seal(&Place { tenant: &tenant, column: Column::EndpointUrl }, url.as_bytes()).unwrap();
        let update = "UPDATE lead_webhook.endpoints SET url_sealed = $2, host = 'x', port = 1 WHERE tenant_id = $1";
        assert_eq!(admin.execute(update, &[&tenant, &sealed]).await.unwrap(), 1);
        setup.db.insert_lead(&tenant, "ann@example.com").await;
    }
    let _daemon = setup.daemon();
    for row in setup.db.wait_for_log(3).await {
        assert_eq!((row.status.as_str(), row.failure.as_deref()), ("failed", Some("blocked")));
        assert!(row.sent_at.is_none());
    }
    let accepted = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
    assert!(accepted.is_err(), "somebody connected");
}

#[tokio::test]
async fn a_name_that_resolves_to_a_forbidden_address_is_blocked_at_send() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    // The name is allowed no more, the network never was: what `localhost` resolves to is judged again.
    setup.edit_config(&[("egress.deny_networks", json!(["127.0.0.0/8", "::1/128"]))]);
    setup.db.insert_lead("acme", "ann@example.com").await;
    let _daemon = setup.daemon();
    let row = setup.db.wait_for_log(1).await.remove(0);
    assert_eq!((row.status.as_str(), row.failure.as_deref()), ("failed", Some("blocked")));
    assert!(setup.receiver.requests().is_empty());
    assert_eq!(setup.receiver.connections().accepted, 0);
}

#[tokio::test]
async fn proxy_variables_of_the_environment_are_ignored() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    let env = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"]
        .map(|name| (name, proxy.as_str()));
    setup.run_with(&["test", "acme"], &env, "").await.ok();
    let _daemon = setup.daemon_with(&env);
    setup.db.insert_lead("acme", "ann@example.com").await;
    assert_eq!(setup.db.wait_for_log(2).await[1].status, "delivered");
    assert!(tokio::time::timeout(std::time::Duration::ZERO, trap.accept()).await.is_err(), "the proxy was asked");
}

const DNS_CASES: &str = include_str!("../corpus/egress_dns_cases.tsv");

/// A public address, which is this machine in the test's own network.
const PUBLIC: &str = "93.184.216.34";

/// A row of the corpus, or of ours beside it.
struct DnsCase {
    host: &'static str,
    /// What the name server says while the endpoint is saved for the first time, and from then on.
    at_save: Vec<Reply>,
    at_send: Vec<Reply>,
    /// The status and failure of a lead; for silence `timeout or dns`.
    verdict: &'static str,
}

impl DnsCase {
    /// Reads the words of the corpus.
    fn of(row: &'static str) -> Self {
        let fields: Vec<_> = row.split('\t').collect();
        let [url, answers, verdict] = fields[..] else { panic!("{row}") };
        let host = url.trim_start_matches("https://").trim_end_matches("/hook");
        // The redirect's target is not an answer.
        let stated = answers.split("; 302").next().unwrap();
        let addresses: Vec<IpAddr> = stated.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        let at_send = match answers {
            "NXDOMAIN" => Reply::NoSuchName,
            "SERVFAIL" => Reply::Failure,
            "no answer for 60 s" => Reply::Silence,
            "a public address inside deny_networks" => Reply::Addresses(vec![[198, 41, 0, 4].into()]),
            "1000 A records, last one private" => {
                let public = (0..999).map(|n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0808_0000 + n)));
                Reply::Addresses(public.chain([[10, 0, 0, 1].into()]).collect())
            }
            _ if answers.starts_with("CNAME") => Reply::Alias("foo.internal"),
            _ if answers.contains("2nd") || answers.contains("deliver") => Reply::Addresses(addresses[1..].to_vec()),
            _ => Reply::Addresses(addresses.clone()),
        };
        let rebinds = answers.contains("2nd") || answers.contains("deliver");
        let at_save = if rebinds { Reply::Addresses(addresses[..1].to_vec()) } else { Reply::NoSuchName };
        Self { host, at_save: vec![at_save], at_send: vec![at_send], verdict }
    }

    /// Those of the corpus, and two that are only seen from outside.
    fn all() -> Vec<Self> {
        let public = Reply::Addresses(vec![PUBLIC.parse().unwrap()]);
        let private = Reply::Addresses(vec![[127, 0, 0, 1].into()]);
        let ours = [
            // Between the verdict and the connection: there is no second look-up to be lied to.
            Self {
                host: "flip.example.com",
                at_save: vec![public.clone()],
                at_send: vec![public.clone(), private],
                verdict: "sent",
            },
            Self {
                host: "chain.example.com",
                at_save: vec![public],
                at_send: vec![Reply::Alias("a.example.net")],
                verdict: "sent",
            },
        ];
        DNS_CASES.lines().skip(1).map(Self::of).chain(ours).collect()
    }

    fn expects(&self, status: &str, failure: Option<&str>) -> bool {
        match self.verdict {
            "sent" => (status, failure) == ("delivered", None),
            redirect if redirect.starts_with("one POST") => failure == Some("redirect"),
            others => failure.is_some_and(|failure| others.contains(failure)),
        }
    }
}

#[tokio::test]
async fn whatever_a_name_server_answers_no_socket_is_opened_to_a_forbidden_address() {
    let name = "refuses_private_addresses::whatever_a_name_server_answers_no_socket_is_opened_to_a_forbidden_address";
    if !INTERNET.is_here(name) {
        return;
    }
    let cases = DnsCase::all();
    let names: Vec<_> = cases.iter().map(|case| case.host).collect();
    let receiver = Receiver::start_for(&names);
    receiver.answer_with(|request| match request.header("host") {
        Some(host) if host.starts_with("redir.") => {
            Answer::status(302).header("Location", "https://169.254.169.254/latest")
        }
        _ => Answer::status(200),
    });
    let (everywhere, dns) = (Everywhere::before(receiver.port()), NameServer::start());
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, receiver).await;
    setup.run(&["migrate"]).await.ok();
    setup.edit_config(&[
        ("egress.allow_hosts", json!([])),
        ("egress.allow_networks", json!([])),
        ("egress.deny_networks", json!(["198.41.0.0/24"])),
        ("delivery.connect_timeout", json!("2s")),
    ]);
    let target = |host: &str| format!("https://{host}:{}/hook", everywhere.port);
    let save = async |case: &DnsCase| setup.run(&["endpoint", "set", case.host, "--url", &target(case.host)]).await;
    for case in &cases {
        dns.say(case.host, &case.at_save);
        save(case).await.ok();
        setup.run(&["secret", "generate", case.host]).await.ok();
    }

    dns.say("foo.internal", &[Reply::Addresses(vec![[10, 0, 0, 5].into()])]);
    dns.say("a.example.net", &[Reply::Alias("b.example.net")]);
    dns.say("b.example.net", &[Reply::Alias("c.example.net")]);
    dns.say("c.example.net", &[Reply::Addresses(vec![PUBLIC.parse().unwrap()])]);
    for case in &cases {
        dns.say(case.host, &case.at_send);
        let saved = save(case).await;
        assert_eq!(saved.code, Some(if case.verdict == "blocked" { 2 } else { 0 }), "{}: {}", case.host, saved.stderr);
        dns.say(case.host, &case.at_send);
        let tested = setup.run(&["test", case.host]).await;
        assert_eq!(tested.code, Some(i32::from(case.verdict != "sent")), "{}: {}", case.host, tested.stdout);
        dns.say(case.host, &case.at_send);
    }
    let proxy = format!("http://127.0.0.1:{}", everywhere.port);
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let _daemon = setup.daemon_with(&proxies.map(|name| (name, proxy.as_str())));
    for case in &cases {
        setup.db.insert_lead(case.host, "ann@example.com").await;
    }
    let rows = setup.db.wait_for_log(2 * cases.len()).await;
    for case in &cases {
        for row in rows.iter().filter(|row| row.tenant_id == case.host) {
            let (status, failure) = (row.status.as_str(), row.failure.as_deref());
            assert!(case.expects(status, failure), "{}: expected {}, got {row:?}", case.host, case.verdict);
        }
    }
    assert_eq!(dns.asked("flip.example.com"), 1, "its name was looked up again");
    let called: BTreeSet<_> = everywhere.called().into_iter().collect();
    let public = [PUBLIC, "2606:4700:4700::1111", "64:ff9b::5db8:d822"].map(|address| address.parse().unwrap());
    assert_eq!(called, BTreeSet::from(public));
}
