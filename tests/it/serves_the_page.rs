//! The admin page: whose forms change something, and what a browser keeps.

use serde_json::{Value, json};

use crate::harness::{Admin, Answered, ENDPOINT, OPERATOR, Setup, administered, with_endpoint};

/// What a browser would send to the page.
fn browse(admin: &Admin, method: &str, path: &str, session: &str, origin: Option<&str>, form: &str) -> Answered {
    let mut headers = vec![("Cookie", format!("other=1; lead_webhook_session={session}"))];
    headers.extend(origin.map(|origin| ("Origin", origin.to_owned())));
    headers.push(("Content-Type", "application/x-www-form-urlencoded".to_owned()));
    admin.raw(method, path, &headers, form.as_bytes())
}

/// Signs in by a token; the cookie's value, and its attributes.
fn sign_in(admin: &Admin, token: &str) -> (String, String) {
    let own = admin.origin();
    let answer = browse(admin, "POST", "/admin/sign-in", "", Some(&own), &format!("token={token}")).with(303);
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    (pair.strip_prefix("lead_webhook_session=").unwrap().to_owned(), attributes.to_owned())
}

/// The hidden fields of a page's settings, as its form sends them.
fn hidden(page: &str) -> String {
    let form = page.split("id=\"settings-form\"").nth(1).unwrap().split("</form>").next().unwrap();
    let inputs = form.split("<input type=\"hidden\" name=\"").skip(1);
    let pair = |input: &str| {
        let (name, rest) = input.split_once("\" value=\"").unwrap();
        format!("&{name}={}", rest.split('"').next().unwrap().replace("&#34;", "%22"))
    };
    inputs.map(pair).collect()
}

#[tokio::test]
async fn what_was_not_touched_is_not_overwritten_and_after_a_change_of_somebody_elses_both_are_shown() {
    let (_setup, admin, _) = with_endpoint().await;
    let own = admin.origin();
    let (session, _) = sign_in(&admin, OPERATOR);
    let path = "/admin/tenants/acme";
    let shown = || browse(&admin, "GET", path, &session, None, "").with(200).text;
    let save = |fields: &str, page: &str| {
        browse(&admin, "POST", path, &session, Some(&own), &format!("do=save{fields}{}", hidden(page)))
    };
    let theirs = |draft: Value| admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", "*")], Some(&draft)).with(200);
    let in_force = || admin.operator("GET", ENDPOINT, None).body;
    theirs(json!({ "template": "{\"a\":1}", "timeout_ms": 5_000 }));
    let before = shown();
    theirs(json!({ "template": "{\"colleague\":1}", "timeout_ms": 20_000, "omit_empty": true }));
    let refused = save("&template={\"mine\":1}&timeout=5", &before).with(412).text;
    for part in ["colleague", "mine", "value=\"yes\" checked", "value=\"20\""] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(in_force()["template"], "{\"colleague\":1}");
    save("&template={\"mine\":1}&timeout=20&omit_empty=yes", &refused).with(303);
    let saved = in_force();
    assert_eq!((&saved["template"], &saved["timeout_ms"]), (&json!("{\"mine\":1}"), &json!(20_000)));
    assert_eq!(saved["omit_empty"], true);
    // What is touched is shown beside what is in force.
    let tried =
        browse(&admin, "POST", path, &session, Some(&own), &format!("do=preview&timeout=7{}", hidden(&shown())));
    for part in ["In force: left out", "In force: 20", "mine"] {
        assert!(tried.text.contains(part), "{part}: {}", tried.text);
    }
}

#[tokio::test]
async fn a_form_that_is_refused_for_another_reason_stays_one_over_what_it_was_made_of() {
    let (setup, admin, version) = with_endpoint().await;
    let own = admin.origin();
    let (session, _) = sign_in(&admin, OPERATOR);
    let theirs = json!({ "timeout_ms": 5_000 });
    let newer = admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", &version)], Some(&theirs)).with(200);
    let another =
        "UPDATE lead_webhook.installation SET key_check_sealed = overlay(key_check_sealed PLACING '\\x00' FROM 30)";
    setup.db.admin().await.batch_execute(another).await.unwrap();
    let form = format!("enabled=false&version={}", version.replace('"', "%22"));
    for form in ["switch", "secret"].map(|part| (part, form.as_str())) {
        let path = format!("/admin/tenants/acme/{}", form.0);
        let refused = browse(&admin, "POST", &path, &session, Some(&own), form.1).with(503).text;
        assert!(hidden(&refused).contains(&format!("&version={}", version.replace('"', "%22"))), "{refused}");
        assert!(!refused.contains(newer.header("etag").unwrap().trim_matches('"')), "{refused}");
    }
}

