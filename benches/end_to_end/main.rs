//! The whole program measured beside its limits and its rivals, on this machine, in one run.
//!
//! `scripts/bench` runs it; a plain `cargo bench` leaves it out. A throw-away PostgreSQL with ordinary durability, an
//! HTTPS receiver in a process of its own, and the contenders one after the other, round by round, so that what the
//! machine does meanwhile meets all of them. Each figure is the median of the rounds, with the least and the most.
//!
//! # How to read it
//! Contenders, receiver and database share the machine's cores, so a figure alone says something of this machine only:
//! compare the figures of one run, by the ratios below each table. CPU is user and system time as the kernel counts it,
//! for PostgreSQL its first process with all its children.
//!
//! # The parts
//! - [`parts::backlog`]: how fast a backlog is sent, and what that costs.
//! - [`parts::writers`]: what the application's own commits cost once there is a trigger on its table.
//! - [`parts::burst`]: leads come faster than they can be sent.
//! - [`parts::light`]: how long one lead takes when there are few.
//! - [`parts::first`]: how long the first lead takes after there were none.
//! - [`parts::idle`]: what the daemon costs when there are none.
//! - [`parts::fairness`]: what tenants notice of another one's backlog.
//! - [`parts::daemons`]: what several daemons send together.
//! - [`parts::growth`]: what a large log, many tenants and old transactions cost.
//! - [`parts::hour`]: whether the daemon's memory grows with time; only where it is named.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark that cannot go on ends, and it tells on stdout"
)]

mod child;
mod clock;
mod contenders;
mod drain;
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod latency;
mod parts;
mod pgbench;
mod picture;
mod receiver;
mod report;
mod stand;
mod table;
mod usage;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{report::Report, stand::Stand, table::Table};

/// The daemon's: what is measured beside it is not to differ by that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures lead-webhook beside its limits and its rivals.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// What to measure; everything but the hour, if nothing is named.
    parts: Vec<Part>,
    /// How often each figure is taken; 3, and 1 with --quick.
    #[arg(long)]
    rounds: Option<usize>,
    /// Smaller numbers, to see that everything works: the figures say little.
    #[arg(long)]
    quick: bool,
    /// Write the tables to docs/benchmarks.md, with a picture beside it.
    #[arg(long)]
    write: bool,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is when it runs as a process that is measured by itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// Answers HTTPS requests.
    #[command(hide = true)]
    Receiver {
        #[arg(long)]
        ca_file: PathBuf,
    },
    /// Sends requests and does nothing else.
    #[command(hide = true)]
    Limit {
        #[arg(long)]
        url: String,
        #[arg(long)]
        ca_file: PathBuf,
        #[arg(long)]
        requests: u64,
    },
    /// Listens, and sends a request for each notification.
    #[command(hide = true)]
    Naive {
        #[arg(long)]
        database: String,
        #[arg(long)]
        ca_file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    Backlog,
    Writers,
    Burst,
    Light,
    First,
    Idle,
    Fairness,
    Daemons,
    Growth,
    Hour,
}

impl Part {
    async fn measure(self, stand: &Stand) -> Vec<Table> {
        match self {
            Self::Backlog => parts::backlog::measure(stand).await,
            Self::Writers => parts::writers::measure(stand).await,
            Self::Burst => parts::burst::measure(stand).await,
            Self::Light => parts::light::measure(stand).await,
            Self::First => parts::first::measure(stand).await,
            Self::Idle => parts::idle::measure(stand).await,
            Self::Fairness => parts::fairness::measure(stand).await,
            Self::Daemons => parts::daemons::measure(stand).await,
            Self::Growth => parts::growth::measure(stand).await,
            Self::Hour => parts::hour::measure(stand).await,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Receiver { ca_file }) => receiver::server::run(&ca_file),
        Some(Role::Limit { url, ca_file, requests }) => contenders::limit::run(&url, &ca_file, requests).await,
        Some(Role::Naive { database, ca_file }) => contenders::naive::run(&database, &ca_file).await,
        None => measure(&arguments).await,
    }
}

async fn measure(arguments: &Arguments) -> io::Result<()> {
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 3 });
    let stand = Stand::set_up(rounds, arguments.quick);
    let mut report = Report::begin(&stand).await;
    writeln!(io::stdout(), "{}", report.text())?;
    let is_usual = |part: &&Part| !matches!(part, Part::Hour);
    let usual: Vec<_> = Part::value_variants().iter().filter(is_usual).copied().collect();
    let parts = if arguments.parts.is_empty() { &usual } else { &arguments.parts };
    for part in parts {
        for table in part.measure(&stand).await {
            writeln!(io::stdout(), "{table}")?;
            report.add(table);
        }
    }
    if arguments.write { report.write() } else { Ok(()) }
}
