//! The egress policy at save and, for what was written past it, at every send. The verdict on each URL and address
//! is tested beside the policy; here it is that nobody goes around it.

use lead_webhook::keyring::{Column, KeyRing, Place};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::Setup;

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
    let env: Vec<(&str, &str)> = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"]
        .map(|name| (name, proxy.as_str()))
        .into();
    let _daemon = setup.daemon_with(&env);
    setup.db.insert_lead("acme", "ann@example.com").await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    assert!(tokio::time::timeout(std::time::Duration::ZERO, trap.accept()).await.is_err(), "the proxy was asked");
}
