//! The trigger functions, filled in from the mapping, and the triggers that call them.
//!
//! The bodies are `migrations/triggers/*.sql`. They name the application's columns inside the functions only, never in
//! the triggers, and nothing of ours depends on the table: its own migrations pass, and when they take a mapped column
//! away, its writes go on with a WARNING and a mark. On a plain table an INSERT costs one call a statement; a
//! partitioned one has no transition tables for its partitions, so there it is one a row.

use super::vet::READ_BY_TRIGGERS;
use crate::{
    config::{Columns, Leads, Mapping, Notify},
    store::{
        bell, identifier, literal,
        mapping::{self, MappedSql},
    },
};

const INSERTED_BY_STATEMENT: &str = include_str!("../../../migrations/triggers/lead_inserted_by_statement.sql");
const INSERTED_BY_ROW: &str = include_str!("../../../migrations/triggers/lead_inserted_by_row.sql");
const UPDATED: &str = include_str!("../../../migrations/triggers/lead_updated.sql");
const MISSED: &str = include_str!("../../../migrations/triggers/missed.sql");
const LOCKED: &str = include_str!("../../../migrations/triggers/locked.sql");
const RING: &str = include_str!("../../../migrations/triggers/ring.sql");

/// Whether a lock was waited for in vain just now, in the same transaction. Any session may have set anything there.
const HAS_WAITED: &str = "extract(epoch FROM clock_timestamp()) < \
                          substring(current_setting('lead_webhook.locked_until', true) \
                                    FROM '^[0-9]{1,12}[.]?[0-9]{0,9}$')::numeric";

/// Whether the session is muted. By whatever is no plain no: what was sent cannot be taken back.
const IS_MUTED: &str =
    "coalesce(lower(current_setting('lead_webhook.mute', true)) NOT IN ('', 'off', 'false', 'no', '0'), false)";

/// Whether the session was ever muted, or waited for a lock in vain: most never, which is told without another function. An
/// expression is set up anew in each transaction that asks it.
const IS_MARKED: &str = "coalesce(current_setting('lead_webhook.mute', true), \
                         current_setting('lead_webhook.locked_until', true)) IS NOT NULL";

/// Encloses the functions' bodies; no expression may contain it.
pub(super) const QUOTE: &str = "$lead_webhook$";

/// The functions' settings, as `pg_proc.proconfig` holds them.
///
/// A caller's schemas stay out of reach of a function that runs with our rights; a lock costs the application at most
/// 100 ms. Each setting costs about 4 µs a call.
const SETTINGS: [(&str, &str); 2] = [("search_path", "pg_catalog, pg_temp"), ("lock_timeout", "100ms")];

/// Only where many leads come in one statement. The session plans the function's INSERT once, by the number of leads in
/// its first statement; compiled for those, every later lead would cost a tenth of a second.
const NO_COMPILER: (&str, &str) = ("jit", "off");

/// Only where leads are queued one after the other. A planner that takes the endpoints for few reads all of them for each
/// lead: beside a hundred that are analysed, that is more than everything else the trigger does.
const BY_INDEX: (&str, &str) = ("enable_seqscan", "off");

/// Only where an expression has a backslash: a session may read it another way.
const PLAIN_BACKSLASHES: (&str, &str) = ("standard_conforming_strings", "on");

/// Only where there is an expression: as a claim's session reads it, whatever the application's has set.
const TIME_ZONE: (&str, &str) = ("TimeZone", "UTC");

/// A trigger of ours on the application's table, with its function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trigger {
    /// The trigger's name.
    pub(super) name: &'static str,
    /// The function's name in our schema.
    pub(super) function: &'static str,
    comment: &'static str,
    body: String,
    settings: Vec<(&'static str, &'static str)>,
    event: &'static str,
    each: Each,
    /// Who must be able to call the function: a partition that is made or attached gets its triggers then and there.
    caller: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    Row,
    Statement,
}

