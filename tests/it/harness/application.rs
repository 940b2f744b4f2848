//! [`Application`]: the application beside which we are installed: its one session, and what our triggers made of what
//! it wrote there. No daemon runs, so that what is queued stays to be looked at.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::SinkExt as _;
use lead_webhook::{
    config::{self, Config},
    store::{
        bell, connect,
        install::{Verdict, verify},
        session::Session,
    },
};
use serde_json::Value;
use tokio_postgres::{AsyncMessage, Client, NoTls, types::FromSqlOwned};

use super::{Cluster, Database, Output, Receiver, Setup, patiently, until_true};

/// An application with its leads table, and the installation beside it.
pub struct Application {
    /// The installation.
    pub setup: Setup,
    session: Client,
    notices: Arc<Mutex<Vec<String>>>,
    admin: Client,
}

impl Application {
    /// The application alone; nothing of ours is in its database.
    pub async fn alone(db: Database) -> Self {
        let setup = Setup::prepare(db, Receiver::start()).await;
        let notices = Arc::new(Mutex::default());
        let session = listened_to(&setup.db.url(&setup.db.app_login), Arc::clone(&notices)).await;
        let admin = setup.db.admin().await;
        Self { setup, session, notices, admin }
    }

    /// With the default table, our schema and an endpoint for tenant `acme`.
    pub async fn installed() -> Self {
        Self::installed_in(Database::create(&Cluster::shared()).await, &[]).await
    }

    /// The same with tables of its own.
    pub async fn installed_beside(tables: &str) -> Self {
        Self::installed_in(Database::create_with(&Cluster::shared(), tables).await, &[]).await
    }

    /// The same in this database, under further keys of the configuration.
    pub async fn installed_in(db: Database, config: &[(&str, Value)]) -> Self {
        let application = Self::alone(db).await;
        application.setup.edit_config(config);
        application.migrate().await;
        application.setup.endpoint("acme").await;
        application
    }

    /// Runs `migrate`; what it did, a line each.
    pub async fn migrate(&self) -> Vec<String> {
        done(&self.setup.run(&["migrate"]).await.ok())
    }

    /// Does what a daemon does before it rests.
    pub async fn arm_the_bell(&self) {
        let database = self.config().database;
        let connected = connect::connect(&database.url, &database).await.unwrap();
        bell::arm(&mut Session::new(connected)).await.unwrap();
    }

    /// Runs SQL in the application's session.
    ///
    /// Panics where it fails, and where it does not come back.
    pub async fn run(&self, sql: &str) {
        patiently("the application's statement", self.session.batch_execute(sql)).await.unwrap();
    }

    /// COPY into the leads table by the application, a row a line.
    pub async fn copy(&self, columns: &str, rows: &str) {
        let sql = format!("COPY leads ({columns}) FROM STDIN");
        let mut sink = Box::pin(self.session.copy_in(&sql).await.unwrap());
        sink.send(Bytes::copy_from_slice(rows.as_bytes())).await.unwrap();
        sink.as_mut().finish().await.unwrap();
    }

    /// Runs SQL that the server refuses to the application; the SQLSTATE.
    pub async fn refusal(&self, sql: &str) -> String {
        let refused = self.session.batch_execute(sql).await.expect_err("the server allows it");
        refused.code().expect("the server's own error").code().to_owned()
    }

    /// The warnings in the application's session since the last call.
    pub fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap())
    }

    /// Runs SQL as the administrator.
    pub async fn administer(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The one value that the administrator's query gives.
    pub async fn one<T: FromSqlOwned>(&self, sql: &str) -> T {
        self.admin.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    /// The texts that the administrator's query gives.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Waits until the administrator's query, which asks for what `what` names, gives true.
    pub async fn until(&self, what: &str, sql: &str) {
        until_true(&self.admin, what, sql).await;
    }

    /// The outbox, in the order of the leads: lead, kind, previous conversation, and `off` where the endpoint was.
    pub async fn queued(&self) -> Vec<String> {
        self.texts(
            "SELECT concat_ws(' ', lead_id, kind, previous_conversation_at AT TIME ZONE 'UTC',
                              CASE WHEN NOT was_enabled THEN 'off' END)
             FROM lead_webhook.outbox ORDER BY length(lead_id), lead_id, queued_at",
        )
        .await
    }

    /// Empties the outbox.
    pub async fn forget_queued(&self) {
        self.administer("DELETE FROM lead_webhook.outbox").await;
    }

    /// How many times the mark has moved that a failing trigger leaves.
    pub async fn missed(&self) -> i64 {
        self.one("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM lead_webhook.missed").await
    }

    /// The configuration as the program reads it.
    pub fn config(&self) -> Config {
        config::load(Some(&self.setup.config_file())).unwrap()
    }

    /// What is broken, as the daemon's login finds it: text and remedy.
    pub async fn broken(&self) -> Vec<(String, String)> {
        let config = self.config();
        let mut session = connect::connect(&config.database.url, &config.database).await.unwrap();
        let findings = verify(&mut session.client, &config).await.unwrap();
        let broken = findings.into_iter().filter(|finding| finding.verdict == Verdict::Broken);
        broken.map(|finding| (finding.text, finding.remedy.unwrap_or_default())).collect()
    }
}

/// What a `migrate` or `uninstall` says that it did.
pub fn done(output: &Output) -> Vec<String> {
    lines_after("done: ", output)
}

/// What a `migrate` or `uninstall` says that the operator should know.
pub fn notes(output: &Output) -> Vec<String> {
    lines_after("note: ", output)
}

fn lines_after(prefix: &str, output: &Output) -> Vec<String> {
    output.stderr.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
}

/// A session whose notices are kept.
#[expect(clippy::disallowed_methods, reason = "the session's end is the client's, or the test's")]
async fn listened_to(url: &str, notices: Arc<Mutex<Vec<String>>>) -> Client {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("a session of the application");
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                notices.lock().unwrap().push(format!("{}: {}", notice.severity(), notice.message()));
            }
        }
    });
    client
}
