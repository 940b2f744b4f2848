//! [`Cluster`]: a throw-away PostgreSQL server, under a shell that outlives us just long enough to clean up.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use tempfile::TempDir;

use super::{environment, left_out};

/// Runs the server and removes it when its input ends; its comment says how it is talked to.
const SUPERVISOR: &str = include_str!("supervisor.sh");

/// Fast rather than durable, and room for many tests at once.
const SETTINGS: [(&str, &str); 10] = [
    ("listen_addresses", "'127.0.0.1'"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "'64MB'"),
    ("max_connections", "300"),
    ("max_wal_size", "'4GB'"),
    ("autovacuum_naptime", "'5min'"),
    // A stop waits for who connects meanwhile and says nothing, as a frozen daemon does: up to this time.
    ("authentication_timeout", "'10s'"),
    ("log_line_prefix", "'%m [%p] %q%u@%d '"),
    ("log_min_messages", "warning"),
];

/// Ports for servers: below the range that the system hands out by itself, so that a server that restarts finds its
/// port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, then it shuts down in order.
    Fast,
    /// As a crash: it recovers at the next start.
    Immediate,
}

/// A PostgreSQL server of this process's own.
pub struct Cluster {
    directory: PathBuf,
    port: u16,
    supervisor: Mutex<Supervisor>,
}

struct Supervisor {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// The server that all tests of this process share; started by the first who asks.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).clone()
    }

    /// A server for one test alone, with further lines for `postgresql.conf`: for tests that restart it, or that need
    /// another setting of the whole server.
    pub fn start(settings: &[(&str, &str)]) -> Arc<Self> {
        let mut supervisor = Supervisor::start();
        let directory = PathBuf::from(supervisor.answer());
        supervisor.ask("init").unwrap_or_else(|()| panic!("initdb failed:\n{}", log(&directory, "pg_ctl.log")));
        for (name, value) in SETTINGS.iter().chain(settings) {
            supervisor.ask(&format!("set {name} = {value}")).unwrap();
        }
        // Another process may take the port between the look and the start.
        let port = (0..3).find_map(|_| {
            let port = free_port();
            supervisor.ask(&format!("start {port}")).is_ok().then_some(port)
        });
        let port = port.unwrap_or_else(|| panic!("PostgreSQL does not start:\n{}", log(&directory, "server.log")));
        Arc::new(Self { directory, port, supervisor: Mutex::new(supervisor) })
    }

    /// Where it listens on 127.0.0.1; stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// One of the programs that came with the server.
    pub fn binary(&self, name: &str) -> PathBuf {
        let program = server_binaries().join(name);
        assert!(program.exists(), "{name} did not come with this PostgreSQL: {} is not there", program.display());
        program
    }

    /// Whether these programs came with the server. Where one did not, that is printed: nothing is left out in silence.
    pub fn has_programs(&self, names: &[&str]) -> bool {
        let missing: Vec<_> = names.iter().filter(|name| !server_binaries().join(name).exists()).collect();
        if !missing.is_empty() {
            left_out(&format!("what needs {missing:?}, which did not come with this PostgreSQL"));
        }
        missing.is_empty()
    }

    /// Where its Unix socket, `data` and the logs are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new directory inside the server's, for us alone: removed when dropped, and with the server's when this process
    /// has no time to.
    pub fn folder(&self) -> TempDir {
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir_in(&self.directory).unwrap();
        // Only its owner can empty it, and the supervisor is to: another user where we are root, who needs no right.
        let supervisor = fs::metadata(&self.directory).unwrap().uid();
        chown(folder.path(), Some(supervisor), None).unwrap();
        folder
    }

    /// What the server has logged: warnings and worse.
    pub fn server_log(&self) -> String {
        log(&self.directory, "server.log")
    }

    /// Adds a line to `postgresql.conf`, in force from the next start.
    pub async fn set(self: &Arc<Self>, name: &str, value: &str) {
        self.ask(format!("set {name} = {value}")).await;
    }

    /// Restarts the server with further variables in its environment.
    pub async fn restart_with(self: &Arc<Self>, variables: &[(&str, &str)]) {
        for (name, value) in variables {
            self.ask(format!("export {name}={value}")).await;
        }
        self.restart(Stop::Fast).await;
    }

    /// Lets everybody from a network log in.
    pub async fn allow(self: &Arc<Self>, network: &str) {
        self.ask(format!("allow {network}")).await;
        self.restart(Stop::Fast).await;
    }

    /// Stops the server; returns when it is down.
    pub async fn stop(self: &Arc<Self>, how: Stop) {
        let how = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        self.ask(format!("stop {how}")).await;
    }

    /// Starts the stopped server; returns when it accepts connections.
    pub async fn start_again(self: &Arc<Self>) {
        self.ask(format!("start {}", self.port)).await;
    }

    /// Stops and starts.
    pub async fn restart(self: &Arc<Self>, how: Stop) {
        self.stop(how).await;
        self.start_again().await;
    }

    /// Keeps a copy of the stopped server's files, as they are on a standby that then gets nothing more.
    pub async fn copy_to_standby(self: &Arc<Self>) {
        self.ask("copy".to_owned()).await;
    }

    /// The server is lost with all that it has committed since; the standby is started in its place. It is to be promoted.
    pub async fn fail_over(self: &Arc<Self>) {
        self.stop(Stop::Immediate).await;
        self.ask("take-over".to_owned()).await;
        self.start_again().await;
    }

    /// Off the test's own thread: its sessions must go on meanwhile, or the server waits for them and they for us.
    async fn ask(self: &Arc<Self>, command: String) {
        let cluster = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let done = cluster.supervisor.lock().unwrap().ask(&command);
            assert!(done.is_ok(), "`{command}` failed:\n{}", cluster.server_log());
        });
        asked.await.unwrap();
    }
}

