//! The words of `deliveries`.

use clap::{Args, Subcommand};

/// Commands on the log.
#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// List deliveries, newest first
    #[command(after_help = "\
A terminal that is too narrow for one line a delivery gets two, and ids are cut to 10 digits, which `show` takes as \
well. Where stdout is no terminal nothing is cut, and there is no age. Times are UTC; --json has every column of lead_webhook.deliveries.

  lead-webhook deliveries list --tenant acme --status failed --since 24h
  lead-webhook deliveries list --failure timeout --since 2026-04-22 --limit 500 --after 0c5be0b2")]
    List {
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
        /// Only those that come after this one, the last of a list before: a delivery's id, or its first 8 digits or more
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one delivery with everything that is known of it
    #[command(after_help = "\
With an event's id it shows all deliveries of the event, or where it stands in the queue: pending, or in flight.")]
    Show {
        /// The delivery's or the event's id, or its first 8 digits or more
        id: String,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show the latest deliveries, and then each as it ends, until it is interrupted
    #[command(after_help = "\
It looks once a second, and waits for a database that is away. An outcome that was kept for longer than 10 s while the \
database was away is not shown: see `list`.")]
    Follow {
        /// Which ones; with --limit so many of those that have ended already.
        #[command(flatten)]
        filter: Filter,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show the log in figures: by tenant, by failure and over time
    #[command(after_help = "\
Success is the part of what was to be sent that was delivered: what was skipped does not count. Milliseconds are of the \
whole attempt: half of all, 95 and 99 of 100 took no longer. Tests are left out.

  lead-webhook deliveries stats --since 7d --tenant acme")]
    Stats {
        /// Of this tenant alone
        #[arg(long)]
        tenant: Option<String>,
        /// What ended at this time or later: 2026-04-22T10:15:00Z, 2026-04-22 (UTC), or a duration before now
        #[arg(long, value_name = "TIME", default_value = "24h", allow_hyphen_values = true)]
        since: String,
        /// What ended before this time
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        until: Option<String>,
        /// So many tenants, the busiest first
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Send again, as a new delivery of the same event: by id, or what a filter lets through
    #[command(after_help = "\
Each is made from the lead as it is now, and goes to the endpoint as it is now; webhook-id is the event's, so that a receiver \
that dedupes takes it once. A new log row names the first. With a filter: what failed or was interrupted, if --status says \
nothing else, the oldest first, and nothing that was sent again already, unless that failed too; of what was skipped \
only what had waited too long. By id also that. \
Exit code 1 unless all of them were delivered; what --limit leaves is said, and is none of them.

  lead-webhook deliveries redeliver --tenant acme --since 2h --dry-run
  lead-webhook deliveries redeliver --since 2026-04-22 --failure timeout --rate 2
  lead-webhook deliveries redeliver 0c5be0b2")]
    Redeliver {
        /// Deliveries' or events' ids, or their first 8 digits or more
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Which ones; --limit is how many at most.
        #[command(flatten)]
        filter: Filter,
        /// So many a second, at most
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        rate: u32,
        /// Show which would be sent, and send nothing
        #[arg(long)]
        dry_run: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Remove from the log what is older than `[retention]` says
    #[command(after_help = "\
The daemon does the same by and by. It removes a thousand at a time, and may be ended and run again. What makes a lead \
known for a duplicate stays: nothing is sent again. `reconcile` looks at no lead from before.

  lead-webhook deliveries prune --dry-run
  lead-webhook deliveries prune --before 2026-01-01")]
    Prune {
        /// Whatever its status, what ended before this time: at least 48 hours ago
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        before: Option<String>,
        /// Count only
        #[arg(long)]
        dry_run: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Which deliveries.
#[derive(Debug, Args)]
pub struct Filter {
    /// Of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// With this status: delivered, failed, interrupted or skipped
    #[arg(long)]
    pub status: Option<String>,
    /// With this failure: http_status, redirect, timeout, dns, connect, tls, protocol, blocked, template, secret, headers or lead
    #[arg(long)]
    pub failure: Option<String>,
    /// Of this event: lead.created or lead.re_engaged
    #[arg(long)]
    pub event: Option<String>,
    /// Of this lead
    #[arg(long)]
    pub lead: Option<String>,
    /// Finished at this time or later: 2026-04-22T10:15:00Z, 2026-04-22 (UTC), or a duration before now such as 24h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Finished before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}
