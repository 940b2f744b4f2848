//! The crash loop: daemons that are killed, frozen, stopped and continued, sessions that are ended and a server that
//! restarts, at random and again and again. In the end every lead is accounted for, nothing was sent twice, and nothing
//! is in doubt of a daemon that was well.
//!
//! `SOAK_ROUNDS` and `SOAK_SEED` in the environment make it longer or repeat it; with the feature `failpoints` daemons
//! also end by themselves, at each step of a delivery. See `scripts/soak`.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    audit::{Audit, age_heartbeats, until_server_is_old},
    harness::{Answer, Cluster, Process, Setup, Stop, environment, patiently},
};

/// Daemons on the one database.
const DAEMONS: usize = 3;

const TENANTS: [&str; 3] = ["acme", "bolt", "core"];

/// Faults, unless the environment says otherwise: half of them while the server restarts as well.
const ROUNDS: u64 = 50;

/// How long a daemon is left in peace between two faults, at most.
const PEACE: u64 = 150;

/// Where daemons end by themselves, with the feature `failpoints`.
const STEPS: [&str; 8] = [
    "claim::decided",
    "claim::committed",
    "sending::begun",
    "sending::answered",
    "recorder::collected",
    "recorder::written",
    "dispatcher::drained",
    "recorder::gave_back",
];

/// What the receiver makes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reply {
    Ok,
    Error,
    Reset,
}

impl Reply {
    /// The same for the same delivery, so that its row can be compared with it. By the last byte: the first is the hour.
    fn to(delivery: Uuid) -> Self {
        match delivery.as_bytes()[15] % 10 {
            0 => Self::Error,
            1 => Self::Reset,
            _ => Self::Ok,
        }
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Ok => Self::status(200),
            Reply::Error => Self::status(500),
            Reply::Reset => Self::reset(),
        }
    }
}

/// Chance, the same again for the same seed.
struct Dice(u64);

impl Dice {
    /// From 0 to below `n`. By xorshift: good enough, and no library is needed to say it again.
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn daemon(&mut self) -> usize {
        usize::try_from(self.roll(DAEMONS as u64)).unwrap()
    }
}

fn number(variable: &str) -> Option<u64> {
    environment(variable)?.parse().ok()
}

struct Loop {
    setup: Setup,
    dice: Dice,
    daemons: Vec<Process>,
    /// How many leads were tried to insert, for contacts of their own.
    leads: u64,
    /// Claims that stood when their daemons were killed, or frozen for longer than is allowed. Not all: the server may
    /// still carry out what such a daemon had asked for.
    in_doubt: usize,
    /// Until when the daemon of each instance was seen running, and never frozen for longer than is allowed.
    well_until: HashMap<Uuid, Timestamp>,
    /// Process ids of those that were.
    frozen_for_long: Vec<u32>,
}

impl Loop {
    async fn begin(seed: u64) -> Self {
        let setup = Setup::on(&Cluster::start(&[])).await;
        setup.edit_config(&[
            ("delivery.concurrency", json!(8)),
            ("delivery.per_endpoint", json!(4)),
            ("delivery.drain_timeout", json!("5s")),
            // No attempt runs out of time while its daemon is frozen.
            ("delivery.timeout", json!("60s")),
            ("delivery.connect_timeout", json!("30s")),
            ("database.poll_interval", json!("1s")),
        ]);
        for tenant in TENANTS {
            setup.endpoint(tenant).await;
        }
        // Some answers take their time, so that there is something in flight whenever a fault comes.
        let mut nth = 0;
        setup.receiver.answer_with(move |request| {
            nth += 1;
            let delivery = request.header("x-wilow-delivery-id").unwrap().parse().unwrap();
            Answer::from(Reply::to(delivery)).after(Duration::from_millis(nth % 5 * 10))
        });
        setup.db.app().await.batch_execute("CREATE TABLE comebacks (id uuid)").await.unwrap();
        let mut this = Self {
            setup,
            dice: Dice(seed),
            daemons: Vec::new(),
            leads: 0,
            in_doubt: 0,
            well_until: HashMap::new(),
            frozen_for_long: Vec::new(),
        };
        this.daemons = (0..DAEMONS).map(|_| this.daemon()).collect();
        this
    }

    fn daemon(&self) -> Process {
        let points = STEPS.map(|step| format!("{step}=1%panic")).join(";");
        // Without the feature nobody reads it.
        self.setup.daemon_with(&[("FAILPOINTS", &points)])
    }

