//! A short story on the terminal, with real parts: a throw-away PostgreSQL server, an application's table of a shape of
//! its own, an HTTPS receiver with its own authority, and the built program. Leaves nothing behind.
//!
//! `scripts/demo` installs what is missing and runs it; `--keep` stays up for playing.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a story that cannot go on ends, and it is told on stdout"
)]

#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::{
    fs,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
    path::Path,
};

use futures_util::StreamExt as _;
use harness::{Answer, Cluster, Database, Process, Receiver, Request, Setup};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

/// The application's own table: nothing in it is called as the default mapping would have it.
const CAPTURES: &str = "\
CREATE TABLE captures (
    capture_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace  integer     NOT NULL,
    contact    jsonb       NOT NULL,
    full_name  text,
    visitor    uuid,
    chat       text,
    captured   timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz
);
CREATE INDEX ON captures (captured);";

/// Its columns in our words.
const COLUMNS: [(&str, &str); 9] = [
    ("id", "capture_no"),
    ("tenant_id", "workspace"),
    ("email", "sql: lead.contact->>'email'"),
    ("phone", "sql: lead.contact->>'phone'"),
    ("first_name", "sql: split_part(lead.full_name, ' ', 1)"),
    ("visitor_id", "visitor"),
    ("conversation_id", "chat"),
    ("captured_at", "captured"),
    ("last_conversation_at", "last_seen"),
];

/// What HubSpot's upsert wants.
const TEMPLATE: &str = r#"{
  "inputs": [{
    "idProperty": "email",
    "id": "{{email}}",
    "properties": {"phone": "{{phone}}", "firstname": "{{firstName}}"}
  }]
}
"#;

const ANN: &str = "INSERT INTO captures (workspace, contact, full_name, visitor, chat, last_seen)
  VALUES (42, '{\"email\": \"ann@example.com\", \"phone\": \"+49 30 901820\"}', 'Ann Miller',
          '0b1d8a52-7c1f-4f6e-9d0a-2f8f6a3c9e11', 'chat-1', now())";

const ANN_AGAIN: &str = "INSERT INTO captures (workspace, contact, full_name, visitor, chat)
  VALUES (42, '{\"email\": \" ANN@example.com\"}', 'Ann M.', '0b1d8a52-7c1f-4f6e-9d0a-2f8f6a3c9e11', 'chat-2')";

const ANN_RETURNS: &str = "UPDATE captures SET last_seen = last_seen + interval '31 days', chat = 'chat-3'
  WHERE capture_no = 1";

const BOB: &str = "INSERT INTO captures (workspace, contact, full_name) VALUES
  (42, '{\"email\": \"bob@example.com\"}', 'Bob\"}],\"hacked\":[{\"')";

const CAROL: &str = "INSERT INTO captures (workspace, contact, full_name) VALUES
  (42, '{\"email\": \"carol@example.com\", \"phone\": \"+1 202 555 0143\"}', 'Carol Jones')";

