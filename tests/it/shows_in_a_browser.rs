//! The admin page in a real browser: the whole story of a tenant and of the operator, by what people see and press. With
//! `LEAD_WEBHOOK_SCREENSHOTS` naming a folder, each page is kept there at three widths, light and dark: docs/screenshots.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Admin, Answer, OPERATOR, Setup, environment, left_out};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// A browser that Playwright can drive.
fn chromium() -> Option<String> {
    let named = environment("LEAD_WEBHOOK_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".to_owned());
    std::path::Path::new(&named).exists().then_some(named)
}

#[tokio::test]
#[ignore = "needs Chromium, node, and `npm ci` in tests/browser"]
async fn a_tenant_and_the_operator_do_everything_on_the_page() {
    let Some(chromium) = chromium() else {
        return left_out("the admin page in a browser: no Chromium here");
    };
    let setup = Setup::new().await;
    let admin = Admin::start(&setup).await;
    setup.endpoint("bolt").await;
    let insert = "INSERT INTO leads (tenant_id, email, first_name) VALUES ('acme', 'ann@example.com', 'Ann')";
    setup.db.app().await.execute(insert, &[]).await.unwrap();
    setup.receiver.queue([Answer::status(503)]);
    setup.sends_again();
    let told = json!({
        "origin": admin.origin(),
        "tenantToken": admin.token("acme"),
        "operatorToken": OPERATOR,
        "url": setup.receiver.url(),
        "chromium": chromium,
        "screenshots": environment("LEAD_WEBHOOK_SCREENSHOTS"),
    });
    let mut story = Command::new("node")
        .arg("story.mjs")
        .current_dir(FOLDER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to_story = story.stdin.take().unwrap();
    writeln!(to_story, "{told}").unwrap();
    let mut lines = BufReader::new(story.stdout.take().unwrap()).lines();
    let mut is_well = false;
    loop {
        let (line, rest) = tokio::task::spawn_blocking(move || (lines.next(), lines)).await.unwrap();
        lines = rest;
        match line.map(Result::unwrap).as_deref() {
            Some("lead") => {
                let before = setup.db.log_rows().await.len();
                setup.db.insert_leads("acme", 1).await;
                setup.db.wait_for_log(before + 1).await;
                writeln!(to_story, "done").unwrap();
            }
            Some("well") => is_well = true,
            Some(other) => println!("{other}"),
            None => break,
        }
    }
    assert!(story.wait().unwrap().success() && is_well);
    let saved: Value = admin.operator("GET", "/v1/tenants/acme/endpoint", None).with(200).body;
    assert_eq!((&saved["template"], &saved["takes_leads"]), (&json!(r#"{"only":"{{leadId}}"}"#), &json!(true)));
    assert_eq!(saved["headers"], json!({ "X-Team": "••••••" }));
}