impl Supervisor {
    fn start() -> Self {
        let mut child = ordinary_user("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(server_binaries())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of the terminal's ^C, which is for us: it cleans up when we are gone.
            .process_group(0)
            .spawn()
            .expect("starting the supervisor of PostgreSQL");
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, commands, answers }
    }

    fn ask(&mut self, command: &str) -> Result<(), ()> {
        writeln!(self.commands.as_mut().unwrap(), "{command}").expect("the supervisor of PostgreSQL is gone");
        if self.answer() == "ok" { Ok(()) } else { Err(()) }
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the supervisor of PostgreSQL is gone");
        line.trim_end().to_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, else as `nobody`.
pub(super) fn ordinary_user(program: &str) -> Command {
    let am_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !am_root {
        return Command::new(program);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let entry: Vec<_> = users.lines().map(|line| line.split(':').collect()).find(|f: &Vec<_>| f[0] == name)?;
        Some((entry[2].to_owned(), entry[3].to_owned()))
    };
    let (user, group) = ids("postgres").or_else(|| ids("nobody")).expect("a user `postgres` or `nobody`");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &group, "--clear-groups", program]);
    command
}

/// The directory of `initdb` and `pg_ctl`: as told, as `pg_config` says, else Debian's newest.
fn server_binaries() -> PathBuf {
    let told = environment("LEAD_WEBHOOK_PG_BIN").map(PathBuf::from);
    let configured = || {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
    };
    let newest = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|version| version.path());
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
        versions.max_by_key(number).map(|version| version.join("bin"))
    };
    let complete = |bin: &PathBuf| bin.join("initdb").exists() && bin.join("pg_ctl").exists();
    told.or_else(|| configured().filter(complete))
        .or_else(newest)
        .filter(complete)
        .expect("no PostgreSQL server binaries: run scripts/test, or set LEAD_WEBHOOK_PG_BIN to their directory")
}

pub(super) fn free_port() -> u16 {
    let mut random = [0; 2];
    getrandom::fill(&mut random).unwrap();
    let first = PORTS.start + u16::from_ne_bytes(random) % (PORTS.end - PORTS.start);
    (first..PORTS.end)
        .chain(PORTS)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port on 127.0.0.1")
}

fn log(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_default()
}
