//! What a mapped column or expression may not be or do, and what it needs: asked of the server's own parser.
//!
//! Each expression becomes a temporary view inside a transaction that is rolled back. The view's stored parse tree says
//! whether there is a subquery, an aggregate, a window or set-returning function, and which functions it calls; its
//! dependencies say which columns and schemas it needs. No row is read.

use std::collections::BTreeSet;

use crate::store::client::{Client, Transaction};

use super::{error::InstallError, texts, triggers::QUOTE};
use crate::{
    config::{Leads, Mapping},
    store::mapping::{Problem, mapped, problem, raw, table},
};

/// What the mapping needs of the database.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// Columns of the leads table that are read.
    pub(super) columns: BTreeSet<String>,
    /// Schemas other than the server's own whose objects the expressions use.
    pub(super) schemas: BTreeSet<String>,
    /// Functions in those schemas, each with its arguments' types.
    pub(super) functions: BTreeSet<String>,
}

impl Needed {
    fn extend(&mut self, other: Self) {
        self.columns.extend(other.columns);
        self.schemas.extend(other.schemas);
        self.functions.extend(other.functions);
    }
}

/// What the triggers read of a lead. Everything else is read by the claim alone, as any session reads it.
pub(super) const READ_BY_TRIGGERS: [&str; 6] =
    ["id", "tenant_id", "email", "phone", "captured_at", "last_conversation_at"];

/// Looks into the mapping, but for what `known` has something against already, and adds what it finds to `known`.
pub(super) async fn vet(client: &mut Client, leads: &Leads, known: &mut Vec<Problem>) -> Result<Needed, InstallError> {
    let mut needed = Needed::default();
    let uncomputed = uncomputed(client, leads).await?;
    let probes = client.transaction().await?;
    for (name, mapping) in mapped(&leads.columns) {
        let key = format!("leads.columns.{name}");
        if known.iter().any(|problem| problem.key == key) {
            continue;
        }
        let mut of_one = Needed::default();
        let fault = match mapping {
            Mapping::Column(column) => {
                of_one.columns.insert(column.clone());
                None
            }
            Mapping::Sql(_) => look_into(&probes, name, mapping, leads, &mut of_one).await?,
        };
        let fault = fault.or_else(|| unseen(name, &of_one.columns, &uncomputed));
        let is_key = ["id", "tenant_id"].contains(&name);
        let fault = if fault.is_none() && is_key { unfit(&probes, name, mapping, leads).await? } else { fault };
        match fault {
            Some(text) => known.push(problem(name, mapping, text)),
            None => needed.extend(of_one),
        }
    }
    probes.rollback().await?;
    Ok(needed)
}

/// A type, whether its text depends on settings of the session, so that another session would not find a lead or an endpoint
/// by what one has queued, whether two of it cannot be compared, and whether they are compared by operators that our sessions
/// do not see.
const KEY_TYPE: &str = "-- vet::key_type
SELECT format_type(t.oid, NULL), t.oid = ANY ('{bytea, date, timestamp, timestamptz, timetz, interval, real, float8}'::regtype[]),
       t.typcategory = 'A' OR t.oid = ANY ('{json, xml, point, line, lseg, box, path, polygon, circle}'::regtype[]),
       EXISTS (SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod
               WHERE m.amname = 'btree' AND o.opcdefault AND o.opcintype = t.oid
                 AND o.opcnamespace <> 'pg_catalog'::regnamespace)
FROM pg_attribute AS a
JOIN pg_type AS d ON d.oid = a.atttypid
JOIN pg_type AS t ON t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)
WHERE a.attrelid = $1::text::regclass AND a.attname = $2::text";

/// Whether leads cannot be told apart by their id, or neither they nor their tenant in every session. An expression has been
/// looked into.
async fn unfit(
    probes: &Transaction<'_>,
    name: &str,
    mapping: &Mapping,
    leads: &Leads,
) -> Result<Option<String>, InstallError> {
    let (of, column) = match mapping {
        Mapping::Column(column) => (table(leads), column.as_str()),
        Mapping::Sql(_) => (format!("pg_temp.lead_webhook_{name}"), "value"),
    };
    let row = probes.query_one(KEY_TYPE, &[&of, &column]).await?;
    let (kind, by_settings): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    let (is_incomparable, is_an_extensions): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
    let is_id = name == "id";
    Ok(match () {
        () if by_settings => {
            let remedy = "map an expression that is spelled alike in all of them";
            Some(format!("is {kind}, whose text depends on a session's settings: {remedy}"))
        }
        () if is_id && is_incomparable => {
            let remedy = "map a column or an expression that names the lead";
            Some(format!("is {kind}, and two of them cannot be compared: {remedy}"))
        }
        () if is_id && is_an_extensions => {
            let remedy = format!("map \"sql: ({})::text\", and make an index over that", raw(mapping));
            Some(format!(
                "is {kind}, which is compared by operators of an extension's, and those are not used: {remedy}"
            ))
        }
        () => None,
    })
}

