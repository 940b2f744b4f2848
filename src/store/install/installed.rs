//! The functions and triggers that are there, compared with those that the mapping wants.

use std::collections::BTreeMap;

use crate::store::client::Client;

use super::{error::InstallError, triggers::Trigger};

/// What the catalog says of our functions and triggers.
#[derive(Debug)]
pub(super) struct Installed {
    functions: Vec<Function>,
    triggers: Vec<Found>,
}

#[derive(Debug)]
struct Function {
    name: String,
    body: String,
    settings: Vec<String>,
    is_guarded: bool,
}

/// A trigger that calls one of our functions.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name.
    pub(super) name: String,
    /// The table it is on, quoted where need be.
    pub(super) table: String,
    /// Whether this user owns that table, which dropping takes.
    pub(super) may_be_dropped: bool,
    function: String,
    is_on_leads: bool,
    tgtype: i16,
    is_enabled: bool,
    tgnewtable: Option<String>,
    is_unconditional: bool,
}

const FUNCTIONS: &str = "-- installed::functions
SELECT f.proname::text, f.prosrc, coalesce(f.proconfig, '{}'),
       f.prosecdef AND pg_get_userbyid(f.proowner) = $1 AND NOT has_function_privilege(0, f.oid, 'EXECUTE')
       AND ($2::text IS NULL OR has_function_privilege($2, f.oid, 'EXECUTE'))
FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
WHERE n.nspname = 'lead_webhook' AND f.proname IN ('lead_inserted', 'lead_updated') AND f.pronargs = 0";

/// `tgparentid`: those on a partitioned table's partitions come and go with its own.
const TRIGGERS: &str = "-- installed::triggers
SELECT t.tgname::text, format('%I.%I', c.relnamespace::regnamespace::text, c.relname), f.proname::text,
       t.tgrelid IS NOT DISTINCT FROM to_regclass($1), t.tgtype, t.tgenabled IN ('O', 'A'), t.tgnewtable::text,
       t.tgqual IS NULL AND cardinality(t.tgattr::int2[]) = 0, pg_has_role(c.relowner, 'USAGE')
FROM pg_trigger AS t
JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_proc AS f ON f.oid = t.tgfoid
JOIN pg_namespace AS n ON n.oid = f.pronamespace
WHERE n.nspname = 'lead_webhook' AND f.proname IN ('lead_inserted', 'lead_updated') AND t.tgparentid = 0";

impl Installed {
    /// Reads what is there; `table` is the leads table, `partitioned_by` its owner where it is partitioned.
    pub(super) async fn read(
        client: &Client,
        table: &str,
        owner: &str,
        partitioned_by: Option<&str>,
    ) -> Result<Self, InstallError> {
        let mut functions = Vec::new();
        for row in client.query(FUNCTIONS, &[&owner, &partitioned_by]).await? {
            functions.push(Function {
                name: row.try_get(0)?,
                body: row.try_get(1)?,
                settings: row.try_get(2)?,
                is_guarded: row.try_get(3)?,
            });
        }
        let mut triggers = Vec::new();
        for row in client.query(TRIGGERS, &[&table]).await? {
            triggers.push(Found {
                name: row.try_get(0)?,
                table: row.try_get(1)?,
                function: row.try_get(2)?,
                is_on_leads: row.try_get(3)?,
                tgtype: row.try_get(4)?,
                is_enabled: row.try_get(5)?,
                tgnewtable: row.try_get(6)?,
                is_unconditional: row.try_get(7)?,
                may_be_dropped: row.try_get(8)?,
            });
        }
        Ok(Self { functions, triggers })
    }

    /// Whether the trigger's function is there as the mapping wants it.
    pub(super) fn has_function(&self, wanted: &Trigger) -> bool {
        self.functions.iter().any(|there| {
            there.name == wanted.function
                && there.is_guarded
                && there.body == wanted.body()
                && there.settings == wanted.proconfig()
        })
    }

    /// Whether the trigger is in place and fires.
    pub(super) fn has_trigger(&self, wanted: &Trigger) -> bool {
        self.triggers.iter().any(|there| there.is(wanted) && there.is_enabled)
    }

    /// Whether the trigger is in place, but switched off.
    pub(super) fn is_switched_off(&self, wanted: &Trigger) -> bool {
        self.triggers.iter().any(|there| there.is(wanted) && !there.is_enabled)
    }

    /// Triggers that call our functions where they should not: on another table, or a second time.
    pub(super) fn strays<'a>(&'a self, wanted: &'a [Trigger]) -> impl Iterator<Item = &'a Found> {
        self.triggers
            .iter()
            .filter(|there| !there.is_on_leads || wanted.iter().all(|trigger| trigger.name != there.name))
    }

    /// Other tables than the leads table that have triggers of ours, each once, and whether this user owns it.
    pub(super) fn left(&self) -> BTreeMap<&str, bool> {
        let left = self.triggers.iter().filter(|there| !there.is_on_leads);
        left.map(|there| (there.table.as_str(), there.may_be_dropped)).collect()
    }

    /// The tables that have triggers of ours, each once.
    pub(super) fn tables(&self) -> Vec<&str> {
        let mut tables: Vec<_> = self.triggers.iter().map(|there| there.table.as_str()).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }

    /// Whether a function of ours is there.
    pub(super) fn has_functions(&self) -> bool {
        !self.functions.is_empty()
    }
}

impl Found {
    fn is(&self, wanted: &Trigger) -> bool {
        self.is_on_leads
            && self.name == wanted.name
            && self.function == wanted.function
            && self.tgtype == wanted.tgtype()
            && self.tgnewtable.as_deref() == wanted.tgnewtable()
            && self.is_unconditional
    }
}
