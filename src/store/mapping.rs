//! The configured columns as SQL over a row of the application's table, and whether that table agrees.
//!
//! [`MappedSql`] is what every statement about leads is made of: the triggers, the daemon's SELECT, the sweep. Its
//! pieces are written over the row alias `lead`. Types are asked of the server by preparing, never by running, each
//! expression: no right on the rows is needed for it. What else an expression may not do is for
//! [`install`](super::install) to say, once, before it goes into a trigger.

use std::fmt;

use tokio_postgres::types::{Kind, Type};

use super::{client::Client, identifier, said};
use crate::config::{Columns, Leads, Mapping};

/// The configured columns as SQL; every piece is an expression over the row alias `lead`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedSql {
    /// The table, schema-qualified and quoted.
    pub table: String,
    /// The table's owner, where it is partitioned: INSERT triggers are per row there, and whoever makes a partition must
    /// be able to call their functions.
    pub partitioned_by: Option<String>,
    /// The id, as text.
    pub id: String,
    /// The id in its own type: compare this one, so that the primary key's index serves.
    pub id_key: String,
    /// The id's type, as SQL names it: `WHERE {id_key} = ANY ($1::text[]::{id_type}[])`.
    pub id_type: String,
    pub(super) id_oid: u32,
    /// Whether the id is a column that an index begins with. An expression may have one too, of which nothing is known.
    pub id_is_indexed: bool,
    /// Whether the id is a column that has a UNIQUE index of its own; else it may be unique only within its tenant.
    pub id_is_unique: bool,
    /// The tenant, as text.
    pub tenant_id: String,
    /// Email, as text.
    pub email: Option<String>,
    /// Phone, as text.
    pub phone: Option<String>,
    /// First name, as text.
    pub first_name: Option<String>,
    /// Visitor, as text.
    pub visitor_id: Option<String>,
    /// Conversation, as text.
    pub conversation_id: Option<String>,
    /// boolean, never NULL: email or phone has anything but white space.
    pub has_contact: String,
    /// When the lead was first captured.
    pub captured_at: Option<MappedTime>,
    /// When the visitor last talked.
    pub last_conversation_at: Option<MappedTime>,
}

/// A time of the lead's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTime {
    /// timestamptz; NULL where the lead's time is infinite. A time without zone is UTC.
    pub sql: String,
    /// The time in its own type: compare this one, so that its index serves.
    pub key: String,
    kind: TimeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeKind {
    Zoned,
    Unzoned,
    Date,
}

/// One thing about `[leads]` that the table does not agree with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `leads.columns.email`.
    pub key: String,
    /// What is configured there.
    pub value: String,
    /// What is wrong, and the remedy.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: {}", self.key, self.value, self.text)
    }
}

/// Why the columns could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The table and the configuration do not agree; every problem. The operator must act.
    #[error("{}", one_a_line(.0))]
    Problems(Vec<Problem>),
    /// The database could not be asked.
    #[error("the leads table could not be looked at: {}", said(.0))]
    Database(#[from] tokio_postgres::Error),
}

