//! `deliveries redeliver`: an operator's explicit second send, which is the same event, the lead as it is now, and told apart
//! from the first in the log.

use serde_json::{Value, json};

use crate::{
    audit::age_heartbeats,
    harness::{Answer, Gate, Output, Process, Setup},
};

/// An installation in which operators send again.
async fn installation() -> Setup {
    let setup = Setup::new().await;
    setup.sends_again();
    setup.endpoint("acme").await;
    setup
}

async fn redeliver(setup: &Setup, options: &[&str]) -> Output {
    setup.run(&[&["deliveries", "redeliver", "--rate", "100"], options].concat()).await
}

#[tokio::test]
async fn what_failed_is_sent_again_as_the_same_event_with_the_lead_as_it_is_now() {
    let setup = installation().await;
    setup.receiver.queue([Answer::status(200), Answer::status(503)]);
    let _daemon = setup.daemon();
    for email in ["ann@example.com", "bob@example.com"] {
        setup.db.insert_lead("acme", email).await;
        setup.receiver.wait_for(if email.starts_with('a') { 1 } else { 2 }).await;
    }
    setup.db.wait_for_log(2).await;
    let change = "UPDATE leads SET email = 'rob@example.com' WHERE email = 'bob@example.com'";
    setup.db.app().await.batch_execute(change).await.unwrap();
    let dry = redeliver(&setup, &["--tenant", "acme", "--dry-run"]).await.ok();
    assert!(dry.stderr.contains("1 delivery would be sent again") && dry.stdout.contains("http_status"), "{dry:?}");
    assert_eq!(setup.receiver.requests().len(), 2);
    let done = redeliver(&setup, &["--tenant", "acme"]).await.ok();
    assert!(done.stderr.contains("1 sent again: 1 delivered, 0 not; 0 not sent"), "{}", done.stderr);
    let requests = setup.receiver.requests();
    let [_, first, again] = &requests[..] else { panic!("{}", requests.len()) };
    let header = |name: &str| (first.header(name).unwrap(), again.header(name).unwrap());
    let (one, other) = header("webhook-id");
    assert_eq!(one, other, "receivers dedupe by it");
    let (one, other) = header("X-Wilow-Delivery-Id");
    assert_ne!(one, other);
    assert_eq!(again.json()["email"], "rob@example.com");
    assert_eq!(
        (&again.json()["leadId"], &again.json()["capturedAt"]),
        (&first.json()["leadId"], &first.json()["capturedAt"])
    );
    let rows = setup.db.log_rows().await;
    let redelivery = rows.iter().find(|row| row.redelivery_of.is_some()).unwrap();
    let original = rows.iter().find(|row| row.failure.is_some()).unwrap();
    assert_eq!((redelivery.redelivery_of, redelivery.event_id), (Some(original.delivery_id), original.event_id));
    assert_eq!((redelivery.status.as_str(), redelivery.instance_id), ("delivered", None));
    let counted = setup.run(&["reconcile", "--json"]).await.ok();
    let counts: Value = serde_json::from_str(counted.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&counts["delivered"], &counts["failed"], &counts["sent_twice"]), (&json!(2), &json!(0), &json!(0)));
    // Once is enough, unless somebody insists.
    let nothing = redeliver(&setup, &["--tenant", "acme"]).await.ok();
    assert_eq!(nothing.stderr, "no delivery matches\n");
    let id = original.delivery_id.to_string();
    redeliver(&setup, &[id.split('-').next().unwrap()]).await.ok();
    assert_eq!(setup.receiver.requests().len(), 4);
}

#[tokio::test]
async fn a_redelivery_whose_row_was_lost_meanwhile_is_logged_as_one_all_the_same() {
    let setup = installation().await;
    setup.receiver.queue([Answer::status(503)]);
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    let first = setup.db.wait_for_log(1).await.remove(0);
    let admin = setup.db.admin().await;
    // Another day's, so that nothing but what is written tells them apart.
    admin.batch_execute("UPDATE lead_webhook.deliveries SET queued_at = queued_at - interval '2 days'").await.unwrap();
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let lose = async {
        setup.receiver.wait_for(2).await;
        admin.batch_execute("DELETE FROM lead_webhook.deliveries WHERE redelivery_of IS NOT NULL").await.unwrap();
        gate.open();
    };
    let (again, ()) = tokio::join!(redeliver(&setup, &["--tenant", "acme"]), lose);
    again.ok();
    let rows = setup.db.log_rows().await;
    let redelivery = rows.iter().find(|row| row.delivery_id != first.delivery_id).unwrap();
    assert_eq!((redelivery.redelivery_of, redelivery.status.as_str()), (Some(first.delivery_id), "delivered"));
}