/// Both triggers, as the mapping wants them.
pub(super) fn wanted(mapped: &MappedSql, leads: &Leads, notify: Notify) -> [Trigger; 2] {
    let settings = settings(mapped, &leads.columns);
    let (each, inserted) = match mapped.partitioned_by {
        Some(_) => (Each::Row, INSERTED_BY_ROW),
        None => (Each::Statement, INSERTED_BY_STATEMENT),
    };
    [
        Trigger {
            name: "lead_webhook_insert",
            function: "lead_inserted",
            comment: "Queues new leads that have a contact. Never fails or delays the statement: see lead_webhook.missed.",
            body: body(inserted, mapped, leads, notify),
            settings: (settings.iter().copied().chain([BY_INDEX]))
                .chain((each == Each::Statement).then_some(NO_COMPILER))
                .collect(),
            event: "INSERT",
            each,
            caller: mapped.partitioned_by.clone(),
        },
        Trigger {
            name: "lead_webhook_update",
            function: "lead_updated",
            comment: "Queues leads that got a contact or came back. Never fails or delays the statement: see lead_webhook.missed.",
            body: body(UPDATED, mapped, leads, notify),
            settings,
            event: "UPDATE",
            each: Each::Row,
            caller: mapped.partitioned_by.clone(),
        },
    ]
}

impl Trigger {
    /// Makes or replaces the function; takes no lock on the application's table.
    pub(super) fn function_sql(&self) -> String {
        let Self { function, body, comment, .. } = self;
        let settings: String =
            self.settings.iter().map(|(name, value)| format!("\nSET {name} = {}", setting(value))).collect();
        let grant =
            |role: &String| format!("GRANT EXECUTE ON FUNCTION lead_webhook.{function}() TO {};\n", identifier(role));
        let grant = self.caller.as_ref().map_or_else(String::new, grant);
        format!(
            "CREATE OR REPLACE FUNCTION lead_webhook.{function}() RETURNS trigger\n\
             LANGUAGE plpgsql SECURITY DEFINER{settings}\nAS {QUOTE}{body}{QUOTE};\n\
             REVOKE ALL ON FUNCTION lead_webhook.{function}() FROM PUBLIC;\n{grant}\
             COMMENT ON FUNCTION lead_webhook.{function}() IS {};",
            literal(comment)
        )
    }

    /// Makes or replaces the trigger; waits for every writer of the application's table.
    pub(super) fn trigger_sql(&self, table: &str) -> String {
        let Self { name, event, function, .. } = self;
        let each = match self.each {
            Each::Row => "FOR EACH ROW",
            Each::Statement => "REFERENCING NEW TABLE AS new_leads FOR EACH STATEMENT",
        };
        format!(
            "CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table}\n    {each} EXECUTE FUNCTION lead_webhook.{function}();"
        )
    }

    /// `pg_proc.prosrc`.
    pub(super) fn body(&self) -> &str {
        &self.body
    }

    /// `pg_proc.proconfig`.
    pub(super) fn proconfig(&self) -> Vec<String> {
        self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// `pg_trigger.tgtype`: 1 per row, 4 INSERT, 16 UPDATE; AFTER is 0.
    pub(super) fn tgtype(&self) -> i16 {
        let event = if self.event == "INSERT" { 4 } else { 16 };
        event + i16::from(self.each == Each::Row)
    }

    /// `pg_trigger.tgnewtable`.
    pub(super) fn tgnewtable(&self) -> Option<&'static str> {
        (self.each == Each::Statement).then_some("new_leads")
    }
}

fn setting(value: &str) -> String {
    // A list is written as such: quoted as a whole it would be one odd schema name.
    if value.contains(',') { value.to_owned() } else { literal(value) }
}

fn settings(mapped: &MappedSql, columns: &Columns) -> Vec<(&'static str, &'static str)> {
    let times = [&mapped.captured_at, &mapped.last_conversation_at].into_iter().flatten().map(|time| &time.sql);
    let mut pieces = [&mapped.id, &mapped.tenant_id, &mapped.has_contact].into_iter().chain(times);
    let backslashes = pieces.any(|sql| sql.contains('\\')).then_some(PLAIN_BACKSLASHES);
    let is_read =
        |(name, mapping): &(&str, &Mapping)| READ_BY_TRIGGERS.contains(name) && matches!(mapping, Mapping::Sql(_));
    let time_zone = mapping::mapped(columns).iter().any(is_read).then_some(TIME_ZONE);
    SETTINGS.into_iter().chain(backslashes).chain(time_zone).collect()
}

