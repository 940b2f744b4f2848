//! The command line's words.

#![expect(clippy::doc_markdown, reason = "these are help texts, which a terminal shows as they stand")]

mod deliveries;
mod endpoint;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

pub use self::{
    deliveries::{DeliveriesCommand, Filter},
    endpoint::{Draft, EndpointCommand},
};
use crate::{control::token::parse_ttl, secret::Secret};

/// Pushes new and re-engaged leads out of PostgreSQL as signed webhooks, each at most once.
#[derive(Debug, Parser)]
#[command(
    name = "lead-webhook",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 the operation failed, 2 bad arguments, 78 bad configuration.\n\
                  Data goes to stdout, messages to stderr."
)]
pub struct Cli {
    /// Configuration file (TOML); the environment (LEAD_WEBHOOK__SECTION__KEY) comes on top of it
    /// [default: /etc/lead-webhook/lead-webhook.toml, where it exists]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: send what the triggers queue, until SIGTERM
    #[command(after_help = "\
SIGTERM, SIGINT: finish what is in flight and end; a second one ends at once.
SIGHUP: read the key file, egress rules, time limits, identity and log level again. A key file that systemd hands out \
(LoadCredential) is a copy made at the start: restart for another one.")]
    Run,
    /// Create or upgrade the schema and install the triggers by the configured mapping
    #[command(after_help = "\
Idempotent, and safe beside a busy application: it waits for a lock on the leads table for 200 ms at a time. \
Needs the key file, and a database user that may create triggers on the table (database.owner_url); \
straight to the server, or through a pooler in session mode.")]
    Migrate {
        /// Print the SQL and change nothing
        #[arg(long)]
        dry_run: bool,
        /// The subscribers of a publication FOR ALL TABLES have the new tables already
        #[arg(long)]
        published: bool,
    },
    /// Remove the triggers and the schema
    Uninstall {
        /// Keep the log table
        #[arg(long)]
        keep_log: bool,
        /// Print the SQL and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write the uniqueness keys of the leads that are there already; sends nothing
    #[command(after_help = "\
Run it once after the first `migrate`, so that a known visitor who leaves the same contact again is no new lead. \
Safe to run again, and while the daemon runs.

A lead that stands in the outbox, or that a trigger has missed, is left to the daemon; one whose values cannot be read \
is counted and named. \
Uses database.url: the daemon's login has what it needs from `migrate`.")]
    Seed,
    /// Confirm a database that was upgraded, moved, copied or restored: until then nothing is sent from it
    #[command(after_help = "\
`migrate` remembers the server's system identifier, the database's name and the oid of its own table, which a restore \
makes anew. Where they are others, daemons claim, send and write nothing, and `check` fails. This command notes the present ones; daemons that run go on by themselves. What \
was discarded is sent only where `deliveries redeliver` names it by its id. Where nothing differs it changes nothing, \
unless it is told by --restored: a base backup that was put back differs in nothing, and what was pending in it may have been \
sent since. Stop the daemons for it.

It needs the installation's key file, and a database user who is a member of the owner role (database.owner_url). A copy \
that is to have a key file of its own is installed anew: `uninstall`, then `migrate`.")]
    Adopt {
        /// What becomes of the queue.
        #[command(flatten)]
        queue: Queue,
        /// Also where nothing differs: the database's files were put back from a backup, to a point in time perhaps
        #[arg(long, conflicts_with = "keep_queue")]
        restored: bool,
    },
    /// Check configuration, key, database, triggers, rights and endpoints; each finding with its remedy
    #[command(after_help = "\
One line each: ok, warn or fail, what was looked at, what was found and what helps. Exit code 1 where anything \
fails. It reads only, and is safe at any time.")]
    Check {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Count what became of every lead since the install, as far as the log goes back, and name those that nothing became of
    #[command(after_help = "\
Each lead with a contact counts once, by the best that happened to it. Unaccounted are those that were captured while \
the tenant's endpoint was on and of which neither outbox, log nor mute knows anything: exit code 1 where there are any. \
Unreadable are those of which a mapped expression fails; they are named, and whatever became of them is not counted. \
It reads only, in short statements, and is safe at any time.

Without an index on the captured time the whole table is read. Without a captured time all leads are looked at, and \
what is missing cannot be told: those leads count as undated, as do those whose captured time is more than a day ahead.")]
    Reconcile {
        /// Only leads captured at this time or later: 2026-04-22T10:15:00Z, 2026-04-22 (UTC), or a duration before now
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        since: Option<String>,
        /// One JSON object a line: the counts, then each finding
        #[arg(long)]
        json: bool,
    },
    /// Configure where a tenant's leads are sent
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Manage a tenant's signing secret
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show the ready-made settings for known destinations
    #[command(subcommand)]
    Preset(PresetCommand),
    /// Fire a synthetic lead at a tenant's endpoint, as saved or as the options change it, and show the outcome
    #[command(after_help = "\
Sends one real request with a made-up lead (leadId test_…, an example.com email), also where the endpoint is off. The \
options change the draft only; nothing is saved. The outcome is logged as a test. The tenant needs a secret \
(`secret generate`). Ten tests a minute for each tenant, whoever makes them. Exit code 1 unless it was delivered.")]
    Test {
        /// The tenant
        tenant: String,
        /// What the draft changes.
        #[command(flatten)]
        draft: Draft,
        /// Send lead.re_engaged instead of lead.created
        #[arg(long)]
        re_engaged: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the bodies that a tenant's latest leads would be sent as; sends nothing
    #[command(after_help = "\
The template is the stored one, or the one that is given, which is not saved. What is printed are real leads. Below them \
stands for each placeholder in how many bodies it came out empty.

  lead-webhook preview acme --template hubspot.json --last 20")]
    Preview {
        /// The tenant
        tenant: String,
        /// A JSON template for the body: a file's name, `@FILE`, `@-`, or the JSON itself
        #[arg(long, value_name = "FILE", conflicts_with = "no_template")]
        template: Option<Secret<String>>,
        /// The default body
        #[arg(long)]
        no_template: bool,
        /// Leave out members whose placeholders all came out empty
        #[arg(long, value_name = "BOOL")]
        omit_empty: Option<bool>,
        /// So many leads, the latest first
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        last: u32,
        /// As lead.re_engaged instead of lead.created
        #[arg(long)]
        re_engaged: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Check the signature of a request that a receiver got
    #[command(after_help = "\
Where it does not fit it says whether the body was parsed and written anew on the way. It needs neither configuration nor \
database. The body comes from a file, or from standard input.

  lead-webhook verify --secret-file secret --signature sha256=5a3d… body.json
  lead-webhook verify --secret-file secret --signature v1,K5oZ… --id 1b67… --timestamp 1776852900 < body.json")]
    Verify {
        /// A file with the secret, whsec_…, or one a line: any of them
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// X-Wilow-Signature, or webhook-signature
        #[arg(long)]
        signature: String,
        /// With webhook-signature: webhook-id
        #[arg(long)]
        id: Option<String>,
        /// With webhook-signature: webhook-timestamp
        #[arg(long, value_name = "SECONDS")]
        timestamp: Option<i64>,
        /// The body as it came, byte by byte [default: standard input]
        #[arg(value_name = "BODY_FILE")]
        body_file: Option<PathBuf>,
    },
    /// Receive webhooks on this host, verify and print them: for trying things out
    #[command(after_help = "\
An HTTPS server on this host's own address, with a certificate of an authority of its own, which it makes at first and keeps. It says \
which lines of the configuration let the daemon send to it. What it prints are real leads, with all headers. What does not \
verify is answered 401. It needs neither configuration nor database. Ctrl-C ends it.

  lead-webhook receive --secret-file secret
  lead-webhook receive --secret-file secret --respond 503 --delay 2s")]
    Receive {
        /// Where to listen: 127.0.0.1:PORT, or the same on IPv6's loopback; port 0 takes a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
        listen: SocketAddr,
        /// A file with the secret, whsec_…, or one a line: any of them [default: nothing is verified]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// The status of its answers
        #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
        respond: u16,
        /// How long it waits before each answer: 500ms, 20s
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        delay: Option<Duration>,
        /// The authority's certificate, made where it is not there, with its private key beside it (.key)
        #[arg(long, value_name = "FILE", default_value = "lead-webhook-receive.pem")]
        ca_file: PathBuf,
        /// One JSON object a request
        #[arg(long)]
        json: bool,
    },
    /// Delete what a lead is known again by, as a request for erasure wants it
    #[command(after_help = "\
For each visitor and contact a keyed hash is kept, which names the newest lead. Delete the lead itself first: while it is \
there, a daemon may meet it again. Afterwards the same visitor and contact would be a new lead. The log holds ids and times, \
and goes with [retention].")]
    Forget {
        /// The lead's id
        lead: String,
        /// Whose lead, where several tenants have one of that id
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Mint a token by which a tenant gets at its own endpoint and deliveries on the admin listener
    #[command(after_help = "\
An application mints one for whoever it has signed in, and hands it over. It opens that tenant's endpoint and deliveries, \
nobody else's, and cannot be taken back before its time is over. It is signed by the operator's token in admin.token_file, \
which the daemon must have as well; no database is asked.

  lead-webhook token acme --ttl 15m")]
    Token {
        /// The tenant
        tenant: String,
        /// For how long it is good: at most 24h
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_ttl)]
        ttl: Duration,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Read the log, and prune it
    #[command(subcommand)]
    Deliveries(DeliveriesCommand),
    /// Manage the key file that seals URLs, secrets and headers
    #[command(subcommand)]
    Key(KeyCommand),
}

/// What `adopt` does with what is pending; one of both.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Queue {
    /// The same installation, upgraded or moved: what is pending is sent
    #[arg(long)]
    pub keep_queue: bool,
    /// A copy: what is pending is logged as skipped / discarded
    #[arg(long)]
    pub discard_queue: bool,
}

/// Commands on presets.
#[derive(Debug, Subcommand)]
pub enum PresetCommand {
    /// List them
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one: URL, headers, template and what to know
    Show {
        /// The preset
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Commands on secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Generate a new secret and print it, once; the old one is replaced at once
    #[command(after_help = "\
The secret alone goes to stdout. There is no way to read it back; what is signed from now on is signed with it. \
It can be generated before the tenant has a URL.")]
    Generate {
        /// The tenant
        tenant: String,
    },
}

/// Commands on keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key file: print it, or create FILE with mode 0600
    Generate {
        /// The file to create; never overwritten
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Replace the key that seals, while daemons run: add a key, seal everything anew by it, drop the old one
    #[command(after_help = "\
Three steps, each safe to run again, also after a crash; each says what it did and what comes next. While a new key waits,
the first adds no other: exit code 1.

  1. key rotate               adds a key that opens and seals nothing yet. Copy the key file to every host and let every
                              daemon read it: `systemctl restart` under the unit, whose LoadCredential hands out a copy
                              at the start only; SIGHUP is enough where the daemon reads keys.file itself.
  2. key rotate --reseal KEY  puts the key first and seals all endpoints and the installation's own keys by it. Refused
                              while a daemon that runs lacks the key. Copy the key file to every host, or run it there too.
  3. key rotate --drop-old    drops the other keys from the file. Refused while anything is sealed by one of them.

What no key opens is named and left as it is: exit code 1. Keep the old key as long as backups of the database from before.
It changes the file of keys.file, and needs a database user who is a member of the owner role (database.owner_url).")]
    Rotate {
        /// Seal everything anew by KEY of the key file, 8 hex digits, which seals from then on
        #[arg(long, value_name = "KEY", conflicts_with = "drop_old")]
        reseal: Option<String>,
        /// Drop every key but the first from the key file
        #[arg(long)]
        drop_old: bool,
        /// One JSON object: what was done, and what each key of the file seals
        #[arg(long)]
        json: bool,
    },
}
