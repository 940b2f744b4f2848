//! The audit: what the application captured, what the log says and what receivers saw, compared; and what `reconcile`
//! says of it.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Client;

use crate::harness::{LogRow, Request, Setup};

/// What a run left, once nothing is pending or in flight any more.
pub(crate) struct Audit {
    /// Log rows of this status.
    pub(crate) delivered: usize,
    /// Log rows of this status.
    pub(crate) interrupted: usize,
    /// Requests at the receiver.
    pub(crate) requests: usize,
    /// Everything that does not fit.
    faults: Vec<String>,
}

impl Audit {
    /// Compares them. Every lead of the table must have been one of a tenant with an endpoint, and everything at rest.
    pub(crate) async fn of(setup: &Setup) -> Self {
        let admin = setup.db.admin().await;
        let leads = admin.query("SELECT id::text FROM leads", &[]).await.unwrap();
        let leads: HashSet<String> = leads.iter().map(|row| row.get(0)).collect();
        let rows = setup.db.log_rows().await;
        let requests = setup.receiver.requests();
        let mut faults = Vec::new();
        if setup.db.outbox_count().await > 0 {
            faults.push("something is pending or in flight".to_owned());
        }
        faults.extend(leads_against_log(&leads, &rows));
        faults.extend(log_against_requests(&rows, &requests));
        let reconciled = setup.run(&["reconcile"]).await;
        if reconciled.code != Some(0) {
            faults.push(format!("reconcile: {}{}", reconciled.stdout, reconciled.stderr));
        }
        let count = |status: &str| rows.iter().filter(|row| row.status == status).count();
        Self { delivered: count("delivered"), interrupted: count("interrupted"), requests: requests.len(), faults }
    }

    /// Every lead has its row, every event at most one request, every request its row.
    ///
    /// Panics with all that does not fit.
    pub(crate) fn assert_sound(&self) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }
}

fn leads_against_log(leads: &HashSet<String>, rows: &[LogRow]) -> Vec<String> {
    let created = |row: &&LogRow| row.event == "lead.created";
    let mut logged: HashMap<&str, usize> = HashMap::new();
    rows.iter().filter(created).for_each(|row| *logged.entry(&row.lead_id).or_default() += 1);
    let lost = leads.iter().filter(|lead| !logged.contains_key(lead.as_str()));
    let lost = lost.map(|lead| format!("lead {lead} has no row in the log"));
    let twice = logged.iter().filter(|(_, n)| **n > 1).map(|(lead, n)| format!("lead {lead} has {n} rows in the log"));
    lost.chain(twice).collect()
}

fn log_against_requests(rows: &[LogRow], requests: &[Request]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    requests.iter().for_each(|request| *seen.entry(header(request, "webhook-id")).or_default() += 1);
    faults.extend(seen.iter().filter(|(_, n)| **n > 1).map(|(event, n)| format!("event {event} was sent {n} times")));
    let by_delivery: HashMap<String, &LogRow> = rows.iter().map(|row| (row.delivery_id.to_string(), row)).collect();
    let sent: HashSet<String> = requests.iter().map(|request| header(request, "x-wilow-delivery-id")).collect();
    for delivery in &sent {
        match by_delivery.get(delivery) {
            None => faults.push(format!("delivery {delivery} was sent and is not in the log")),
            Some(row) if row.status == "skipped" => faults.push(format!("delivery {delivery} was sent and is skipped")),
            Some(_) => {}
        }
    }
    let delivered = rows.iter().filter(|row| row.status == "delivered" && !sent.contains(&row.delivery_id.to_string()));
    faults
        .extend(delivered.map(|row| format!("delivery {} is logged as delivered and never arrived", row.delivery_id)));
    faults
}

fn header(request: &Request, name: &str) -> String {
    request.header(name).unwrap_or_default().to_owned()
}

/// Makes dead daemons' last heartbeats old, so that nobody waits for the 30 s.
pub(crate) async fn age_heartbeats(setup: &Setup) {
    let admin = setup.db.admin().await;
    until_server_is_old(&admin).await;
    // Claims of those that have no heartbeat any more count from when they were made.
    let age = "UPDATE lead_webhook.instances SET renewed_at = renewed_at - interval '1 minute';
               UPDATE lead_webhook.outbox SET claimed_at = claimed_at - interval '1 minute'";
    admin.batch_execute(age).await.unwrap();
}

/// Waits until the server has been up for so long that a daemon can be taken for dead at all.
pub(crate) async fn until_server_is_old(admin: &Client) {
    let wait = "SELECT pg_sleep(greatest(0, 31 - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())))";
    admin.batch_execute(wait).await.unwrap();
}
