//! [`Report`]: what `docs/benchmarks.md` holds: where and how it was measured, then the tables.

use std::{fmt::Write as _, fs, io, path::Path, process::Command};

use jiff::Timestamp;

use super::{
    picture::{self, Panel},
    stand::{SETTINGS, Stand},
    table::Table,
};

/// The page as far as it is written, and its picture.
pub(crate) struct Report {
    text: String,
    panels: Vec<Panel>,
}

impl Report {
    /// The page's beginning.
    pub(crate) async fn begin(stand: &Stand) -> Self {
        let mut text =
            String::from("# Benchmarks\n\nWritten by `scripts/bench --write`. Compare the figures of one run");
        text.push_str(" with each other only: contenders, receiver and database share the machine.\n\n");
        let settings: Vec<_> = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let rows = [
            ("date", format!("{:.0}", Timestamp::now())),
            ("machine", machine()),
            ("kernel", first_line(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())),
            (
                "lead-webhook",
                format!("{}, commit {}", env!("CARGO_PKG_VERSION"), said("git", &["describe", "--always", "--dirty", "--exclude=*"])),
            ),
            ("PostgreSQL", stand.server_version().await),
            ("its settings", settings.join(", ")),
            ("Node.js", said("node", &["--version"])),
            ("ours", "the defaults, but log.level = warn; for backlog, daemons and growth 64 attempts in flight, in all and for one endpoint".to_owned()),
            ("the rivals", "64 attempts in flight; graphile-worker with a local queue of 500; neither logs".to_owned()),
            ("rounds", format!("{}{}", stand.rounds, if stand.quick { ", quick: the figures say little" } else { "" })),
        ];
        for (what, value) in rows {
            writeln!(text, "- {what}: {value}").unwrap();
        }
        Self { text, panels: Vec::new() }
    }

    /// What is there so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Goes on with a table.
    pub(crate) fn add(&mut self, table: Table) {
        write!(self.text, "\n{table}").unwrap();
        self.panels.extend(table.panel);
    }

    /// Writes page and picture.
    pub(crate) fn write(mut self) -> io::Result<()> {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        fs::create_dir_all(&docs)?;
        if !self.panels.is_empty() {
            picture::draw(&docs.join("benchmarks.svg"), &self.panels);
            self.text.push_str("\n![Backlog and writers](benchmarks.svg)\n");
        }
        fs::write(docs.join("benchmarks.md"), self.text)
    }
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default();
    format!("{threads} × {model}, {} GiB", memory.div_ceil(1 << 20))
}

/// What a program prints; `none` where there is no such program.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| "none".to_owned(), |output| first_line(&String::from_utf8_lossy(&output.stdout)))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
