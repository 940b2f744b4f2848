//! [`Setup`]: an installation as an operator makes it, by the real commands.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsString,
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Cluster, Database, Output, Pooler, Process, Receiver, canary, environment, program};

/// A database with our schema, a receiver, and the configuration that joins them.
pub struct Setup {
    /// Where the leads are.
    pub db: Database,
    /// Where they are sent.
    pub receiver: Receiver,
    files: TempDir,
    /// What the daemon goes through, where the environment says that all do.
    pooler: Option<Pooler>,
    config: Mutex<BTreeMap<String, BTreeMap<String, Value>>>,
    has_unaccounted: AtomicBool,
    sends_again: AtomicBool,
}

impl Setup {
    /// Everything in place up to `migrate`, on the shared server.
    pub async fn new() -> Self {
        Self::on(&Cluster::shared()).await
    }

    /// The same on a server of the test's choice.
    pub async fn on(cluster: &Arc<Cluster>) -> Self {
        let receiver = Receiver::start_in(cluster.folder());
        let setup = Self::prepare(Database::create(cluster).await, receiver).await;
        setup.run(&["migrate"]).await.ok();
        setup
    }

    /// Configuration and key file only.
    pub async fn prepare(db: Database, receiver: Receiver) -> Self {
        let files = db.cluster.folder();
        let pooler = match environment("LEAD_WEBHOOK_TEST_POOLER") {
            Some(_) => Pooler::start(&db, &[("default_pool_size", "4")]).await,
            None => None,
        };
        let setup = Self {
            db,
            receiver,
            files,
            pooler,
            config: Mutex::default(),
            has_unaccounted: AtomicBool::new(false),
            sends_again: AtomicBool::new(false),
        };
        setup.edit_config(&[
            ("database.url", json!(setup.db.url(&setup.db.daemon_login))),
            ("database.owner_url", json!(setup.db.admin_url())),
            ("database.owner_role", json!(setup.db.owner_role)),
            ("database.daemon_role", json!(setup.db.daemon_role)),
            ("egress.allow_hosts", json!(["localhost"])),
            ("egress.allow_networks", json!(["127.0.0.0/8"])),
            ("egress.ca_file", json!(setup.receiver.ca_file())),
            ("keys.file", json!(setup.key_file())),
            // Everything that a daemon may ever say is looked through.
            ("log.level", json!("trace")),
        ]);
        if let Some(pooler) = &setup.pooler {
            setup.edit_config(&[
                ("database.url", json!(pooler.url(&setup.db.daemon_login))),
                ("database.listen_url", json!(setup.db.url(&setup.db.daemon_login))),
            ]);
        }
        let key_file = setup.key_file();
        setup.run(&["key", "generate", "--out", key_file.to_str().unwrap()]).await.ok();
        canary::plant_keys(&fs::read_to_string(key_file).unwrap());
        setup
    }

    /// Sets keys of the configuration, `section.key` each, and writes the file anew. A running daemon reads it at SIGHUP.
    pub fn edit_config(&self, keys: &[(&str, Value)]) {
        let mut config = self.config.lock().unwrap();
        for (path, value) in keys {
            let (section, key) = path.rsplit_once('.').expect("section.key");
            config.entry(section.to_owned()).or_default().insert(key.to_owned(), value.clone());
        }
        fs::write(self.config_file(), toml(&config)).unwrap();
    }

    /// The configuration's path.
    pub fn config_file(&self) -> PathBuf {
        self.path("lead-webhook.toml")
    }

    /// The key file's path.
    pub fn key_file(&self) -> PathBuf {
        self.path("keys")
    }

    /// A path for a further file, removed with the rest.
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Makes the tenant an endpoint at the receiver and generates its secret; the secret, as printed.
    pub async fn endpoint(&self, tenant: &str) -> String {
        self.run(&["endpoint", "set", tenant, "--url", &self.receiver.url()]).await.ok();
        let printed = self.run(&["secret", "generate", tenant]).await.ok().stdout;
        let secret = printed.split_whitespace().find(|word| word.starts_with("whsec_"));
        let secret = secret.expect("a secret on stdout");
        canary::plant(secret);
        secret.to_owned()
    }

    /// Events are sent again by the operator, as this test wants it.
    pub fn sends_again(&self) {
        self.sends_again.store(true, Relaxed);
    }

    /// In the end some leads are unaccounted, as this test wants it.
    pub fn leaves_leads_unaccounted(&self) {
        self.has_unaccounted.store(true, Relaxed);
    }

    /// Starts the daemon.
    pub fn daemon(&self) -> Process {
        self.daemon_with(&[])
    }

    /// Starts the daemon with further variables in its environment.
    pub fn daemon_with(&self, env: &[(&str, &str)]) -> Process {
        Process::daemon(&self.config_file(), env)
    }

    /// Starts the daemon by another program, which becomes it.
    pub fn daemon_by(&self, by: &[&str]) -> Process {
        Process::daemon_by(by, &self.config_file(), &[])
    }

    /// Runs a command of the program to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[], "").await
    }

    /// Runs a command with further variables in its environment, and an input.
    pub async fn run_with(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
        self.start(args, env, input).output().await
    }

    /// Starts a command that goes on until it is stopped.
    pub fn start(&self, args: &[&str], env: &[(&str, &str)], input: &str) -> Process {
        let mut all = vec![OsString::from("--config"), self.config_file().into()];
        all.extend(args.iter().map(OsString::from));
        Process::start(&all, env, input)
    }
}

impl Drop for Setup {
    /// Whatever a test did, no event was sent twice, and where `reconcile` can be run it finds each lead accounted for.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let mut sent = HashSet::new();
        for request in self.receiver.requests() {
            let event = request.header("webhook-id").unwrap_or_default();
            let is_first = event.is_empty() || sent.insert(event.to_owned());
            assert!(is_first || self.sends_again.load(Relaxed), "event {event} was sent twice");
        }
        let mut reconcile = Command::new(program());
        let reconcile =
            reconcile.env_clear().arg("--config").arg(self.config_file()).arg("reconcile").output().unwrap();
        let said = String::from_utf8_lossy(&reconcile.stderr);
        let found = String::from_utf8_lossy(&reconcile.stdout);
        assert_eq!(said.contains("unaccounted"), self.has_unaccounted.load(Relaxed), "{found}{said}");
    }
}

/// Strings, numbers, booleans and arrays read the same in JSON and TOML.
fn toml(config: &BTreeMap<String, BTreeMap<String, Value>>) -> String {
    let section = |(name, keys): (&String, &BTreeMap<String, Value>)| {
        let lines: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        format!("[{name}]\n{lines}\n")
    };
    config.iter().map(section).collect()
}