#[tokio::test]
async fn of_what_was_skipped_a_filter_takes_only_what_had_waited_too_long_and_an_id_whatever_it_names() {
    let setup = installation().await;
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.db.insert_lead("acme", "bob@example.com").await;
    {
        setup.edit_config(&[("delivery.max_age", json!("1h"))]);
        let age = "UPDATE lead_webhook.outbox SET queued_at = queued_at - interval '2 hours'
                   WHERE lead_id = (SELECT id::text FROM leads WHERE email = 'bob@example.com')";
        setup.db.admin().await.batch_execute(age).await.unwrap();
        let _daemon = setup.daemon();
        setup.db.wait_for_log(2).await;
    }
    let duplicate = "UPDATE lead_webhook.deliveries SET status = 'skipped', reason = 'duplicate', http_status = NULL, response_length = NULL, sent_at = NULL,
                         first_byte_us = NULL, total_us = NULL, dns_us = NULL, connect_us = NULL
                     WHERE status = 'delivered' RETURNING delivery_id::text";
    let id: String = setup.db.admin().await.query_one(duplicate, &[]).await.unwrap().get(0);
    let again = redeliver(&setup, &["--status", "skipped", "--since", "1h"]).await.ok();
    assert!(again.stderr.contains("1 sent again: 1 delivered"), "{}", again.stderr);
    assert_eq!(setup.receiver.requests().last().unwrap().json()["email"], "bob@example.com");
    redeliver(&setup, &[&id]).await.ok();
    assert_eq!(setup.receiver.requests().last().unwrap().json()["email"], "ann@example.com");
}

