//! [`Process`]: the built program as a child process, as the daemon or as one command.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use tokio::sync::watch;

use super::{canary, environment, patiently};

/// A running program. Killed when dropped; what it printed is shown when the test fails.
pub struct Process {
    child: Child,
    printed: watch::Receiver<Printed>,
    listeners: Vec<JoinHandle<()>>,
    is_daemon: bool,
    /// What it prints on stdout is meant to hold what nobody else may see: a secret, or leads.
    shows_values: bool,
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
}

impl Output {
    /// The output, where the command succeeded.
    ///
    /// Panics with the messages where it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.code == Some(0), "exit code {:?}\n{}{}", self.code, self.stdout, self.stderr);
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// What was printed so far, line by line, each with its line end.
#[derive(Default)]
struct Printed {
    lines: Vec<(Stream, String)>,
    closed: usize,
}

impl Printed {
    fn text(&self, stream: Stream) -> String {
        self.lines.iter().filter(|(from, _)| *from == stream).map(|(_, line)| line.as_str()).collect()
    }
}

impl Process {
    /// Starts the daemon: `lead-webhook --config FILE run`. It ends with the thread that starts it, also where this
    /// process is killed and drops nothing.
    pub fn daemon(config: &Path, env: &[(&str, &str)]) -> Self {
        Self::daemon_by(&[], config, env)
    }

    /// The same by another program, which is given it as its last arguments and becomes it.
    pub fn daemon_by(by: &[&str], config: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(by).arg(program()).arg("--config").arg(config).arg("run");
        let mut process = Self::spawn(command, env, "");
        process.is_daemon = true;
        process
    }

    /// Starts the program with these arguments and this input.
    pub fn start(args: &[OsString], env: &[(&str, &str)], input: &str) -> Self {
        let mut command = Command::new(program());
        command.args(args);
        let mut process = Self::spawn(command, env, input);
        let says = |word: &str| args.iter().any(|arg| arg == word);
        process.shows_values = says("preview") || says("receive") || says("secret") && says("generate");
        process
    }

    /// Of the environment only PATH is handed on: what stands in the developer's must not change a test.
    fn spawn(mut command: Command, env: &[(&str, &str)], input: &str) -> Self {
        command.env_clear().env("PATH", environment("PATH").unwrap_or_default()).envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        // A program that does not read its input is no failure of the test's.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
        let (lines, printed) = watch::channel(Printed::default());
        let listeners = vec![
            listen(Stream::Stdout, child.stdout.take().unwrap(), lines.clone()),
            listen(Stream::Stderr, child.stderr.take().unwrap(), lines),
        ];
        Self { child, printed, listeners, is_daemon: false, shows_values: false }
    }

    /// Waits until the program has printed a line, on either stream, that `wanted` accepts; that line.
    pub async fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut printed = self.printed.clone();
        let mut seen = 0;
        let mut found = None;
        let line_or_end = printed.wait_for(|printed| {
            let new = printed.lines.iter().skip(seen).map(|(_, line)| line.trim_end());
            found = new.clone().find(|line| wanted(line)).map(str::to_owned);
            seen = printed.lines.len();
            found.is_some() || printed.closed == 2
        });
        drop(patiently("a line of the program's log", line_or_end).await);
        found.expect("the program ended without the line that was waited for")
    }

    /// Everything printed so far, on either stream, without line ends.
    pub fn log(&self) -> Vec<String> {
        self.printed.borrow().lines.iter().map(|(_, line)| line.trim_end().to_owned()).collect()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut printed = self.printed.clone();
        let _ = patiently("the program's end", printed.wait_for(|printed| printed.closed == 2)).await;
        self.child.wait().unwrap()
    }

    /// Waits until it ends by itself; what it left.
    pub async fn output(mut self) -> Output {
        let code = self.wait().await.code();
        let printed = self.printed.borrow();
        Output { code, stdout: printed.text(Stream::Stdout), stderr: printed.text(Stream::Stderr) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What a command is given as an argument is its caller's own affair.
        let itself = if self.is_daemon { canary::of_process(self.id()) } else { String::new() };
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.listeners.drain(..).for_each(|listener| drop(listener.join()));
        if !thread::panicking() {
            let (stdout, stderr) = {
                let printed = self.printed.borrow();
                (printed.text(Stream::Stdout), printed.text(Stream::Stderr))
            };
            let stdout = if self.shows_values { String::new() } else { stdout };
            for (place, text) in [("stdout", stdout), ("stderr", stderr), ("arguments or environment", itself)] {
                let found = canary::found(&text);
                assert!(found.is_empty(), "{place} of the program hold {found:?}:\n{text}");
            }
        }
        if thread::panicking() {
            eprintln!("what process {} printed:", self.id());
            self.printed.borrow().lines.iter().for_each(|(_, line)| eprint!("{line}"));
        }
    }
}

/// Sends a process a signal by its name. By the shell, which has it built in: the program `kill` is not everywhere.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()]).status().unwrap();
    assert!(sent.success(), "kill -s {name}: {sent}");
}

/// Collects what is printed on `stream` until it is closed.
fn listen(stream: Stream, pipe: impl Read + Send + 'static, lines: watch::Sender<Printed>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            lines.send_modify(|printed| printed.lines.push((stream, text)));
            line.clear();
        }
        lines.send_modify(|printed| printed.closed += 1);
    })
}

/// The built program: as cargo says to tests, else beside `examples/`, where the demo is.
pub fn program() -> PathBuf {
    option_env!("CARGO_BIN_EXE_lead-webhook").map_or_else(
        || std::env::current_exe().unwrap().parent().unwrap().with_file_name("lead-webhook"),
        PathBuf::from,
    )
}