pub(super) fn one_a_line(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// `[leads.columns]` as pairs of key and mapping, in the sample file's order; unmapped ones are left out.
pub(super) fn mapped(columns: &Columns) -> Vec<(&'static str, &Mapping)> {
    [
        ("id", Some(&columns.id)),
        ("tenant_id", Some(&columns.tenant_id)),
        ("email", columns.email.as_ref()),
        ("phone", columns.phone.as_ref()),
        ("first_name", columns.first_name.as_ref()),
        ("visitor_id", columns.visitor_id.as_ref()),
        ("conversation_id", columns.conversation_id.as_ref()),
        ("captured_at", columns.captured_at.as_ref()),
        ("last_conversation_at", columns.last_conversation_at.as_ref()),
    ]
    .into_iter()
    .filter_map(|(key, mapping)| Some((key, mapping?)))
    .collect()
}

/// The mapped value in its own type, over the row alias `lead`.
pub(super) fn raw(mapping: &Mapping) -> String {
    match mapping {
        Mapping::Column(name) => format!("lead.{}", identifier(name)),
        // The configuration takes no expression with a comment in it, which would swallow what follows.
        Mapping::Sql(expression) => format!("({expression})"),
    }
}

/// The table's name in SQL.
pub(super) fn table(leads: &Leads) -> String {
    format!("{}.{}", identifier(&leads.table.schema), identifier(&leads.table.name))
}

impl MappedSql {
    /// Asks the database what the configured columns are.
    ///
    /// # Errors
    /// [`MappingError::Problems`] with everything that does not fit; [`MappingError::Database`] when it cannot be asked.
    pub async fn resolve(client: &Client, leads: &Leads) -> Result<Self, MappingError> {
        let partitioned_by = look_at_table(client, leads).await?;
        let mut problems = Vec::new();
        let mut types = Vec::new();
        for (key, mapping) in mapped(&leads.columns) {
            match value_type(client, leads, mapping).await? {
                Ok(found) => types.push((key, found)),
                Err(text) => problems.push(problem(key, mapping, text)),
            }
        }
        let type_of = |key| types.iter().find(|(name, _)| *name == key).map(|(_, found)| found);
        let mut time = |key, mapping: &Option<Mapping>| {
            let mapping = mapping.as_ref()?;
            let kind = time_kind(type_of(key)?);
            if kind.is_none() {
                problems.push(problem(key, mapping, not_a_time(type_of(key)?, mapping)));
            }
            Some(MappedTime::new(&raw(mapping), kind?))
        };
        let captured_at = time("captured_at", &leads.columns.captured_at);
        let last_conversation_at = time("last_conversation_at", &leads.columns.last_conversation_at);
        let (Some(id), true) = (type_of("id"), problems.is_empty()) else {
            return Err(MappingError::Problems(problems));
        };
        let (id_is_indexed, id_is_unique) = indexes(client, leads, &leads.columns.id).await?;
        let row = client.query_one(TYPE_NAME, &[&id.oid()]).await?;
        let (id_type, is_utf8) = (row.try_get(0)?, row.try_get(1)?);
        let columns = &leads.columns;
        let text = |mapping: &Option<Mapping>| mapping.as_ref().map(as_text);
        Ok(Self {
            table: table(leads),
            partitioned_by,
            id: as_text(&columns.id),
            id_key: raw(&columns.id),
            id_type,
            id_oid: id.oid(),
            id_is_indexed,
            id_is_unique,
            tenant_id: as_text(&columns.tenant_id),
            email: text(&columns.email),
            phone: text(&columns.phone),
            first_name: text(&columns.first_name),
            visitor_id: text(&columns.visitor_id),
            conversation_id: text(&columns.conversation_id),
            has_contact: has_contact(columns, if is_utf8 { BLANKS } else { "" }),
            captured_at,
            last_conversation_at,
        })
    }

    /// Whether a row of ours, called `row`, is of the lead `l`, beside its id: where ids are unique, one that has another
    /// tenant now is still the same lead. IS TRUE keeps the look-up to the lead's index.
    pub(super) fn same_tenant(&self, row: &str) -> String {
        if self.id_is_unique { "true".to_owned() } else { format!("({row}.tenant_id = l.tenant_id) IS TRUE") }
    }
}

impl MappedTime {
    fn new(raw: &str, kind: TimeKind) -> Self {
        let finite = match kind {
            TimeKind::Zoned => raw.to_owned(),
            TimeKind::Unzoned => format!("{raw} AT TIME ZONE 'UTC'"),
            // By way of timestamp: a cast from date takes the session's time zone.
            TimeKind::Date => format!("{raw}::timestamp AT TIME ZONE 'UTC'"),
        };
        Self { sql: format!("CASE WHEN isfinite({raw}) THEN {finite} END"), key: raw.to_owned(), kind }
    }

    /// The type of [`key`](Self::key), as SQL names it.
    pub fn key_type(&self) -> &'static str {
        match self.kind {
            TimeKind::Zoned => "timestamptz",
            TimeKind::Unzoned => "timestamp",
            TimeKind::Date => "date",
        }
    }

    /// `time`, a timestamptz in SQL, as it compares with [`key`](Self::key); of a date its day.
    pub fn as_key(&self, time: &str) -> String {
        match self.kind {
            TimeKind::Zoned => time.to_owned(),
            TimeKind::Unzoned => format!("({time} AT TIME ZONE 'UTC')"),
            TimeKind::Date => format!("({time} AT TIME ZONE 'UTC')::date"),
        }
    }

    /// Whether it tells no more than the day.
    pub fn is_a_day(&self) -> bool {
        self.kind == TimeKind::Date
    }
}

