//! The admin API: everything that a host application's own settings page needs, and nobody sees or changes what is not theirs.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{
    Admin, Answer, Cluster, ENDPOINT, Gate, OPERATOR, Sent, Setup, Stop, administered, environment, left_out,
    patiently, until, with_endpoint,
};

#[tokio::test]
async fn a_tenant_configures_tests_saves_and_sees_its_leads_arrive() {
    let (setup, admin) = administered().await;
    let token = admin.token("acme");
    let ask = |method: &str, path: &str, body: Option<Value>| {
        admin.ask(&token, method, &format!("/v1/tenants/acme/{path}"), &[], body.as_ref())
    };
    ask("GET", "endpoint", None).with(404);
    let refused = ask("POST", "endpoint/validate", Some(json!({ "url": "https://10.0.0.1/hook" }))).with(422);
    assert_eq!(refused.faulty(), ["#/url"]);
    let secret = ask("POST", "endpoint/secret", None).with(201);
    assert!(secret.body["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(secret.body["endpoint"]["lacks"], json!(["url"]));
    setup.db.insert_leads("acme", 2).await;
    let draft = json!({ "url": setup.receiver.url(), "template": r#"{"mail":"{{email}}","who":"{{firstName}}"}"# });
    let preview = ask("POST", "endpoint/preview", Some(json!({ "draft": draft, "last": 1 }))).with(200);
    assert!(preview.body["bodies"][0]["body"]["mail"].as_str().unwrap().ends_with("@example.com"), "{preview:?}");
    setup.receiver.queue([Answer::status(503), Answer::status(200)]);
    for (status, code) in [("failed", 503), ("delivered", 200)] {
        let tried = ask("POST", "endpoint/test", Some(json!({ "draft": draft }))).with(200);
        let delivery = &tried.body["delivery"];
        assert_eq!((&delivery["status"], &delivery["http_status"]), (&json!(status), &json!(code)));
        assert!(delivery["total_us"].as_i64().unwrap() > 0 && delivery["is_test"] == true, "{delivery}");
        assert_eq!(delivery["address"], Value::Null, "where a name leads is the operator's");
    }
    let version = secret.header("etag").unwrap();
    let saved = admin.ask(&token, "PATCH", ENDPOINT, &[("If-Match", version)], Some(&draft)).with(200);
    assert_eq!((&saved.body["endpoint"]["takes_leads"], &saved.body["warnings"]), (&json!(true), &json!([])));
    setup.db.insert_leads("acme", 1).await;
    let arrived = async {
        loop {
            let listed = ask("GET", "deliveries?status=delivered&since=1h", None).with(200);
            let leads =
                listed.body["deliveries"].as_array().unwrap().iter().filter(|one| one["is_test"] == false).count();
            if leads == 1 {
                return listed;
            }
        }
    };
    let listed = patiently("the lead in the list", arrived).await;
    let id = listed.body["deliveries"][0]["delivery_id"].as_str().unwrap();
    let shown = ask("GET", &format!("deliveries/{id}"), None).with(200);
    assert_eq!(shown.body["meaning"], "The receiver took it.");
    let again = ask("POST", &format!("deliveries/{id}/redeliver"), None).with(201);
    assert_eq!((&again.body["redelivery_of"], &again.body["status"]), (&json!(id), &json!("delivered")));
    setup.sends_again();
    let stats = ask("GET", "stats", None).with(200);
    assert_eq!((&stats.body["all"]["delivered"], &stats.body["tenants"]), (&json!(2), &json!([])));
}

#[tokio::test]
async fn switched_off_it_keeps_everything_and_switched_on_nothing_is_entered_again() {
    let (_setup, admin, version) = with_endpoint().await;
    let switch = |version: &str, on: bool| {
        admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", version)], Some(&json!({ "enabled": on }))).with(200)
    };
    let off = switch(&version, false);
    assert_eq!(
        (&off.body["endpoint"]["lacks"], &off.body["endpoint"]["takes_leads"]),
        (&json!(["off"]), &json!(false))
    );
    let on = switch(off.header("etag").unwrap(), true);
    assert_eq!((&on.body["endpoint"]["lacks"], &on.body["endpoint"]["takes_leads"]), (&json!([]), &json!(true)));
}

#[tokio::test]
async fn every_fault_is_told_at_once_with_its_place_and_nothing_is_saved() {
    let (_setup, admin, version) = with_endpoint().await;
    let before = admin.operator("GET", ENDPOINT, None).body;
    let draft = json!({
        "url": "http://example.org/s3cr3t",
        "headers": { "Host": "x", "X-Fine": "y", "X-Bad": 7, "a:b": "z", "X-Mask": "••••••", "X/~": "" },
        "template": r#"{"a":"{{emial}}"}"#,
        "omit_empty": "yes",
        "timeout_ms": 999,
        "enabled": null,
        "preset": "nothing",
        "colour": "red",
    });
    let refused = admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", &version)], Some(&draft)).with(422);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!((&refused.body["type"], &refused.body["status"]), (&json!("urn:lead-webhook:invalid"), &json!(422)));
    let mut faulty = refused.faulty();
    faulty.sort();
    assert_eq!(
        faulty,
        [
            "#/colour",
            "#/enabled",
            "#/headers/Host",
            "#/headers/X-Bad",
            "#/headers/X-Mask",
            "#/headers/X~1~0",
            "#/headers/a%3Ab",
            "#/omit_empty",
            "#/preset",
            "#/template",
            "#/timeout_ms",
            "#/url",
        ]
    );
    assert!(!refused.body.to_string().contains("s3cr3t"), "{refused:?}");
    let query = admin.operator("GET", "/v1/tenants/acme/deliveries?limit=x&colour=red&shape=round&limit=1", None);
    let mut faulty = query.with(400).faulty();
    faulty.sort();
    assert_eq!(faulty, ["colour", "limit", "limit", "shape"]);
    assert_eq!(admin.operator("GET", ENDPOINT, None).body, before);
}

#[tokio::test]
async fn nobody_overwrites_what_they_have_not_seen() {
    let (_setup, admin, version) = with_endpoint().await;
    let save = |condition: &[(&str, &str)], timeout: u32| {
        admin.ask(OPERATOR, "PATCH", ENDPOINT, condition, Some(&json!({ "timeout_ms": timeout })))
    };
    save(&[], 2_000).with(428);
    save(&[("If-None-Match", "*")], 2_000).with(412);
    save(&[("If-Match", "\"1\""), ("If-None-Match", "*")], 2_000).with(400);
    let first = save(&[("If-Match", &version)], 2_000).with(200);
    save(&[("If-Match", &version)], 3_000).with(412);
    assert_eq!(admin.operator("GET", ENDPOINT, None).body["timeout_ms"], 2_000);
    admin.ask(OPERATOR, "DELETE", ENDPOINT, &[("If-Match", &version)], None).with(412);
    admin.ask(OPERATOR, "DELETE", ENDPOINT, &[("If-Match", first.header("etag").unwrap())], None).with(204);
    admin.ask(OPERATOR, "DELETE", ENDPOINT, &[("If-Match", "*")], None).with(404);
    save(&[("If-Match", "*")], 2_000).with(412);
    admin.operator("GET", ENDPOINT, None).with(404);
    save(&[("If-None-Match", "*")], 4_000).with(201);
}

#[tokio::test]
async fn a_version_is_known_again_as_proxies_hand_it_on() {
    let (_setup, admin, version) = with_endpoint().await;
    let save = |condition: &[(&str, &str)], timeout: u32| {
        admin.ask(OPERATOR, "PATCH", ENDPOINT, condition, Some(&json!({ "timeout_ms": timeout })))
    };
    let next = save(&[("If-Match", &format!("W/{version}"))], 2_000).with(200);
    let next = next.header("etag").unwrap();
    let next = save(&[("If-Match", &format!("\"1\", {next}"))], 3_000).with(200);
    let next = next.header("etag").unwrap();
    save(&[("If-Match", "\"1\""), ("If-Match", next)], 4_000).with(200);
    save(&[("If-Match", "\"1\""), ("If-Match", "\"2\"")], 5_000).with(412);
}

#[tokio::test]
async fn a_secret_is_generated_over_what_was_read_where_that_is_asked_for() {
    let (_setup, admin, version) = with_endpoint().await;
    let secret = format!("{ENDPOINT}/secret");
    let generate = |condition: &[(&str, &str)]| admin.ask(OPERATOR, "POST", &secret, condition, None);
    generate(&[("If-None-Match", "*")]).with(412);
    let first = generate(&[("If-Match", &version)]).with(201);
    generate(&[("If-Match", &version)]).with(412);
    assert_eq!(admin.operator("GET", ENDPOINT, None).body, first.body["endpoint"]);
    generate(&[]).with(201);
    let fresh = "/v1/tenants/fresh/endpoint/secret";
    admin.ask(OPERATOR, "POST", fresh, &[("If-Match", "*")], None).with(412);
    admin.operator("GET", "/v1/tenants/fresh/endpoint", None).with(404);
    admin.ask(OPERATOR, "POST", fresh, &[("If-None-Match", "*")], None).with(201);
}

#[tokio::test]
async fn of_many_who_save_at_once_over_the_same_version_one_does() {
    let (_setup, admin, version) = with_endpoint().await;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let save = |timeout: u32| {
            let (admin, version) = (&admin, &version);
            let draft = json!({ "timeout_ms": timeout });
            scope.spawn(move || admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", version)], Some(&draft)).status)
        };
        let threads: Vec<_> = (0..8).map(|n| save(2_000 + n)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 412].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn headers_are_replaced_added_and_dropped_by_name_and_never_read_back() {
    let (_setup, admin, version) = with_endpoint().await;
    let save = |version: &str, headers: Value| {
        admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", version)], Some(&json!({ "headers": headers }))).with(200)
    };
    let two = save(&version, json!({ "Authorization": "Bearer s3cr3t", "X-Team": "blue" }));
    assert_eq!(two.body["endpoint"]["headers"], json!({ "Authorization": "••••••", "X-Team": "••••••" }));
    let one = save(two.header("etag").unwrap(), json!({ "authorization": null, "X-Team": "red" }));
    assert_eq!(one.body["endpoint"]["headers"], json!({ "X-Team": "••••••" }));
    let none = save(one.header("etag").unwrap(), Value::Null);
    assert_eq!(none.body["endpoint"]["headers"], json!({}));
    let shown = admin.operator("GET", ENDPOINT, None).body.to_string();
    assert!(!shown.contains("s3cr3t") && shown.contains("/…"), "{shown}");
}

/// Every method of every path of the description, with its path for this tenant.
fn operations(admin: &Admin, tenant: &str) -> Vec<(String, String)> {
    let description = admin.operator("GET", "/v1/openapi.json", None).with(200).body;
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, methods)| {
        let path = path.replace("{tenant}", tenant).replace("{delivery}", "00000000-0000-0000-0000-000000000001");
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    all.collect()
}

#[tokio::test]
async fn headers_that_a_new_prefix_forbids_or_no_key_opens_can_be_dropped_by_name() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let given = ["endpoint", "set", "acme", "--header", "X-Acme-Token: a", "--header", "X-Keep: b"];
    setup.run(&given).await.ok();
    setup.edit_config(&[("delivery.header_prefix", json!("X-Acme"))]);
    let admin = Admin::start(&setup).await;
    let tenant = admin.token("acme");
    let save = |headers: Value| {
        let draft = json!({ "headers": headers });
        admin.ask(&tenant, "PATCH", ENDPOINT, &[("If-Match", "*")], Some(&draft))
    };
    let refused = save(json!({ "X-New": "c" })).with(422);
    assert_eq!(refused.faulty(), ["#/headers"]);
    assert!(refused.text.contains("X-Acme-Token") && !refused.text.contains("cannot be opened"), "{refused:?}");
    let by_command = setup.run(&["endpoint", "set", "acme", "--header", "X-New: c"]).await;
    assert!(
        by_command.stderr.contains("X-Acme-Token") && by_command.stderr.contains("--clear-headers"),
        "{by_command:?}"
    );
    let saved = save(json!({ "x-acme-token": null })).with(200);
    assert_eq!(saved.body["endpoint"]["headers"], json!({ "X-Keep": "••••••" }));
    let altered = "UPDATE lead_webhook.endpoints SET headers_sealed = secret_sealed";
    setup.db.admin().await.batch_execute(altered).await.unwrap();
    save(json!({ "X-New": "c" })).with(422);
    assert_eq!(
        save(json!({ "X-Keep": null, "X-New": "c" })).with(200).body["endpoint"]["headers"],
        json!({ "X-New": "••••••" })
    );
    assert_eq!(save(json!({ "X-New": null })).with(200).body["endpoint"]["headers"], json!({}));
}

#[tokio::test]
async fn each_operation_has_a_name_of_its_own() {
    let (_setup, admin) = administered().await;
    let described = admin.operator("GET", "/v1/openapi.json", None).with(200).body;
    let paths = described["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let names: Vec<_> = paths.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert!(names.len() > 10, "{names:?}");
}

#[tokio::test]
async fn under_another_name_nothing_is_answered() {
    let (_setup, admin) = administered().await;
    for path in ["/", "/admin", "/admin/sign-in", "/admin/style.css", "/v1/openapi.json", "/v1/presets", "/healthz"] {
        let told = admin.raw("GET", path, &[("Host", "evil.example".to_owned())], b"");
        assert_eq!(told.status, 403, "{path}");
        let foreign = admin.raw("GET", &format!("http://evil.example{path}"), &[], b"");
        assert_eq!(foreign.status, 403, "{path}: {foreign:?}");
    }
}

#[tokio::test]
async fn who_removes_and_who_saves_at_once_are_told_what_they_met() {
    let (_setup, admin, _) = with_endpoint().await;
    for _ in 0..10 {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let ask = |method: &'static str, condition: &'static str| {
                let admin = &admin;
                let draft = json!({ "timeout_ms": 2_000 });
                let body = (method == "PATCH").then_some(draft);
                scope.spawn(move || admin.ask(OPERATOR, method, ENDPOINT, &[(condition, "*")], body.as_ref()).status)
            };
            let threads = [
                ask("PATCH", "If-None-Match"),
                ask("DELETE", "If-Match"),
                ask("PATCH", "If-Match"),
                ask("DELETE", "If-Match"),
            ];
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| [200, 201, 204, 404, 412].contains(status)), "{statuses:?}");
    }
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_told() {
    let (setup, admin) = administered().await;
    let minted = setup.run(&["token", "acme", "--ttl", "1s"]).await.ok().stdout.trim().to_owned();
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (method, path) in operations(&admin, "acme") {
        let none = admin.raw(&method, &path, &[], b"").with(401);
        assert_eq!(none.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        admin.ask(&minted, &method, &path, &[], Some(&json!({}))).with(401);
    }
    let basic = [("Authorization", format!("Basic {OPERATOR}"))];
    admin.raw("GET", "/v1/deliveries", &basic, b"").with(401);
}

#[tokio::test]
async fn a_tenant_never_gets_at_what_is_anothers_or_the_operators() {
    let (setup, admin) = administered().await;
    for tenant in ["acme", "bolt"] {
        setup.endpoint(tenant).await;
    }
    setup.db.insert_leads("bolt", 1).await;
    let theirs = setup.db.wait_for_log(1).await[0].delivery_id;
    let token = admin.token("acme");
    let everything = operations(&admin, "bolt");
    assert!(everything.len() > 12, "{everything:?}");
    for (method, path) in everything {
        let answer = admin.ask(&token, &method, &path, &[("If-Match", "*")], Some(&json!({})));
        match path.as_str() {
            "/v1/presets" => assert_eq!(answer.status, 200),
            _ => assert_eq!(answer.status, 403, "{method} {path}: {answer:?}"),
        }
    }
    // By an id that is another's, under one's own name.
    for path in
        [format!("deliveries/{theirs}"), format!("deliveries?after={theirs}"), "deliveries?tenant=bolt".to_owned()]
    {
        let answer = admin.ask(&token, "GET", &format!("/v1/tenants/acme/{path}"), &[], None);
        assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    }
    admin.ask(&token, "POST", &format!("/v1/tenants/acme/deliveries/{theirs}/redeliver"), &[], None).with(404);
    // What is spelt otherwise is another tenant.
    for tenant in ["ACME", "acme%20", "acme%2F..%2Fbolt", "bolt%00"] {
        let answer = admin.ask(&token, "GET", &format!("/v1/tenants/{tenant}/endpoint"), &[], None);
        assert!([400, 403].contains(&answer.status), "{tenant}: {answer:?}");
    }
    assert_eq!(setup.db.log_rows().await.len(), 1);
}

#[tokio::test]
async fn a_page_of_somebody_elses_reaches_nothing() {
    let (_setup, admin) = administered().await;
    let with = |name: &'static str, value: &str| {
        let headers = [("Authorization", format!("Bearer {OPERATOR}")), (name, value.to_owned())];
        admin.raw("GET", "/v1/deliveries", &headers, b"")
    };
    with("Host", "evil.example").with(403);
    with("Host", &format!("evil.example:{}", admin.port)).with(403);
    with("Origin", "https://evil.example").with(403);
    with("Origin", "null").with(403);
    let own = with("Origin", &admin.origin()).with(200);
    assert_eq!(own.header("access-control-allow-origin"), None);
    assert_eq!(own.header("cache-control"), Some("no-store"));
    let preflight =
        [("Origin", "https://evil.example".to_owned()), ("Access-Control-Request-Method", "GET".to_owned())];
    assert_eq!(admin.raw("OPTIONS", "/v1/deliveries", &preflight, b"").header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn behind_a_proxy_the_configured_origin_is_the_only_name() {
    let setup = Setup::new().await;
    setup.edit_config(&[("admin.origin", json!("https://webhooks.example.com"))]);
    let admin = Admin::start(&setup).await;
    let with = |host: &str, origin: Option<&str>| {
        let mut headers = vec![("Authorization", format!("Bearer {OPERATOR}")), ("Host", host.to_owned())];
        headers.extend(origin.map(|origin| ("Origin", origin.to_owned())));
        admin.raw("GET", "/v1/deliveries", &headers, b"").status
    };
    assert_eq!(with("webhooks.example.com", None), 200);
    assert_eq!(with("webhooks.example.com", Some("https://webhooks.example.com")), 200);
    assert_eq!(with("webhooks.example.com", Some("https://evil.example")), 403);
    assert_eq!(with(&format!("localhost:{}", admin.port), None), 403);
    let probes = [("Host", format!("localhost:{}", admin.port))];
    assert_eq!(admin.raw("GET", "/healthz", &probes, b"").status, 200, "whoever scrapes is on this host");
}

#[tokio::test]
async fn unfinished_requests_of_nobody_known_leave_connections_for_probes() {
    let (_setup, admin) = administered().await;
    let head = format!(
        "POST /admin/sign-in HTTP/1.1\r\nHost: localhost:{0}\r\nOrigin: {1}\r\nConnection: close\r\nContent-Length: 100\r\n\r\ntoken=",
        admin.port,
        admin.origin()
    );
    let unfinished: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", admin.port)).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    admin.raw("GET", "/healthz", &[], b"").with(200);
    let told = |mut stream: TcpStream| {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let told: Vec<_> = unfinished.into_iter().map(told).collect();
    assert!(told.iter().all(|status| ["408", "503"].contains(&status.as_str())), "{told:?}");
    assert!(told.iter().any(|status| status == "503"), "most are not waited for: {told:?}");
}

#[tokio::test]
async fn what_helps_is_told_to_the_tenant_where_it_tells_nothing_of_a_network() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.receiver.queue([Answer::status(401)]);
    let admin = Admin::start(&setup).await;
    let token = admin.token("acme");
    setup.db.insert_lead("acme", "ann@example.com").await;
    let refused = setup.db.wait_for_log(1).await.remove(0);
    let delivery = format!("/v1/tenants/acme/deliveries/{}", refused.delivery_id);
    let hint = |bearer: &str| admin.ask(bearer, "GET", &delivery, &[], None).with(200).body["hint"].clone();
    assert!(hint(&token).as_str().unwrap().contains("verifies by that one"), "{}", hint(&token));
    // As a script of Google's that took too long.
    let slow = "UPDATE lead_webhook.deliveries SET host = 'script.google.com', failure = 'timeout', http_status = NULL,
                    response_content_type = NULL, response_length = NULL";
    setup.db.admin().await.batch_execute(slow).await.unwrap();
    assert!(hint(OPERATOR).as_str().unwrap().contains("time limit of 30s"), "{}", hint(OPERATOR));
    assert_eq!(hint(&token), Value::Null);
}

#[tokio::test]
async fn a_tenants_test_is_no_port_scanner() {
    let setup = Setup::new().await;
    // A name that no server knows, which may be asked for.
    setup.edit_config(&[("egress.allow_hosts", json!(["localhost", "nowhere.invalid"]))]);
    setup.endpoint("acme").await;
    let admin = Admin::start(&setup).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let token = admin.token("acme");
    let told = |token: &str, url: String| {
        let tried =
            admin.ask(token, "POST", &format!("{ENDPOINT}/test"), &[], Some(&json!({ "draft": { "url": url } })));
        tried.with(200).body["delivery"].clone()
    };
    let urls = [format!("https://localhost:{closed}/"), "https://nowhere.invalid/".to_owned()];
    let as_tenant = urls.clone().map(|url| told(&token, url));
    for delivery in &as_tenant {
        assert_eq!((&delivery["failure"], &delivery["error"]), (&json!("connect"), &json!("could not connect")));
        for silent in ["address", "dns_us", "connect_us", "first_byte_us", "total_us"] {
            assert_eq!(delivery[silent], Value::Null, "{silent}");
        }
    }
    let as_operator = urls.map(|url| told(OPERATOR, url));
    assert_eq!(as_operator.each_ref().map(|delivery| &delivery["failure"]), [&json!("connect"), &json!("dns")]);
    // The log tells no more, however it is asked.
    let list =
        |token: &str, query: &str| admin.ask(token, "GET", &format!("/v1/tenants/acme/deliveries?{query}"), &[], None);
    let listed = list(&token, "failure=connect").with(200).body["deliveries"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 4);
    assert!(listed.iter().all(|delivery| delivery["error"] == "could not connect"), "{listed:#?}");
    assert_eq!(list(&token, "failure=dns").with(400).faulty(), ["failure"]);
    assert_eq!(list(OPERATOR, "failure=dns").with(200).body["deliveries"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tests_are_limited_and_say_how_long_to_wait() {
    let (setup, admin, _) = with_endpoint().await;
    let test = || admin.operator("POST", &format!("{ENDPOINT}/test"), Some(&json!({})));
    for _ in 0..10 {
        test().with(200);
    }
    let refused = test().with(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(setup.receiver.requests().len(), 10);
}

#[tokio::test]
async fn what_is_too_long_of_another_kind_or_no_json_is_refused() {
    let (_setup, admin, _) = with_endpoint().await;
    let send = |media_type: &str, body: &[u8]| {
        let mut headers = vec![("Authorization", format!("Bearer {OPERATOR}"))];
        headers.extend((!media_type.is_empty()).then(|| ("Content-Type", media_type.to_owned())));
        admin.raw("POST", &format!("{ENDPOINT}/validate"), &headers, body)
    };
    send("application/json", b"{}").with(200);
    send("application/merge-patch+json; charset=utf-8", b"{}").with(200);
    send("", b"").with(200);
    send("", b"{}").with(415);
    send("text/plain", b"{}").with(415);
    for text in [&b"{"[..], b"[]", b"1", b"\xff", b"{\"a\":1}x", &b"[".repeat(10_000)] {
        send("application/json", text).with(400);
    }
    send("application/json", &vec![b' '; 257 * 1024]).with(413);
    let unknown = admin.operator("GET", "/v1/nothing", None).with(404);
    assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
    let method = admin.operator("PUT", ENDPOINT, None).with(405);
    assert_eq!(method.header("allow"), Some("GET,HEAD,PATCH,DELETE"));
}

#[tokio::test]
async fn a_time_that_postgresql_cannot_hold_is_a_bad_argument() {
    let (setup, admin) = administered().await;
    let early = "-009000-01-01T00:00:00Z";
    for path in ["deliveries", "stats"] {
        let told = admin.operator("GET", &format!("/v1/{path}?since={early}"), None).with(400);
        assert_eq!(told.faulty(), ["since"]);
    }
    let output = setup.run(&["deliveries", "stats", &format!("--since={early}")]).await;
    assert_eq!(output.code, Some(2), "{}", output.stderr);
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_to_wait_and_others_are_not() {
    let (_setup, admin) = administered().await;
    let (busy, other) = (admin.token("acme"), admin.token("bolt"));
    let refused =
        (0..200).map(|_| admin.ask(&busy, "GET", "/v1/presets", &[], None)).find(|answer| answer.status == 429);
    assert!(refused.unwrap().header("retry-after").is_some());
    admin.ask(&other, "GET", "/v1/presets", &[], None).with(200);
}

#[tokio::test]
async fn a_tenant_looks_up_few_names_and_the_operator_as_many_as_it_likes() {
    let (setup, admin, _) = with_endpoint().await;
    let draft = json!({ "url": setup.receiver.url() });
    let validate = |token: &str| admin.ask(token, "POST", &format!("{ENDPOINT}/validate"), &[], Some(&draft));
    let token = admin.token("acme");
    let refused = (0..50).map(|_| validate(&token)).find(|answer| answer.status == 429);
    assert!(refused.unwrap().header("retry-after").is_some());
    assert!((0..50).all(|_| validate(OPERATOR).status == 200));
    // What names no URL looks nothing up.
    let other = json!({ "timeout_ms": 2_000 });
    admin.ask(&token, "POST", &format!("{ENDPOINT}/validate"), &[], Some(&other)).with(200);
}

#[tokio::test]
async fn each_change_leaves_a_line_that_says_who_and_what_and_never_a_value() {
    let (setup, admin, version) = with_endpoint().await;
    let token = admin.token("acme");
    let draft = json!({ "url": setup.receiver.url(), "headers": { "X-Token": "s3cr3t-value" }, "timeout_ms": 2_000 });
    admin.ask(&token, "PATCH", ENDPOINT, &[("If-Match", &version)], Some(&draft)).with(200);
    admin.operator("POST", &format!("{ENDPOINT}/secret"), None).with(201);
    admin.ask(OPERATOR, "DELETE", ENDPOINT, &[("If-Match", "*")], None).with(204);
    admin.daemon.wait_for_log(|line| line.contains("endpoint removed")).await;
    let log = admin.daemon.log();
    let lines: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let audit: Vec<_> = lines.iter().filter(|line| line["message"] == "admin").collect();
    let told = audit.iter().map(|line| ["by", "tenant_id", "action", "subject"].map(|key| line[key].as_str().unwrap()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ["operator", "acme", "token minted", ""],
            ["tenant", "acme", "endpoint saved", "url, headers, timeout"],
            ["operator", "acme", "secret generated", "secret"],
            ["operator", "acme", "endpoint removed", ""],
        ]
    );
    assert!(log.iter().all(|line| !line.contains("s3cr3t-value")));
}

#[tokio::test]
async fn without_a_token_there_is_no_api() {
    let setup = Setup::new().await;
    let admin = Admin::start(&setup).await;
    drop(admin);
    setup.edit_config(&[("admin.token_file", json!(""))]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    setup.edit_config(&[("admin.listen", json!(format!("127.0.0.1:{port}")))]);
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    let admin = Admin { port, daemon };
    assert_eq!(admin.operator("GET", "/v1/presets", None).status, 404);
    assert_eq!(admin.raw("GET", "/healthz", &[], b"").status, 200);
    let minted = setup.run(&["token", "acme"]).await;
    assert!(minted.code == Some(78) && minted.stderr.contains("admin.token_file"), "{minted:?}");
}

#[tokio::test]
async fn a_token_file_that_others_read_or_that_is_short_is_refused_at_the_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = Setup::new().await;
    let file = setup.path("token");
    setup.edit_config(&[("admin.listen", json!("127.0.0.1:0"))]);
    for (text, mode, said) in
        [("short", 0o600, "at least 32 characters"), (&"x".repeat(40), 0o644, "make it 0600"), ("", 0o600, "is empty")]
    {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        setup.edit_config(&[("admin.token_file", json!(file))]);
        for command in [&["token", "acme"][..], &["run"]] {
            let refused = setup.run(command).await;
            assert!(refused.code == Some(78) && refused.stderr.contains(said), "{refused:?}");
        }
        let check = setup.run(&["check"]).await.stdout;
        let line = check.lines().find(|line| line.contains(" admin: ")).unwrap();
        assert!(line.starts_with("fail") && line.contains(said), "{line}");
    }
    // With what else is wrong.
    setup.edit_config(&[("keys.file", json!(setup.path("nowhere")))]);
    let refused = setup.run(&["run"]).await.stderr;
    assert!(refused.contains("missing") && refused.contains("is empty"), "{refused}");
    setup.edit_config(&[("keys.file", json!(setup.key_file()))]);
    // Those who do not need it do not ask for it: systemd hands it out to the daemon alone.
    setup.edit_config(&[("admin.token_file", json!("/run/credentials/nowhere/admin-token"))]);
    setup.run(&["endpoint", "list"]).await.ok();
    let check = setup.run(&["check"]).await.stdout;
    let line = check.lines().find(|line| line.contains(" admin: ")).unwrap();
    assert!(line.starts_with("warn") && line.contains("cannot be read"), "{line}");
}

#[tokio::test]
async fn while_the_database_is_away_it_says_so_and_comes_back() {
    let cluster = Cluster::start(&[]);
    let setup = Setup::on(&cluster).await;
    setup.endpoint("acme").await;
    let admin = Admin::start(&setup).await;
    admin.operator("GET", ENDPOINT, None).with(200);
    cluster.stop(Stop::Fast).await;
    let away = admin.operator("GET", ENDPOINT, None).with(503);
    assert!(away.header("retry-after").is_some(), "{away:?}");
    cluster.start_again().await;
    until("the endpoint again", || admin.operator("GET", ENDPOINT, None).status == 200).await;
}

/// Every operation of the description, with values that its schemas allow and values that they do not.
#[tokio::test]
#[ignore = "takes a minute, and needs Schemathesis: see .ci/run"]
async fn the_api_is_as_its_description_says() {
    let Some(schemathesis) = environment("LEAD_WEBHOOK_SCHEMATHESIS") else {
        return left_out("the API's contract: LEAD_WEBHOOK_SCHEMATHESIS names no Schemathesis");
    };
    let (setup, admin, _) = with_endpoint().await;
    setup.db.insert_leads("acme", 3).await;
    setup.db.wait_for_log(3).await;
    let mut command = Command::new(schemathesis);
    command
        .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/schemathesis.toml"), "run"])
        .arg(format!("{}/v1/openapi.json", admin.origin()))
        .args(["--header", &format!("Authorization: Bearer {OPERATOR}")])
        .current_dir(setup.path("."));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A Test whose receiver has got it, and holds its 418 back.
async fn held_test(setup: &Setup, admin: &Admin) -> (Sent, Gate) {
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(418).behind(&gate));
    let token = [("Authorization", format!("Bearer {OPERATOR}"))];
    let sent = admin.send("POST", &format!("{ENDPOINT}/test"), &token, b"");
    setup.receiver.arrival(1).await;
    (sent, gate)
}

#[tokio::test]
async fn whoever_goes_away_in_the_middle_of_a_test_leaves_its_outcome_in_the_log() {
    let (setup, admin, _) = with_endpoint().await;
    let (sent, gate) = held_test(&setup, &admin).await;
    drop(sent);
    gate.open();
    let ended = async { while setup.db.log_rows().await.iter().all(|row| row.http_status != Some(418)) {} };
    patiently("the Test's outcome in the log", ended).await;
}

#[tokio::test]
async fn a_test_that_is_under_way_at_the_stop_is_answered_and_logged() {
    let (setup, mut admin, _) = with_endpoint().await;
    let (sent, gate) = held_test(&setup, &admin).await;
    let listed = admin.operator("GET", "/v1/tenants/acme/deliveries", None).with(200);
    let id = listed.body["deliveries"][0]["delivery_id"].as_str().unwrap().to_owned();
    let told = admin.operator("GET", &format!("/v1/tenants/acme/deliveries/{id}"), None).with(200);
    assert!(told.body["meaning"].as_str().unwrap().contains("under way"), "{told:?}");
    let shown = setup.run(&["deliveries", "show", &id]).await.ok().stdout;
    assert!(shown.contains("under way") && !shown.contains("The daemon ended before"), "{shown}");
    admin.daemon.signal("TERM");
    admin.daemon.wait_for_log(|line| line.contains("stopping")).await;
    gate.open();
    assert!(admin.daemon.wait().await.success());
    assert_eq!(sent.answer().with(200).body["delivery"]["http_status"], 418);
    assert_eq!(setup.db.log_rows().await[0].http_status, Some(418));
}

#[tokio::test]
async fn a_test_whose_database_goes_away_meanwhile_is_logged_when_it_is_back() {
    let cluster = Cluster::start(&[]);
    let setup = Setup::on(&cluster).await;
    setup.endpoint("acme").await;
    let admin = Admin::start(&setup).await;
    let (sent, gate) = held_test(&setup, &admin).await;
    cluster.stop(Stop::Fast).await;
    gate.open();
    admin.daemon.wait_for_log(|line| line.contains("the admin listener has no")).await;
    cluster.start_again().await;
    assert_eq!(sent.answer().with(200).body["delivery"]["http_status"], 418);
}

/// The server's processes for the daemon's connections.
async fn backends(setup: &Setup) -> Vec<i32> {
    let pids =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user ORDER BY pid";
    setup.db.admin().await.query(pids, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn who_is_refused_costs_the_database_no_connection() {
    let (setup, admin, _) = with_endpoint().await;
    let before = backends(&setup).await;
    let nowhere = "/v1/tenants/acme/deliveries/00000000-0000-4000-8000-000000000000";
    for _ in 0..5 {
        admin.operator("GET", "/v1/tenants/nobody/endpoint", None).with(404);
        admin.operator("GET", nowhere, None).with(404);
        admin.operator("POST", &format!("{nowhere}/redeliver"), None).with(404);
        admin.ask(OPERATOR, "DELETE", ENDPOINT, &[("If-Match", "\"1\"")], None).with(412);
        admin.ask(OPERATOR, "PATCH", ENDPOINT, &[("If-Match", "\"1\"")], Some(&json!({}))).with(412);
        admin.operator("POST", "/v1/tenants/nobody/endpoint/test", None).with(422);
    }
    // The sweep's has ended by now, perhaps.
    let after = backends(&setup).await;
    assert!(after.iter().all(|pid| before.contains(pid)), "{before:?} {after:?}");
}