const FIVE: &str = "INSERT INTO captures (workspace, contact)
  SELECT 42, jsonb_build_object('email', 'visitor' || n || '@example.com') FROM generate_series(1, 5) n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let keep = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(other) => {
            writeln!(io::stderr(), "demo: unknown argument {other}: expected --keep or nothing")?;
            std::process::exit(2);
        }
    };
    match tell_and_clean_up(keep).await {
        // Nobody listens any more: `| head`, or the `| tee` that the same Ctrl-C has ended.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

async fn tell_and_clean_up(keep: bool) -> io::Result<()> {
    // A signal ends the story as its end does, so that everything is cleaned up.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let mut story = Box::pin(tell(keep));
    let told = tokio::select! {
        told = &mut story => told,
        _ = signals.next() => say("\nCleaning up."),
    };
    // Waits until the server is stopped and its directory, where all files are, is gone.
    drop(story);
    told?;
    say("Everything of this demo is removed now.")
}

async fn tell(keep: bool) -> io::Result<()> {
    let mut story = Story::begin().await?;
    story.configure_tenant().await?;
    story.new_lead().await?;
    story.duplicate().await?;
    story.re_engagement().await?;
    story.template().await?;
    story.failing_receiver().await?;
    story.daemon_down().await?;
    story.log().await?;
    story.play_on(keep).await
}

/// Everything that the story is played with.
struct Story {
    /// Before its database and its files: fields are dropped in this order.
    daemon: Option<Process>,
    setup: Setup,
    secret: String,
    /// How many requests were shown.
    shown: usize,
    /// How many rows the log has by now.
    logged: usize,
}

impl Story {
    async fn begin() -> io::Result<Self> {
        heading("An application and its database")?;
        // Not the shared one, which lives until the process has ended.
        let cluster = Cluster::start(&[]);
        let db = Database::create_with(&cluster, CAPTURES).await;
        let setup = Setup::prepare(db, Receiver::start_in(cluster.folder())).await;
        let columns: Vec<(String, _)> =
            COLUMNS.iter().map(|(key, value)| (format!("leads.columns.{key}"), json!(value))).collect();
        let mut keys = vec![("leads.table", json!("public.captures")), ("log.format", json!("text"))];
        keys.extend(columns.iter().map(|(key, value)| (key.as_str(), value.clone())));
        setup.edit_config(&keys);
        let port = setup.db.cluster.port();
        say(&format!("A throw-away PostgreSQL server listens on 127.0.0.1:{port}. The application's table:"))?;
        code(CAPTURES)?;
        say("Its columns in our words, lead-webhook.toml:")?;
        code(&format!(
            "[leads]\ntable = \"public.captures\"\n[leads.columns]\n{}",
            COLUMNS.map(|(key, value)| format!("{key:<20} = \"{value}\"")).join("\n")
        ))?;
        let story = Self { daemon: None, setup, secret: String::new(), shown: 0, logged: 0 };
        story.command(&["migrate"]).await?;
        Ok(story)
    }

    async fn configure_tenant(&mut self) -> io::Result<()> {
        heading("Workspace 42 configures its webhook")?;
        let url = format!("https://localhost:{}/crm/leads", self.setup.receiver.port());
        self.command(&["endpoint", "set", "42", "--url", &url]).await?;
        self.command(&["secret", "generate", "42"]).await?.trim().clone_into(&mut self.secret);
        self.start()?;
        self.command(&["test", "42"]).await?;
        self.logged += 1;
        self.show_requests()
    }

    async fn new_lead(&mut self) -> io::Result<()> {
        heading("A new lead")?;
        self.application(ANN, 1).await
    }

    async fn duplicate(&mut self) -> io::Result<()> {
        heading("The same visitor leaves the same contact again: nothing is sent, and the log says why")?;
        self.application(ANN_AGAIN, 1).await?;
        self.show_log_row().await
    }

    async fn re_engagement(&mut self) -> io::Result<()> {
        heading("The visitor comes back after 31 days of silence")?;
        self.application(ANN_RETURNS, 1).await
    }

    async fn template(&mut self) -> io::Result<()> {
        heading("A template shapes the body as HubSpot wants it, and no visitor's input can break it")?;
        let file = self.setup.path("hubspot.json");
        fs::write(&file, TEMPLATE).unwrap();
        code(&format!("{}:\n{TEMPLATE}", name_of(&file)))?;
        let header = self.setup.path("authorization");
        fs::write(&header, "Authorization: Bearer pat-eu1-0123").unwrap();
        let (file, header) = (file.display().to_string(), format!("@{}", header.display()));
        let set = ["endpoint", "set", "42", "--template", &file, "--omit-empty", "true", "--header", &header];
        self.command(&set).await?;
        self.application(BOB, 1).await
    }

    async fn failing_receiver(&mut self) -> io::Result<()> {
        heading("The receiver fails: one attempt, no retry, and the log tells")?;
        self.setup.receiver.queue([Answer::status(503).header("Content-Type", "text/plain").body("try later")]);
        self.application(CAROL, 1).await?;
        self.show_log_row().await
    }

    async fn daemon_down(&mut self) -> io::Result<()> {
        heading("Leads captured while the daemon is down wait in the outbox, and are sent when it starts")?;
        self.command(&["endpoint", "set", "42", "--no-template", "--clear-headers"]).await?;
        prompt("kill -TERM %1")?;
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal("TERM");
        let ended = daemon.wait().await;
        say(&format!("The daemon finished what was in flight and ended ({ended})."))?;
        sql(FIVE)?;
        self.setup.db.app().await.batch_execute(FIVE).await.unwrap();
        say(&format!("The outbox holds {} events.", self.setup.db.outbox_count().await))?;
        self.start()?;
        self.logged += 5;
        self.setup.db.wait_for_log(self.logged).await;
        self.show_requests()
    }

    async fn log(&self) -> io::Result<()> {
        heading("The log accounts for every lead")?;
        self.command(&["deliveries", "list"]).await?;
        Ok(())
    }

    async fn play_on(&mut self, keep: bool) -> io::Result<()> {
        heading("Play on")?;
        if !keep {
            say(
                "`scripts/demo --keep` stays up and says how to connect: insert leads with psql, and watch them arrive.",
            )?;
            return Ok(());
        }
        say("As the application:")?;
        code(&format!("psql '{}'\n{CAROL};", self.setup.db.url(&self.setup.db.app_login)))?;
        say("As the operator:")?;
        code(&format!(
            "alias lead-webhook='target/debug/lead-webhook --config {}'\n\
             lead-webhook check\n\
             lead-webhook deliveries list\n\
             psql '{}' -c 'TABLE lead_webhook.deliveries'",
            self.setup.config_file().display(),
            self.setup.db.admin_url(),
        ))?;
        say("Requests show up below. Ctrl-C ends it and removes everything.")?;
        loop {
            self.setup.receiver.arrival(self.shown + 1).await;
            self.show_requests()?;
        }
    }

    fn start(&mut self) -> io::Result<()> {
        prompt("lead-webhook run &")?;
        self.daemon = Some(self.setup.daemon());
        Ok(())
    }

    /// Runs SQL as the application and shows what comes of it, once `rows` more rows are in the log.
    async fn application(&mut self, statement: &str, rows: usize) -> io::Result<()> {
        sql(statement)?;
        self.setup.db.app().await.batch_execute(statement).await.unwrap();
        self.logged += rows;
        self.setup.db.wait_for_log(self.logged).await;
        self.show_requests()
    }

    /// Runs a command as the operator would; what it printed on stdout.
    async fn command(&self, args: &[&str]) -> io::Result<String> {
        let shown: Vec<String> = args.iter().map(|arg| self.without_folder(arg)).collect();
        prompt(&format!("lead-webhook {}", shown.join(" ")))?;
        let output = self.setup.run(args).await;
        for text in [&output.stderr, &output.stdout] {
            if !text.is_empty() {
                say(&self.without_folder(text.trim_end()))?;
            }
        }
        Ok(output.ok().stdout)
    }

    /// File names are enough for a story.
    fn without_folder(&self, text: &str) -> String {
        let folder = self.setup.path("");
        text.replace(&folder.display().to_string(), "")
    }

    fn show_requests(&mut self) -> io::Result<()> {
        let requests = self.setup.receiver.requests();
        for request in &requests[self.shown..] {
            show(request, &self.secret)?;
        }
        self.shown = requests.len();
        Ok(())
    }

    async fn show_log_row(&self) -> io::Result<()> {
        let row = self.setup.db.log_rows().await.pop().unwrap();
        let why = row.reason.or(row.failure).unwrap_or_default();
        let code = row.http_status.map(|status| format!(" {status}")).unwrap_or_default();
        say(&format!("    log: {} / {why}{code}", row.status))
    }
}

fn show(request: &Request, secret: &str) -> io::Result<()> {
    say(&colour("36", &format!("  → {} {}", request.method, request.path)))?;
    for name in ["x-wilow-event", "x-wilow-delivery-id", "webhook-id", "authorization"] {
        if let Some((name, value)) = request.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)) {
            say(&format!("    {name}: {value}"))?;
        }
    }
    say(&format!("    {}", String::from_utf8_lossy(&request.body)))?;
    match request.verify(secret) {
        Ok(()) => say(&format!("    {}", colour("32", "✓ both signatures verified by the receiver"))),
        Err(error) => say(&format!("    {}", colour("31", &format!("✗ {error}")))),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn heading(text: &str) -> io::Result<()> {
    say(&format!("\n{}", colour("1", &format!("── {text}"))))
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

fn prompt(command: &str) -> io::Result<()> {
    say(&colour("33", &format!("$ {command}")))
}

fn sql(statement: &str) -> io::Result<()> {
    say(&colour("33", &format!("app=> {statement};")))
}

fn code(text: &str) -> io::Result<()> {
    text.trim_end().lines().try_for_each(|line| say(&format!("    {line}")))
}

/// Colours are for terminals.
fn colour(code: &str, text: &str) -> String {
    if io::stdout().is_terminal() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