/// What a mapped column has against it that became virtual after the install. Expressions are not looked into: that
/// takes a view, and `check` only reads.
pub(super) async fn unseen_columns(client: &Client, leads: &Leads) -> Result<Vec<Problem>, InstallError> {
    let uncomputed = uncomputed(client, leads).await?;
    let fault = |(name, mapping): (&str, &Mapping)| match mapping {
        Mapping::Column(column) => {
            unseen(name, &BTreeSet::from([column.clone()]), &uncomputed).map(|text| problem(name, mapping, text))
        }
        Mapping::Sql(_) => None,
    };
    Ok(mapped(&leads.columns).into_iter().filter_map(fault).collect())
}

/// Whether a trigger would see NULL in place of one of the columns that are mapped to `name`.
fn unseen(name: &str, columns: &BTreeSet<String>, uncomputed: &BTreeSet<String>) -> Option<String> {
    let column = columns.intersection(uncomputed).next().filter(|_| READ_BY_TRIGGERS.contains(&name))?;
    let text = "a virtual generated column, which a trigger does not see";
    Some(format!("reads {column}, {text}: write the expression that generates it, or make it STORED"))
}

/// Since version 18; before, every generated column is stored.
const UNCOMPUTED: &str = "-- vet::uncomputed
SELECT a.attname::text FROM pg_attribute AS a
WHERE a.attrelid = $1::text::regclass AND a.attgenerated = 'v' AND NOT a.attisdropped";

/// The table's columns that are computed where they are read, and nowhere in a trigger.
async fn uncomputed(client: &Client, leads: &Leads) -> Result<BTreeSet<String>, InstallError> {
    Ok(texts(client, UNCOMPUTED, &[&table(leads)]).await?)
}

const PROBE: &str = r"-- vet::probe
SELECT tree ~ ':hasSubLinks true', tree ~ ':hasAggs true', tree ~ ':hasWindowFuncs true', tree ~ ':hasTargetSRFs true',
       tree ~ '\{VAR :varno \d+ :varattno -',
       ARRAY(SELECT f.oid::regprocedure::text FROM pg_proc AS f WHERE f.oid = ANY (called) AND f.provolatile = 'v'),
       ARRAY(SELECT a.attname::text FROM pg_attribute AS a
             WHERE a.attrelid = $2::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
               AND (tree ~ '\{VAR :varno \d+ :varattno 0 ' OR EXISTS (
                    SELECT FROM pg_depend AS d WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                       AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum))),
       ARRAY(SELECT f.oid::regprocedure::text FROM pg_proc AS f
             WHERE f.oid = ANY (called) AND f.pronamespace <> 'pg_catalog'::regnamespace),
       ARRAY(SELECT n.nspname::text FROM pg_namespace AS n WHERE n.nspname <> 'pg_catalog' AND n.oid IN (
             SELECT f.pronamespace FROM pg_proc AS f WHERE f.oid = ANY (called)
             UNION ALL
             SELECT coalesce(t.typnamespace, o.oprnamespace, l.collnamespace) FROM pg_depend AS d
             LEFT JOIN pg_type AS t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
             LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
             LEFT JOIN pg_collation AS l ON d.refclassid = 'pg_collation'::regclass AND l.oid = d.refobjid
             WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid))
FROM pg_rewrite AS r
CROSS JOIN LATERAL (SELECT r.ev_action::text AS tree) AS rule
CROSS JOIN LATERAL (SELECT ARRAY(
    SELECT found[1]::oid FROM regexp_matches(tree, ':(?:funcid|opfuncid) (\d+)', 'g') AS found
    UNION
    SELECT o.oprcode FROM regexp_matches(tree, ':opno (\d+)', 'g') AS found JOIN pg_operator AS o ON o.oid = found[1]::oid
) AS called) AS calls
WHERE r.ev_class = ('pg_temp.' || $1)::regclass";

/// What is to be said against one expression; otherwise what it needs is added to `needed`.
async fn look_into(
    probes: &Transaction<'_>,
    key: &str,
    mapping: &Mapping,
    leads: &Leads,
    needed: &mut Needed,
) -> Result<Option<String>, InstallError> {
    let (value, table, view) = (raw(mapping), table(leads), format!("lead_webhook_{key}"));
    if value.contains(QUOTE) {
        return Ok(Some(format!("must not contain {QUOTE}, which encloses it in the trigger function")));
    }
    probes.batch_execute(&format!("CREATE TEMP VIEW {view} AS SELECT {value} AS value FROM {table} AS lead")).await?;
    let row = probes.query_one(PROBE, &[&view, &table]).await?;
    let refused = [
        "has a subquery: only the lead's own columns can be used",
        "has an aggregate function: only the lead's own columns can be used",
        "has a window function: only the lead's own columns can be used",
        "makes more than one value: an expression makes one",
        "uses a system column, which a trigger does not see: use a column of the table",
    ];
    for (at, text) in refused.into_iter().enumerate() {
        if row.try_get(at)? {
            return Ok(Some(text.to_owned()));
        }
    }
    let volatile: Vec<String> = row.try_get(5)?;
    if !volatile.is_empty() {
        let text =
            "volatile, it may answer differently for the same row: declare it STABLE if it does not, or leave it out";
        return Ok(Some(format!("calls {}, which is {text}", volatile.join(", "))));
    }
    needed.columns.extend(row.try_get::<_, Vec<String>>(6)?);
    needed.functions.extend(row.try_get::<_, Vec<String>>(7)?);
    needed.schemas.extend(row.try_get::<_, Vec<String>>(8)?);
    Ok(None)
}
