//! [`Child`]: a process that is measured by itself: this program again, or a rival.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use super::harness::signal;

/// A running process with which lines are exchanged. Killed when dropped, and when this process is.
pub(crate) struct Child {
    child: std::process::Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this very program in another role.
    pub(crate) fn in_role(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::start(Command::new("setpriv").args(["--pdeathsig", "KILL"]).arg(program).args(arguments))
    }

    /// Starts another program.
    pub(crate) fn of(program: &str, arguments: &[&str]) -> Self {
        Self::start(Command::new("setpriv").args(["--pdeathsig", "KILL", program]).args(arguments))
    }

    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, commands, answers }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.commands, "{line}").unwrap();
    }

    /// Waits for a line.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "process {} ended", self.id());
        line.trim_end().to_owned()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        signal(self.id(), "TERM");
        self.child.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