    /// Some more leads, a few of them of visitors that are known already. The server may be away.
    async fn insert(&mut self) -> Option<()> {
        let session = self.setup.db.try_app().await?;
        for _ in 0..1 + self.dice.roll(12) {
            self.leads += 1;
            let (tenant, n) = (TENANTS[usize::try_from(self.dice.roll(3)).unwrap()], self.leads);
            let known = if self.dice.roll(8) == 0 { self.dice.roll(n) } else { n };
            let insert = "INSERT INTO leads (tenant_id, visitor_id, email, last_conversation_at)
                          VALUES ($1, $2, $2 || '@example.com', '2000-01-01')";
            session.execute(insert, &[&tenant, &format!("visitor{known}")]).await.ok()?;
        }
        // One that is known comes back after a long silence.
        let comes_back =
            "WITH back AS (UPDATE leads SET last_conversation_at = last_conversation_at + interval '100 days'
                                        WHERE id::text = $1 RETURNING id)
                          INSERT INTO comebacks SELECT id FROM back";
        let admin = self.setup.db.try_admin().await?;
        let known =
            "SELECT lead_id FROM lead_webhook.deliveries WHERE event = 'lead.created' ORDER BY random() LIMIT 1";
        let known = admin.query_opt(known, &[]).await.ok()??;
        session.execute(comes_back, &[&known.get::<_, &str>(0)]).await.ok()?;
        Some(())
    }

    /// One fault, of whatever kind.
    async fn fault(&mut self, server_too: bool) {
        let one = self.dice.daemon();
        match self.dice.roll(if server_too { 12 } else { 9 }) {
            0..=3 => self.daemons[one].kill9(),
            4 | 5 => {
                self.daemons[one].signal("STOP");
                sleep(Duration::from_millis(self.dice.roll(2 * PEACE))).await;
                self.daemons[one].signal("CONT");
            }
            6 => {
                self.daemons[one].signal("TERM");
                self.daemons[one].wait().await;
            }
            7 => {
                let admin = self.setup.db.admin().await;
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5";
                admin.batch_execute(end).await.ok();
            }
            8 => self.freeze_for_long(one, server_too).await,
            9 | 10 => self.setup.db.cluster.restart(Stop::Immediate).await,
            _ => self.setup.db.cluster.restart(Stop::Fast).await,
        }
    }

    /// For longer than its heartbeat allows: another daemon takes its claims for dead. The server must be old enough.
    async fn freeze_for_long(&mut self, one: usize, server_is_young: bool) {
        if server_is_young {
            return;
        }
        let id = self.daemons[one].id();
        self.frozen_for_long.push(id);
        self.daemons[one].signal("STOP");
        let admin = self.setup.db.admin().await;
        self.in_doubt += claims_of(&admin, &self.daemons[one]).await;
        let age =
            "UPDATE lead_webhook.instances SET renewed_at = renewed_at - interval '1 minute' WHERE process_id = $1";
        admin.execute(age, &[&i32::try_from(id).unwrap()]).await.unwrap();
        sleep(Duration::from_millis(self.dice.roll(6_000))).await;
        self.daemons[one].signal("CONT");
    }

    /// One that has ended by itself since it was asked for is as good as well: nobody takes it for dead for another 30 s.
    fn look_who_is_well(&mut self) {
        let now = Timestamp::now();
        for daemon in &self.daemons {
            if !self.frozen_for_long.contains(&daemon.id())
                && let Some(instance) = instance_of(daemon)
            {
                self.well_until.insert(instance, now);
            }
        }
    }

    /// Those that have ended are started again, as systemd does.
    async fn revive(&mut self) {
        for one in 0..DAEMONS {
            if self.daemons[one].has_ended() {
                self.in_doubt += claims_of(&self.setup.db.admin().await, &self.daemons[one]).await;
                self.daemons[one] = self.daemon();
            }
        }
    }

    async fn rounds(&mut self, rounds: u64, server_too: bool) {
        for _ in 0..rounds {
            self.insert().await;
            sleep(Duration::from_millis(self.dice.roll(PEACE))).await;
            // First those that have ended by themselves, which may be half a minute ago.
            self.revive().await;
            self.look_who_is_well();
            self.fault(server_too).await;
            self.revive().await;
        }
    }

    /// Everything comes to rest, and is compared.
    async fn end(mut self) -> (Audit, usize) {
        for daemon in &mut self.daemons {
            daemon.kill9();
            self.in_doubt += claims_of(&self.setup.db.admin().await, daemon).await;
        }
        age_heartbeats(&self.setup).await;
        let _last = self.setup.daemon();
        patiently("an empty outbox", async {
            while self.setup.db.outbox_count().await > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(faults_of_rows(&self.setup, &self.well_until).await, [""; 0]);
        (Audit::of(&self.setup).await, self.in_doubt)
    }
}

/// What each row says, compared with what the application wrote and the receiver answered.
async fn faults_of_rows(setup: &Setup, well_until: &HashMap<Uuid, Timestamp>) -> Vec<String> {
    let admin = setup.db.admin().await;
    let mut faults = Vec::new();
    for row in setup.db.log_rows().await {
        let expected = match (row.status.as_str(), Reply::to(row.delivery_id)) {
            ("interrupted", _) => {
                let well_until = row.instance_id.and_then(|instance| well_until.get(&instance));
                well_until.is_none_or(|well_until| row.finished_at > *well_until)
            }
            ("delivered", reply) => reply == Reply::Ok,
            ("failed", Reply::Error) => row.failure.as_deref() == Some("http_status") && row.http_status == Some(500),
            ("failed", Reply::Reset) => row.failure.as_deref() == Some("protocol"),
            ("skipped", _) => row.reason.as_deref() == Some("duplicate"),
            _ => false,
        };
        if !expected {
            faults.push(format!("{row:?}"));
        }
    }
    let sql = "WITH logged AS (
                   SELECT l.tenant_id, l.visitor_id, l.id, d.event, d.status = 'skipped' AS is_skipped
                   FROM leads l LEFT JOIN lead_webhook.deliveries d ON d.lead_id = l.id::text
               )
               SELECT format('%s of %s: %s created', visitor_id, tenant_id, count(*)) FROM logged
               WHERE event = 'lead.created' AND NOT is_skipped GROUP BY tenant_id, visitor_id HAVING count(*) > 1
               UNION ALL
               SELECT format('%s of %s: none created', visitor_id, tenant_id) FROM logged
               GROUP BY tenant_id, visitor_id
               HAVING NOT coalesce(bool_or(event = 'lead.created' AND NOT is_skipped), false)
               UNION ALL
               SELECT format('lead %s came back %s times: %s rows', id, came_back, logged)
               FROM (SELECT l.id, (SELECT count(*) FROM comebacks c WHERE c.id = l.id) AS came_back,
                            (SELECT count(*) FROM lead_webhook.deliveries d
                             WHERE d.lead_id = l.id::text AND d.event = 'lead.re_engaged') AS logged
                     FROM leads l) counted
               WHERE came_back <> logged";
    faults.extend(admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
    faults
}

fn instance_of(daemon: &Process) -> Option<Uuid> {
    let started = daemon.log().into_iter().find(|line| line.contains("\"starting\""))?;
    let started: serde_json::Value = serde_json::from_str(&started).unwrap();
    Some(started["instance.id"].as_str().unwrap().parse().unwrap())
}

/// What stands claimed by a daemon. It may have no heartbeat any more: taken for dead, it claims on until it notices.
async fn claims_of(admin: &Client, daemon: &Process) -> usize {
    let Some(instance) = instance_of(daemon) else { return 0 };
    let claims = "SELECT count(*) FROM lead_webhook.outbox WHERE claimed_by = $1";
    let claims: i64 = admin.query_one(claims, &[&instance]).await.unwrap().get(0);
    usize::try_from(claims).unwrap()
}

#[tokio::test]
async fn every_lead_is_accounted_for_and_nothing_is_sent_twice_whatever_is_killed_frozen_or_restarted() {
    let seed = number("SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 16 | 1);
    let rounds = number("SOAK_ROUNDS").unwrap_or(ROUNDS);
    println!("SOAK_SEED={seed} SOAK_ROUNDS={rounds}");
    let mut faults = Loop::begin(seed).await;
    faults.rounds(rounds / 2, true).await;
    until_server_is_old(&faults.setup.db.admin().await).await;
    faults.rounds(rounds - rounds / 2, false).await;
    let (audit, in_doubt) = faults.end().await;
    println!(
        "{} delivered, {} interrupted, {in_doubt} seen in doubt, {} requests",
        audit.delivered, audit.interrupted, audit.requests
    );
    audit.assert_sound();
    // What it says of no leads, no requests or no kills would be worth nothing.
    let least = usize::try_from(rounds).unwrap();
    assert!(audit.delivered >= least && in_doubt > 0, "{} delivered, {in_doubt} in doubt", audit.delivered);
}