fn body(template: &str, mapped: &MappedSql, leads: &Leads, notify: Notify) -> String {
    let none = || "NULL::timestamptz".to_owned();
    let latest = mapped.last_conversation_at.as_ref().map_or_else(none, |time| time.sql.clone());
    let previous = match (&mapped.last_conversation_at, &mapped.captured_at) {
        (Some(last), Some(captured)) => format!("coalesce({}, {})", last.sql, captured.sql),
        _ => latest.clone(),
    };
    let MappedSql { id, tenant_id, has_contact, .. } = mapped;
    let values = |of: &[&str]| literal(&format!("SELECT {} FROM (SELECT ($1).*) AS lead", of.join(", ")));
    let has_waited = |_: &str, _| HAS_WAITED.to_owned();
    fill(template, |name, indent| match name {
        "id" => id.clone(),
        "tenant" => tenant_id.clone(),
        "has_contact" => has_contact.clone(),
        "previous" => previous.clone(),
        "latest" => latest.clone(),
        "silence" => leads.silence.as_micros().to_string(),
        "values" => values(&[has_contact, id, tenant_id]),
        "old_values" => values(&[has_contact, &previous]),
        "new_values" => values(&[has_contact, &latest, id, tenant_id]),
        "is_same" => is_same(&leads.columns),
        "ring" => indented(&ring(notify), indent),
        "missed" => indented(&fill(MISSED, has_waited), indent),
        "is_marked" => IS_MARKED.to_owned(),
        "is_muted" => IS_MUTED.to_owned(),
        "locked" => indented(&fill(LOCKED, has_waited), indent),
        _ => String::new(),
    })
}

/// Whether an UPDATE leaves contacts and last conversation as they are. Contacts as their bytes, as `has_contact` reads
/// them: another equality may take '-' for ' ', and json has none. Never, where one of them is an expression: it may fail
/// on a row where nothing else asks for it.
fn is_same(columns: &Columns) -> String {
    let Columns { email, phone, last_conversation_at, .. } = columns;
    let same = |mapping: &Mapping, bytes: &str| match mapping {
        Mapping::Column(name) => {
            let column = identifier(name);
            Some(format!("OLD.{column}{bytes} IS NOT DISTINCT FROM NEW.{column}{bytes}"))
        }
        Mapping::Sql(_) => None,
    };
    let contacts = [email, phone].into_iter().flatten().map(|contact| same(contact, r#"::text COLLATE "C""#));
    let pieces = contacts.chain(last_conversation_at.iter().map(|time| same(time, "")));
    pieces.collect::<Option<Vec<_>>>().map_or_else(|| "false".to_owned(), |pieces| pieces.join(" AND "))
}

/// Rings where NOTIFY is wanted; empty where it is not.
fn ring(notify: Notify) -> String {
    let unless = match notify {
        Notify::Off => return String::new(),
        Notify::On => "",
        // A transaction that has notified cannot be prepared. Asked at run time: the setting changes with a restart.
        Notify::Auto => " AND current_setting('max_prepared_transactions') = '0'",
    };
    fill(RING, |name, _| if name == "rings" { bell::RINGS.to_string() } else { unless.to_owned() })
}

/// `template` with each `@name@` replaced, in one pass: what is put in is not looked at again. `with` is told the name
/// and how far in the line begins.
fn fill(template: &str, with: impl Fn(&str, usize) -> String) -> String {
    let mut filled = String::new();
    for (at, part) in template.split('@').enumerate() {
        if at % 2 == 0 {
            filled.push_str(part);
        } else {
            let line = filled.rsplit('\n').next().unwrap_or_default();
            let indent = line.len() - line.trim_start().len();
            filled.push_str(&with(part, indent));
        }
    }
    filled
}

fn indented(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        let filled = fill("a\n    @one@ b @two@\n", |name, indent| format!("<{name}@{indent}>"));
        assert_eq!(filled, "a\n    <one@4> b <two@4>\n");
    }

    #[test]
    fn the_doorbell_follows_the_setting() {
        assert_eq!(ring(Notify::Off), "");
        assert!(ring(Notify::On).contains("IS DISTINCT FROM 'on' THEN"));
        assert!(
            ring(Notify::Auto)
                .contains("IS DISTINCT FROM 'on' AND current_setting('max_prepared_transactions') = '0' THEN")
        );
    }
}
