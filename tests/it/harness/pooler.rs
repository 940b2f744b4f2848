//! [`Pooler`]: a PgBouncer between the program and the server, as an ordinary user, on a port of its own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    Database,
    cluster::{free_port, ordinary_user},
    database::connect,
    environment, left_out, patiently,
};

/// Two server connections, for however many sessions. A server that was away is tried again after a second, not 15.
const SETTINGS: [(&str, &str); 8] = [
    ("listen_addr", "127.0.0.1"),
    ("unix_socket_dir", ""),
    ("auth_type", "trust"),
    ("pool_mode", "transaction"),
    ("default_pool_size", "2"),
    ("max_client_conn", "200"),
    ("admin_users", "postgres"),
    ("server_login_retry", "1"),
];

/// Between two looks whether it takes connections.
const LOOK: Duration = Duration::from_millis(20);

/// A running PgBouncer. Killed when dropped, and with the thread that started it; what it logged is shown when the test
/// fails.
pub struct Pooler {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    name: String,
    child: Child,
}

impl Pooler {
    /// One in front of `db`'s server, with further settings. `None`: there is no PgBouncer here. That is printed: nothing
    /// is left out in silence.
    pub async fn start(db: &Database, settings: &[(&str, &str)]) -> Option<Self> {
        let Some(program) = program() else {
            left_out("what needs PgBouncer, which is not installed here");
            return None;
        };
        let (folder, port) = (db.cluster.folder(), free_port());
        let users = [&db.daemon_login, &db.app_login, "postgres"].map(|user| format!("\"{user}\" \"\"\n"));
        write(&folder, "users", &users.concat());
        let head = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_port = {port}\nauth_file = {}\n",
            db.cluster.port(),
            folder.path().join("users").display()
        );
        let settings = SETTINGS.iter().chain(settings).map(|(name, value)| format!("{name} = {value}\n"));
        write(&folder, "pgbouncer.ini", &settings.fold(head, |ini, line| ini + &line));
        let child = spawn(&program, &folder);
        let pooler = Self { program, folder, port, name: db.name.clone(), child };
        pooler.until_it_answers().await;
        Some(pooler)
    }

    /// A URL for `login` through it.
    pub fn url(&self, login: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// A URL for `login` through it, to another database.
    pub fn url_to(&self, login: &str, database: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a command of its console: `RECONNECT`, `PAUSE`, `RESUME`, `RELOAD`.
    pub async fn command(&self, command: &str) {
        let console = connect(&self.url_to("postgres", "pgbouncer")).await.expect("PgBouncer's console");
        console.simple_query(command).await.unwrap_or_else(|error| panic!("{command}: {error:?}"));
    }

    /// Another setting, in force from the next start.
    pub fn set(&self, name: &str, value: &str) {
        let path = self.folder.path().join("pgbouncer.ini");
        let mut ini = fs::File::options().append(true).open(path).unwrap();
        writeln!(ini, "{name} = {value}").unwrap();
    }

    /// Kills it as a crash would.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after that, on the same port.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.program, &self.folder);
        self.until_it_answers().await;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn until_it_answers(&self) {
        patiently("PgBouncer to take connections", async {
            while connect(&self.url_to("postgres", "pgbouncer")).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("what PgBouncer logged:\n{}", self.log());
        }
    }
}

/// The program: as told, else Debian's.
fn program() -> Option<PathBuf> {
    let told = environment("LEAD_WEBHOOK_PGBOUNCER").map(PathBuf::from);
    let usual = || ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter();
    told.into_iter().chain(usual()).find(|path| path.exists())
}

/// It refuses to run as root. Whoever owns the folder runs it.
fn spawn(program: &Path, folder: &TempDir) -> Child {
    let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    let mut command = ordinary_user("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).arg(folder.path().join("pgbouncer.ini"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("starting PgBouncer")
}

fn write(folder: &TempDir, name: &str, text: &str) {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    chown(&path, Some(fs::metadata(folder.path()).unwrap().uid()), None).unwrap();
}