fn as_text(mapping: &Mapping) -> String {
    format!("{}::text", raw(mapping))
}

/// Blanks beside those of `[[:space:]]`, which under this collation knows ASCII alone. As they are: a session may read
/// backslashes another way.
const BLANKS: &str = "\u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";

/// White space alone is no contact, `blanks` included. `COLLATE "C"`: other collations may be slow here, or refuse patterns.
fn has_contact(columns: &Columns, blanks: &str) -> String {
    let present = |mapping| format!(r#"coalesce({} COLLATE "C" ~ '[^[:space:]{blanks}]', false)"#, as_text(mapping));
    let either: Vec<_> = [&columns.email, &columns.phone].into_iter().flatten().map(present).collect();
    format!("({})", either.join(" OR "))
}

/// What is wrong with what `leads.columns.key` is mapped to.
pub(super) fn problem(key: &str, mapping: &Mapping, text: String) -> Problem {
    let value = match mapping {
        Mapping::Column(name) => name.clone(),
        Mapping::Sql(expression) => format!("sql: {expression}"),
    };
    Problem { key: format!("leads.columns.{key}"), value, text }
}

const TABLE: &str = "-- mapping::table
SELECT c.relkind::text, c.relispartition, has_schema_privilege(n.oid, 'USAGE'), pg_get_userbyid(c.relowner)::text,
       row_security_active(c.oid) AND current_setting('row_security') = 'off', current_user::text,
       (SELECT string_agg(format('%I.%I', o.relnamespace::regnamespace::text, o.relname), ', ' ORDER BY o.oid)
        FROM pg_class AS o WHERE o.relkind IN ('r', 'p') AND lower(o.relname) = lower($2))
FROM (SELECT) AS one
LEFT JOIN pg_namespace AS n ON n.nspname = $1
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = $2 AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c')";

const TYPE_NAME: &str = "-- mapping::type_name
SELECT format_type($1, -1), current_setting('server_encoding') = 'UTF8'";

const INDEXES: &str = "-- mapping::indexes
SELECT count(*) > 0, coalesce(bool_or(i.indisunique AND i.indnkeyatts = 1), false)
FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = $1::text::regclass AND i.indisvalid AND i.indpred IS NULL AND a.attname = $2";

/// Whether an index begins with a mapped column, and whether it is a UNIQUE one of that column alone. Of an expression
/// nothing is known: neither.
async fn indexes(client: &Client, leads: &Leads, mapping: &Mapping) -> Result<(bool, bool), tokio_postgres::Error> {
    let Mapping::Column(column) = mapping else { return Ok((false, false)) };
    let row = client.query_one(INDEXES, &[&table(leads), column]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Whether the table is there and can have our triggers; where it is partitioned, its owner.
async fn look_at_table(client: &Client, leads: &Leads) -> Result<Option<String>, MappingError> {
    let row = client.query_one(TABLE, &[&leads.table.schema, &leads.table.name]).await?;
    let kind: Option<&str> = row.try_get(0)?;
    let is_partition: Option<bool> = row.try_get(1)?;
    let may_use: Option<bool> = row.try_get(2)?;
    let owner: Option<String> = row.try_get(3)?;
    let hides_rows: Option<bool> = row.try_get(4)?;
    let me: &str = row.try_get(5)?;
    let elsewhere: Option<&str> = row.try_get(6)?;
    let text = match (kind, is_partition, may_use) {
        (Some("r" | "p"), Some(false), Some(true)) if hides_rows == Some(true) => format!(
            "its row-level security would hide leads from {me}: an administrator runs ALTER ROLE {} BYPASSRLS;",
            identifier(me)
        ),
        (Some("r" | "p"), Some(false), Some(true)) => return Ok(owner.filter(|_| kind == Some("p"))),
        (Some("r" | "p"), Some(false), _) => {
            format!(
                "this user may not use schema {0}: GRANT USAGE ON SCHEMA {0} to it",
                identifier(&leads.table.schema)
            )
        }
        (Some("r" | "p"), ..) => "is a partition: name the partitioned table that it belongs to".to_owned(),
        (Some("v" | "m"), ..) => "is a view, which cannot have the triggers: name the table behind it".to_owned(),
        (Some(_), ..) => {
            "is a foreign table: lead-webhook belongs to the database where the rows are written".to_owned()
        }
        (None, ..) => match elsewhere {
            Some(found) => format!("there is no such table; did you mean {found}?"),
            None => "there is no such table in this database".to_owned(),
        },
    };
    let value = leads.table.to_string();
    Err(MappingError::Problems(vec![Problem { key: "leads.table".to_owned(), value, text }]))
}

/// The type of a mapped value, or what the server has against the expression.
async fn value_type(
    client: &Client,
    leads: &Leads,
    mapping: &Mapping,
) -> Result<Result<Type, String>, tokio_postgres::Error> {
    if client.is_pooled() {
        return Box::pin(value_type_pooled(client, leads, mapping)).await;
    }
    let (table, value) = (table(leads), raw(mapping));
    // The table twice: a column that is not written as lead.column is ambiguous then, as it has no meaning in a trigger.
    let sql = format!("-- mapping::value_type\nSELECT {value} FROM {table} AS lead CROSS JOIN {table} AS \" \"");
    let refusal = match client.describe(&sql).await {
        Ok((columns, params)) => match columns.as_slice() {
            [value] if params == 0 => return Ok(Ok(value.clone())),
            [_] => "has parameters: write the values themselves".to_owned(),
            _ => "is not one value".to_owned(),
        },
        Err(error) => refusal(error, leads, mapping)?,
    };
    Ok(Err(refusal))
}

/// The same behind a pooler, where a statement cannot be prepared only to be looked at: to name a type of the
/// application's the driver would prepare others, and keep them. Nothing is computed here, and no row read.
async fn value_type_pooled(
    client: &Client,
    leads: &Leads,
    mapping: &Mapping,
) -> Result<Result<Type, String>, tokio_postgres::Error> {
    let (table, value) = (table(leads), raw(mapping));
    let sql = format!(
        "-- mapping::value_type_pooled
SELECT t.oid, t.typname::text FROM (
    SELECT pg_typeof(CASE WHEN false THEN {value} END)::oid AS oid
    FROM (SELECT) AS one LEFT JOIN ({table} AS lead CROSS JOIN {table} AS \" \") ON false
) AS value JOIN pg_type AS t ON t.oid = value.oid"
    );
    match client.query_one(&sql, &[]).await {
        Ok(row) => {
            let (oid, name) = (row.try_get(0)?, row.try_get(1)?);
            let named = || Type::new(name, oid, Kind::Simple, String::new());
            Ok(Ok(Type::from_oid(oid).unwrap_or_else(named)))
        }
        Err(error) => Ok(Err(refusal(error, leads, mapping)?)),
    }
}

/// What the server has against a mapped value.
fn refusal(error: tokio_postgres::Error, leads: &Leads, mapping: &Mapping) -> Result<String, tokio_postgres::Error> {
    Ok(match error.as_db_error() {
        Some(db) if db.code().code() == "42703" && matches!(mapping, Mapping::Column(_)) => {
            let hint = db.hint().map_or_else(String::new, |hint| format!(". {}", hint.replace("lead.", "")));
            format!("{} has no such column{hint}", leads.table)
        }
        Some(db) if db.code().code() == "42702" => format!("{}: write lead.column", db.message()),
        // A lock, an end of the session, a shortage, a crash: nothing that a column is to blame for.
        Some(db) if matches!(db.code().code().get(..2), Some("08" | "40" | "53" | "55" | "57" | "58" | "XX")) => {
            return Err(error);
        }
        Some(_) => said(&error),
        None => return Err(error),
    })
}

fn time_kind(found: &Type) -> Option<TimeKind> {
    match *found {
        Type::TIMESTAMPTZ => Some(TimeKind::Zoned),
        Type::TIMESTAMP => Some(TimeKind::Unzoned),
        Type::DATE => Some(TimeKind::Date),
        _ => None,
    }
}

fn not_a_time(found: &Type, mapping: &Mapping) -> String {
    let value = raw(mapping);
    let remedy = match *found {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
            format!("for Unix seconds write \"sql: to_timestamp({value})\"")
        }
        _ => format!("write an expression that makes a time of it, as \"sql: {value}::timestamptz\""),
    };
    format!("is {}, not timestamptz, timestamp or date: {remedy}", found.name())
}