#[tokio::test]
async fn that_stored_headers_go_to_another_host_is_told() {
    let (_setup, admin, version) = with_endpoint().await;
    let own = admin.origin();
    let (session, _) = sign_in(&admin, &admin.token("acme"));
    let headers = json!({ "headers": { "Authorization": "Bearer s3cr3t" } });
    admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", &version)], Some(&headers)).with(200);
    let path = "/admin/tenants/acme";
    let page = browse(&admin, "GET", path, &session, None, "").with(200).text;
    let form = format!("do=save&url=https://127.0.0.1:8443/in{}", hidden(&page));
    let told = browse(&admin, "POST", path, &session, Some(&own), &form).with(200).text;
    assert!(told.contains("Saved.") && told.contains("go there too (Authorization)"), "{told}");
}

#[tokio::test]
async fn the_page_is_changed_by_its_own_forms_alone_and_embedded_nowhere() {
    let (_setup, admin, version) = with_endpoint().await;
    let own = admin.origin();
    let (session, attributes) = sign_in(&admin, OPERATOR);
    assert_eq!(attributes, "Max-Age=28800; Path=/admin; HttpOnly; SameSite=Strict");
    assert!(!session.contains(OPERATOR));
    let form = format!("enabled=false&version={}", version.replace('"', "%22"));
    let switch = |session: &str, origin: Option<&str>| {
        browse(&admin, "POST", "/admin/tenants/acme/switch", session, origin, &form).status
    };
    for origin in [None, Some("null"), Some("https://evil.example"), Some("http://localhost:1")] {
        assert_eq!(switch(&session, origin), 403, "{origin:?}");
    }
    assert_eq!(admin.operator("GET", ENDPOINT, None).body["enabled"], true);
    assert_eq!(switch("guess", Some(&own)), 303, "to sign in");
    assert_eq!(admin.operator("GET", ENDPOINT, None).body["enabled"], true);
    assert_eq!(switch(&session, Some(&own)), 200);
    assert_eq!(admin.operator("GET", ENDPOINT, None).body["enabled"], false);
    // The session is the page's, and the page's alone.
    admin.ask(&session, "GET", ENDPOINT, &[], None).with(401);
    admin.raw("GET", ENDPOINT, &[("Cookie", format!("lead_webhook_session={session}"))], b"").with(401);
    let shown = browse(&admin, "GET", "/admin/tenants/acme", &session, None, "").with(200);
    let policy = shown.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let elsewhere = [("Host", "evil.example".to_owned()), ("Cookie", format!("lead_webhook_session={session}"))];
    assert_eq!(admin.raw("GET", "/admin", &elsewhere, b"").status, 403);
}

#[tokio::test]
async fn over_tls_the_session_goes_over_nothing_else() {
    let setup = Setup::new().await;
    setup.edit_config(&[("admin.origin", json!("https://webhooks.example.com"))]);
    let admin = Admin::start(&setup).await;
    let headers = [("Host", "webhooks.example.com".to_owned()), ("Origin", "https://webhooks.example.com".to_owned())];
    let answer = admin.raw("POST", "/admin/sign-in", &headers, format!("token={OPERATOR}").as_bytes()).with(303);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let shown = |cookie: &str| {
        let headers = [("Host", "webhooks.example.com".to_owned()), ("Cookie", cookie.to_owned())];
        admin.raw("GET", "/admin", &headers, b"").status
    };
    assert_eq!(shown(pair), 200);
    // Another host of the domain can set one of that name.
    assert_eq!(shown(pair.strip_prefix("__Host-").unwrap()), 303, "to sign in");
}