#[tokio::test]
async fn one_who_came_back_is_sent_again_with_the_last_conversation_before_the_silence() {
    let setup = installation().await;
    setup.receiver.queue([Answer::status(200), Answer::status(500)]);
    let app = setup.db.app().await;
    let _daemon = setup.daemon();
    app.batch_execute(
        "INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'a@example.com', '2026-01-01Z')",
    )
    .await
    .unwrap();
    setup.db.wait_for_log(1).await;
    app.batch_execute("UPDATE leads SET last_conversation_at = '2026-03-01Z'").await.unwrap();
    let row = setup.db.wait_for_log(2).await.remove(1);
    redeliver(&setup, &[&row.event_id.to_string()]).await.ok();
    let requests = setup.receiver.requests();
    assert_eq!(requests[1].json()["lastConversationAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(requests[2].body, requests[1].body);
}

#[tokio::test]
async fn one_that_was_interrupted_keeps_what_a_redelivery_needs() {
    let setup = installation().await;
    let gate = Gate::closed();
    setup.receiver.queue([Answer::status(200), Answer::status(200).behind(&gate)]);
    let app = setup.db.app().await;
    let mut daemon = setup.daemon();
    app.batch_execute(
        "INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'a@example.com', '2026-01-01Z')",
    )
    .await
    .unwrap();
    setup.db.wait_for_log(1).await;
    app.batch_execute("UPDATE leads SET last_conversation_at = '2026-03-01Z'").await.unwrap();
    setup.receiver.wait_for(2).await;
    daemon.kill9();
    age_heartbeats(&setup).await;
    let _next = setup.daemon();
    assert_eq!(setup.db.wait_for_log(2).await[1].status, "interrupted");
    redeliver(&setup, &["--since", "1h"]).await.ok();
    let requests = setup.receiver.requests();
    assert_eq!(requests[2].body, requests[1].body);
}

#[tokio::test]
async fn a_redelivery_that_is_cut_off_stands_as_interrupted_and_is_not_repeated_by_itself() {
    let setup = installation().await;
    let gate = Gate::closed();
    setup.receiver.queue([Answer::status(503), Answer::status(200).behind(&gate)]);
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    let first = setup.db.wait_for_log(1).await.remove(0).delivery_id;
    let mut cut_off = setup.start(&["deliveries", "redeliver", "--tenant", "acme"], &[], "");
    setup.receiver.wait_for(2).await;
    cut_off.kill9();
    let rows = setup.db.log_rows().await;
    let row = rows.iter().find(|row| row.redelivery_of == Some(first)).unwrap();
    assert_eq!(row.status, "interrupted", "it may have arrived");
    let nothing = redeliver(&setup, &["--tenant", "acme"]).await.ok();
    assert_eq!(nothing.stderr, "no delivery matches\n");
    assert_eq!(setup.receiver.requests().len(), 2);
}

/// Two leads of `acme` that were refused.
async fn two_refused() -> Setup {
    let setup = installation().await;
    setup.receiver.answer(Answer::status(503));
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 2).await;
    setup.db.wait_for_log(2).await;
    setup
}

/// The same while they are sent again: the first has arrived, and is answered once the gate opens.
async fn two_under_way() -> (Setup, Process, Gate) {
    let setup = two_refused().await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let running = setup.start(&["deliveries", "redeliver", "--rate", "100", "--tenant", "acme"], &[], "");
    setup.receiver.wait_for(3).await;
    (setup, running, gate)
}

#[tokio::test]
async fn an_endpoint_that_is_switched_off_meanwhile_gets_nothing_more() {
    let (setup, running, gate) = two_under_way().await;
    setup.run(&["endpoint", "disable", "acme"]).await.ok();
    gate.open();
    let ended = running.output().await;
    assert!(ended.stderr.contains("1 sent again: 1 delivered, 0 not; 1 not sent"), "{}", ended.stderr);
    assert_eq!(setup.receiver.requests().len(), 3);
}

#[tokio::test]
async fn an_outcome_is_written_though_the_session_was_lost_meanwhile() {
    let (setup, running, gate) = two_under_way().await;
    let admin = setup.db.admin().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND usename = $1";
    assert_eq!(admin.query(end, &[&setup.db.daemon_login]).await.unwrap().len(), 1);
    gate.open();
    let ended = running.output().await.ok();
    assert!(ended.stderr.contains("2 sent again: 2 delivered"), "{}", ended.stderr);
    let rows = setup.db.log_rows().await;
    assert_eq!(rows.iter().filter(|row| row.status == "delivered").count(), 2, "{rows:?}");
}

#[tokio::test]
async fn a_lead_without_a_contact_is_not_sent_again() {
    let setup = two_refused().await;
    setup.db.app().await.batch_execute("UPDATE leads SET email = NULL, phone = ' '").await.unwrap();
    let refused = redeliver(&setup, &["--tenant", "acme"]).await;
    assert!(refused.stderr.contains("the lead has no contact any more"), "{}", refused.stderr);
    assert!(refused.code == Some(1) && setup.receiver.requests().len() == 2, "{refused:?}");
}

#[tokio::test]
async fn the_visitor_of_a_skipped_lead_is_known_once_that_was_sent() {
    let setup = installation().await;
    let insert = "INSERT INTO leads (tenant_id, visitor_id, email) VALUES ('acme', 'v', 'ann@example.com')";
    let app = setup.db.app().await;
    setup.run(&["endpoint", "disable", "acme"]).await.ok();
    let _daemon = setup.daemon();
    app.batch_execute(insert).await.unwrap();
    let skipped = setup.db.wait_for_log(1).await.remove(0).delivery_id.to_string();
    setup.run(&["endpoint", "enable", "acme"]).await.ok();
    redeliver(&setup, &[&skipped]).await.ok();
    app.batch_execute(insert).await.unwrap();
    let rows = setup.db.wait_for_log(3).await;
    assert!(rows.iter().any(|row| row.reason.as_deref() == Some("duplicate")), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_sent_is_named_and_nothing_is_logged_of_it() {
    let setup = installation().await;
    setup.endpoint("bolt").await;
    setup.receiver.answer(Answer::status(503));
    {
        let _daemon = setup.daemon();
        for tenant in ["acme", "bolt"] {
            setup.db.insert_lead(tenant, "ann@example.com").await;
        }
        setup.db.wait_for_log(2).await;
    }
    setup.run(&["endpoint", "disable", "bolt"]).await.ok();
    setup.db.app().await.batch_execute("DELETE FROM leads WHERE tenant_id = 'acme'").await.unwrap();
    let refused = redeliver(&setup, &["--since", "1h"]).await;
    assert_eq!(refused.code, Some(1));
    for told in ["tenant acme", "the lead is gone", "tenant bolt", "the tenant's endpoint is off", "2 not sent"] {
        assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    assert_eq!((setup.receiver.requests().len(), setup.db.log_rows().await.len()), (2, 2));
    for (options, told) in [
        (&[][..], "nothing is named"),
        (&["--status", "failed"][..], "at least one of --tenant, --lead and --since"),
        (&["0c5be0b2", "--tenant", "acme"][..], "one of both"),
        (&["x", "00000000-0000-0000-0000-000000000000"][..], "is no id"),
    ] {
        let refused = redeliver(&setup, options).await;
        assert!(refused.code == Some(2) && refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    // A copy of the database sends nothing, by hand neither.
    let admin = setup.db.admin().await;
    admin.batch_execute("UPDATE lead_webhook.installation SET database_name = 'another'").await.unwrap();
    setup.run(&["endpoint", "enable", "bolt"]).await.ok();
    let guarded = redeliver(&setup, &["--tenant", "bolt"]).await;
    assert!(guarded.code == Some(1) && guarded.stderr.contains("nothing is sent"), "{}", guarded.stderr);
    assert_eq!(setup.receiver.requests().len(), 2);
}
