//! What has become of the install is seen from the catalog alone: what no longer fits is named with its remedy, and the
//! remedy puts it right.

use serde_json::{Value, json};

use crate::harness::Application;

const INSERT: &str = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@b.c')";

async fn broken(application: &Application) -> Vec<String> {
    application.broken().await.into_iter().map(|(text, _)| text).collect()
}

#[tokio::test]
async fn triggers_that_are_gone_or_switched_off_are_noticed_and_put_right_by_a_migrate() {
    let application = Application::installed().await;
    assert_eq!(application.broken().await, []);
    application.run("ALTER TABLE leads DISABLE TRIGGER lead_webhook_update").await;
    application.run("DROP TRIGGER lead_webhook_insert ON leads").await;
    let expected = [
        "lead_webhook_insert is not in place: no lead is queued by it",
        "lead_webhook_update is switched off: no lead is queued by it",
    ];
    assert_eq!(broken(&application).await, expected);
    let done = [
        r#"install the triggers on "public"."leads""#,
        "leave a mark, so that daemons look for what was captured meanwhile",
    ];
    assert_eq!(application.migrate().await, done);
    assert_eq!(application.broken().await, []);
}

#[tokio::test]
async fn a_setting_that_changed_is_noticed_until_a_migrate_follows_it() {
    let application = Application::installed().await;
    let rings = "SELECT bool_and(prosrc LIKE '%pg_notify%') FROM pg_proc WHERE proname LIKE 'lead\\_%ed'";
    assert!(application.one::<bool>(rings).await);
    application.setup.edit_config(&[("database.notify", json!("off"))]);
    assert_eq!(broken(&application).await.len(), 2);
    assert_eq!(application.migrate().await.len(), 2);
    assert!(!application.one::<bool>(rings).await);
    assert_eq!(application.broken().await, []);
}

#[tokio::test]
async fn a_right_that_was_taken_from_the_triggers_is_noticed_and_given_back_by_a_migrate() {
    let application = Application::installed().await;
    let owner = application.setup.db.owner_role.clone();
    for taken in
        ["INSERT ON lead_webhook.outbox", "SELECT ON lead_webhook.endpoints", "UPDATE ON SEQUENCE lead_webhook.missed"]
    {
        application.administer(&format!("REVOKE {taken} FROM {owner}")).await;
        let [(text, remedy)] = &application.broken().await[..] else { panic!("{taken} is one thing") };
        assert_eq!(text, &format!("{owner} lacks: GRANT {taken} TO \"{owner}\""));
        assert!(remedy.contains("lead-webhook migrate"), "{remedy}");
        assert_eq!(application.migrate().await, ["let the triggers use what is ours"]);
        assert_eq!(application.broken().await, []);
    }
}

#[tokio::test]
async fn a_table_that_is_no_longer_configured_is_let_go() {
    let application = Application::installed().await;
    application.run("CREATE TABLE prospects (LIKE leads INCLUDING ALL)").await;
    application.run(&INSERT.replace("leads", "prospects")).await;
    let since = "SELECT leads_since > now() - interval '1 hour' FROM lead_webhook.installation";
    application
        .administer("UPDATE lead_webhook.installation SET installed_at = now() - interval '1 day', leads_since = NULL")
        .await;
    application.setup.edit_config(&[("leads.table", json!("public.prospects"))]);
    application.migrate().await;
    assert!(application.one::<bool>(since).await, "what it had before is not new");
    let role = &application.setup.db.daemon_role;
    let may_read = format!("SELECT has_any_column_privilege('{role}', 'leads', 'SELECT')");
    assert!(!application.one::<bool>(&may_read).await);
    application.run(INSERT).await;
    assert_eq!(application.queued().await.len(), 0);
    application.run(&INSERT.replace("leads", "prospects")).await;
    assert_eq!(application.queued().await.len(), 1);
    assert_eq!(application.broken().await, []);
}

#[tokio::test]
async fn a_table_that_was_renamed_is_still_looked_at_for_what_was_missed_before() {
    let application = Application::installed().await;
    application.administer("UPDATE lead_webhook.installation SET leads_since = now() - interval '2 hours'").await;
    application.run("ALTER TABLE leads RENAME TO prospects").await;
    application.setup.edit_config(&[("leads.table", json!("public.prospects"))]);
    assert_eq!(application.migrate().await, ["note what is mapped"]);
    let since = "SELECT leads_since < now() - interval '1 hour' FROM lead_webhook.installation";
    assert!(application.one::<bool>(since).await);
    assert_eq!(application.broken().await, []);
}

#[tokio::test]
async fn an_index_of_ours_that_is_gone_or_unusable_is_noticed_and_made_anew_by_a_migrate() {
    let application = Application::installed().await;
    for (spoilt, name) in [
        ("DROP INDEX lead_webhook.deliveries_event", "deliveries_event"),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lead_webhook.uniqueness_lead'::regclass",
            "uniqueness_lead",
        ),
    ] {
        application.administer(spoilt).await;
        let text = format!(r#"index lead_webhook."{name}" is missing, or not usable"#);
        assert_eq!(broken(&application).await, [text]);
        assert_eq!(application.migrate().await, [format!(r#"make index lead_webhook."{name}" anew"#)]);
        assert_eq!(application.broken().await, []);
    }
    application
        .administer(
            "CREATE INDEX deliveries_lead_ccnew ON lead_webhook.deliveries (lead_id);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'lead_webhook.deliveries_lead_ccnew'::regclass",
        )
        .await;
    let check = application.setup.run(&["check", "--json"]).await.stdout;
    let lines = check.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let remedies: Vec<_> = lines.filter(|line| line["what"] == "tables").map(|line| line["remedy"].clone()).collect();
    let [Value::Null, Value::String(remedy)] = &remedies[..] else { panic!("{remedies:?}") };
    application.administer(remedy).await;
    assert_eq!(application.migrate().await, [""; 0]);
}

#[tokio::test]
async fn a_newer_versions_schema_is_left_alone() {
    let application = Application::installed().await;
    application.administer("INSERT INTO lead_webhook.migrations VALUES (99, 'future', '', '1')").await;
    let refused = application.setup.run(&["migrate"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("migration V99__future is recorded"), "{}", refused.stderr);
    let broken = application.broken().await;
    let [(text, remedy)] = broken.as_slice() else { panic!("{broken:?}") };
    assert!(text.contains("V99__future") && remedy.contains("newer"), "{text}: {remedy}");
}

#[tokio::test]
async fn row_level_security_that_would_hide_leads_is_noticed_with_what_an_administrator_must_run() {
    let application = Application::installed().await;
    application.run("ALTER TABLE leads ENABLE ROW LEVEL SECURITY").await;
    let broken = broken(&application).await;
    let [text] = broken.as_slice() else { panic!("{broken:?}") };
    let (_, remedy) = text.split_once("an administrator runs ").unwrap();
    application.administer(remedy).await;
    assert_eq!(application.broken().await, []);
    application.run(INSERT).await;
    assert_eq!(application.queued().await.len(), 1);
}