#[tokio::test]
async fn on_the_page_a_tenant_sees_its_own_alone() {
    let (setup, admin) = administered().await;
    for tenant in ["acme", "bolt"] {
        setup.endpoint(tenant).await;
    }
    setup.db.insert_leads("bolt", 1).await;
    let theirs = setup.db.wait_for_log(1).await[0].delivery_id;
    let own = admin.origin();
    let (session, _) = sign_in(&admin, &admin.token("acme"));
    let ask = |method: &str, path: &str| browse(&admin, method, path, &session, Some(&own), "").status;
    for (method, path) in [
        ("GET", "tenants/bolt".to_owned()),
        ("HEAD", "tenants/bolt".to_owned()),
        ("POST", "tenants/bolt".to_owned()),
        ("POST", "tenants/bolt/switch".to_owned()),
        ("POST", "tenants/bolt/secret".to_owned()),
        ("POST", "tenants/bolt/preview".to_owned()),
        ("GET", format!("tenants/bolt/deliveries/{theirs}")),
        ("POST", format!("tenants/bolt/deliveries/{theirs}/redeliver")),
    ] {
        assert_eq!(ask(method, &format!("/admin/{path}")), 403, "{method} {path}");
        let nobody = browse(&admin, method, &format!("/admin/{path}"), "", Some(&own), "").with(303);
        assert_eq!(nobody.header("location"), Some("/admin/sign-in"), "{method} {path}");
    }
    assert_eq!(ask("GET", &format!("/admin/tenants/acme/deliveries/{theirs}")), 404);
    assert_eq!(ask("POST", &format!("/admin/tenants/acme/deliveries/{theirs}/redeliver")), 404);
    assert_eq!(browse(&admin, "GET", "/admin", &session, None, "").header("location"), Some("/admin/tenants/acme"));
    assert_eq!(setup.receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_secret_gives_way_after_a_question_and_a_form_that_is_sent_again_generates_no_other() {
    let (_setup, admin, version) = with_endpoint().await;
    let own = admin.origin();
    let (session, _) = sign_in(&admin, OPERATOR);
    let path = "/admin/tenants/acme/secret";
    let set_at = || admin.operator("GET", ENDPOINT, None).body["secret_set_at"].clone();
    let before = set_at();
    let generate = |form: &str| browse(&admin, "POST", path, &session, Some(&own), form);
    generate(&format!("do=ask&version={}", version.replace('"', "%22"))).with(200);
    generate("").with(412);
    assert_eq!(set_at(), before);
    let form = format!("version={}", version.replace('"', "%22"));
    generate(&form).with(201);
    let after = set_at();
    assert_ne!(after, before);
    generate(&form).with(412);
    assert_eq!(set_at(), after);
    // Where there is none, there is nothing to ask; and whoever reloads is led back.
    browse(&admin, "POST", "/admin/tenants/fresh/secret", &session, Some(&own), "do=ask").with(201);
    let back = browse(&admin, "GET", path, &session, None, "").with(303);
    assert_eq!(back.header("location"), Some("/admin/tenants/acme"));
}

#[tokio::test]
async fn what_goes_wrong_is_a_page_as_well() {
    let (_setup, admin) = administered().await;
    let own = admin.origin();
    for (method, path, status) in
        [("GET", "/admin/nowhere", 404), ("POST", "/admin/nowhere/at/all", 404), ("PUT", "/admin/sign-in", 405)]
    {
        let told = browse(&admin, method, path, "", None, "").with(status);
        assert_eq!(told.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert!(told.header("content-security-policy").is_some(), "{path}");
    }
    let (session, _) = sign_in(&admin, OPERATOR);
    for (path, said) in [("/tenants/%09acme", "tenant: "), ("?limit=x", "limit: must be a whole number")] {
        let told = browse(&admin, "GET", &format!("/admin{path}"), &session, None, "").with(400).text;
        assert!(told.contains(said) && !told.contains("errors"), "{told}");
    }
    let guess = || browse(&admin, "POST", "/admin/sign-in", "", Some(&own), "token=guess");
    assert_eq!(guess().with(401).header("content-type"), Some("text/html; charset=utf-8"));
    let late = (0..100).map(|_| guess()).find(|told| told.status == 429).unwrap();
    assert!(late.header("retry-after").is_some(), "{late:?}");
    let lines = admin.daemon.log();
    assert!(lines.iter().any(|line| line.contains("a token was refused")), "{lines:?}");
}
