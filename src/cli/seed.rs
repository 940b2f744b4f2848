//! `lead-webhook seed`: the uniqueness keys of the leads that are there already. Sends nothing.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{
    Failure,
    context::Context,
    database::{failed, installed, other_keys},
    output,
    progress::Progress,
};
use crate::{
    control::draft::TENANT_BYTES,
    dispatch::guard,
    store::{
        installation::Installation,
        lead_pages::{self, Pages},
        leads::{ID_CHARACTERS, Lead, Leads},
        mapping::MappedSql,
        session::Session,
        uniqueness::{self, Key, Known},
    },
    visitor::{self, UniquenessKey},
};

/// Characters of an id that are shown.
const SHOWN: usize = 64;

/// How many leads whose values cannot be read are named at the end.
const NAMED: usize = 10;

/// What happened so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    read: u64,
    written: u64,
    without_contact: u64,
    /// In the outbox: their claim decides and writes the key.
    queued: u64,
    /// Missed by a trigger: with a key they would count as known, and never be sent.
    missed: u64,
    broken: u64,
    /// Their tenant or their id is longer than any that is sent for.
    too_long: u64,
    /// The first of both, each with the reason.
    named: Vec<String>,
}

impl Counts {
    /// Notes a lead that is left out.
    fn name(&mut self, id: &str, why: &str) {
        if self.named.len() < NAMED {
            self.named.push(format!("lead {}: {why}", id.chars().take(SHOWN).collect::<String>()));
        }
    }
}

/// Reads all leads and writes their keys. By the daemon's login, because the mapping may run code of whoever owns the
/// table, which is to have no more rights than it has in a claim.
pub(super) async fn seed(context: &Context) -> Result<(), Failure> {
    let keyring = context.keyring()?;
    let mut reading = context.session().await?;
    let mut writing = context.session().await?;
    let installation = installed(&mut writing, failed(context)).await?;
    let key = guard::open_key(&installation, &keyring)
        .map_err(|error| other_keys(context, error, ": put the installation's own there"))?;
    let mapped = MappedSql::resolve(reading.client(), &context.config.leads).await.map_err(Failure::operation)?;
    let mut pages = Pages::new(&mut reading, &mapped).await.map_err(failed(context))?;
    let seeding = Seeding { key, installation };
    let mut counts = Counts::default();
    let progress = Progress::new();
    while let Some(leads) = pages.next(&mut reading).await.map_err(Failure::operation)? {
        seeding.page(context, &mapped, &mut writing, &leads, &mut counts).await?;
        progress.show(&format!("{} leads read, {} keys written", counts.read, counts.written));
    }
    progress.end();
    tell(&counts);
    Ok(())
}

fn tell(counts: &Counts) {
    for line in &counts.named {
        output::message(line);
    }
    let unnamed = counts.broken + counts.too_long - counts.named.len() as u64;
    if unnamed > 0 {
        output::message(&format!("and {unnamed} more"));
    }
    output::message(&summary(counts));
}

fn summary(counts: &Counts) -> String {
    let Counts { read, written, without_contact, queued, missed, broken, too_long, named: _ } = counts;
    let mut text =
        format!("{read} leads read, {written} keys written or moved on, {without_contact} leads without contact");
    if *queued > 0 {
        text.push_str(&format!(", {queued} left to the daemon because they are in the outbox"));
    }
    if *missed > 0 {
        text.push_str(&format!(
            ", {missed} left out because a trigger missed them and they were not sent: see `lead-webhook reconcile`"
        ));
    }
    if *broken > 0 {
        text.push_str(&format!(
            ", {broken} left out because their values cannot be read: correct them or [leads.columns], then run seed again"
        ));
    }
    if *too_long > 0 {
        text.push_str(&format!(", {too_long} left out because nothing is ever sent for names of that length"));
    }
    text
}

/// Why the lead can never be queued, where one of its names is longer than an index takes.
fn too_long(tenant_id: &str, lead: &Lead) -> Option<String> {
    if tenant_id.len() > TENANT_BYTES {
        Some("its tenant's id is longer than that of any endpoint".to_owned())
    } else if lead.lead_id.chars().count() > ID_CHARACTERS {
        Some(format!("its id is longer than {ID_CHARACTERS} characters"))
    } else {
        None
    }
}

/// What every page needs.
struct Seeding {
    key: UniquenessKey,
    installation: Installation,
}

impl Seeding {
    /// Writes the keys of one page.
    async fn page(
        &self,
        context: &Context,
        mapped: &MappedSql,
        session: &mut Session,
        leads: &Leads,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        // Asked after the leads were read: one that was queued and claimed in between has its key, which only moves forward.
        for (id, why) in leads.broken() {
            counts.broken += 1;
            counts.name(id, why);
        }
        let mut found = Vec::new();
        for (tenant_id, lead) in leads.found() {
            match too_long(tenant_id, lead) {
                None => found.push((tenant_id, lead)),
                Some(why) => {
                    counts.too_long += 1;
                    counts.name(&lead.lead_id, &why);
                }
            }
        }
        let daemons = lead_pages::daemons(session, mapped, &found).await.map_err(failed(context))?;
        let daemons = daemons.into_iter().map(|lead| ((lead.tenant_id, lead.lead_id), lead.is_queued)).collect();
        let rows = self.keys(found.into_iter(), &daemons, counts);
        counts.written += uniqueness::seed(session, &rows).await.map_err(failed(context))?;
        Ok(())
    }

    /// The keys of `leads`, each once, with its newest lead.
    ///
    /// The `daemons` (whether each is queued) are left out: their claim would take a key that names them for a row that
    /// has only moved, and never send them.
    fn keys<'a>(
        &self,
        leads: impl Iterator<Item = (&'a str, &'a Lead)>,
        daemons: &HashMap<(String, String), bool>,
        counts: &mut Counts,
    ) -> Vec<(Key, Known)> {
        let mut rows: HashMap<Key, Known> = HashMap::new();
        for (tenant_id, lead) in leads {
            counts.read += 1;
            let Some(contact) = visitor::contact(lead.email.as_deref(), lead.phone.as_deref()) else {
                counts.without_contact += 1;
                continue;
            };
            match daemons.get(&(tenant_id.to_owned(), lead.lead_id.clone())) {
                Some(true) => counts.queued += 1,
                Some(false) => counts.missed += 1,
                None => {
                    let key = self.key.of(tenant_id, lead.visitor_id.as_deref(), &lead.lead_id, &contact);
                    let seen_at = self.seen_at(lead);
                    if rows.get(&key).is_none_or(|known| known.seen_at < seen_at) {
                        rows.insert(key, known(tenant_id, lead, seen_at));
                    }
                }
            }
        }
        rows.into_iter().collect()
    }

    /// The later of the lead's times; a lead that has none was there when the triggers came.
    fn seen_at(&self, lead: &Lead) -> Timestamp {
        lead.captured_at.max(lead.last_conversation_at).unwrap_or(self.installation.installed_at)
    }
}

fn known(tenant_id: &str, lead: &Lead, seen_at: Timestamp) -> Known {
    Known {
        tenant_id: tenant_id.to_owned(),
        lead_id: lead.lead_id.clone(),
        seen_at,
        came_back_at: None,
        event_id: None,
        transaction_id: None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::installation::Identity;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn seeding() -> Seeding {
        Seeding {
            key: UniquenessKey::new(vec![7; visitor::KEY_BYTES].into()),
            installation: Installation {
                installation_id: Uuid::from_u128(1),
                installed_at: at(100),
                leads_since: at(100),
                identity: Identity { system_identifier: None, database_name: "app".to_owned(), table_oid: None },
                key_check_sealed: Vec::new(),
                uniqueness_key_sealed: Vec::new(),
                mapped: None,
            },
        }
    }

    fn lead(id: &str, email: Option<&str>, captured: Option<i64>, last: Option<i64>) -> Lead {
        Lead {
            lead_id: id.to_owned(),
            email: email.map(str::to_owned),
            phone: None,
            first_name: None,
            visitor_id: Some("v1".to_owned()),
            conversation_id: None,
            captured_at: captured.map(at),
            last_conversation_at: last.map(at),
        }
    }

    fn keys(leads: &[Lead], queued: &[&str]) -> (Vec<(String, Timestamp)>, Counts) {
        let queued = queued.iter().map(|id| (("t".to_owned(), (*id).to_owned()), true)).collect();
        let mut counts = Counts::default();
        let rows = seeding().keys(leads.iter().map(|lead| ("t", lead)), &queued, &mut counts);
        let mut rows: Vec<_> = rows.into_iter().map(|(_, known)| (known.lead_id, known.seen_at)).collect();
        rows.sort();
        (rows, counts)
    }

    #[test]
    fn a_key_names_its_newest_lead_and_the_later_of_that_leads_times() {
        let leads = [
            lead("a", Some("ann@example.com"), Some(1), Some(9)),
            lead("b", Some(" ANN@example.com"), Some(5), None),
            lead("c", Some("bob@example.com"), None, Some(3)),
            lead("d", Some("cid@example.com"), None, None),
        ];
        let expected = [("a", at(9)), ("c", at(3)), ("d", at(100))].map(|(id, time)| (id.to_owned(), time));
        assert_eq!(keys(&leads, &[]).0, expected);
    }

    #[test]
    fn leads_without_contact_and_leads_that_are_queued_get_no_key() {
        let leads = [
            lead("a", Some(" "), Some(1), None),
            lead("b", None, Some(1), None),
            lead("c", Some("cid@example.com"), Some(1), None),
            lead("d", Some("dan@example.com"), Some(1), None),
        ];
        let (rows, counts) = keys(&leads, &["c"]);
        assert_eq!(rows, [("d".to_owned(), at(1))]);
        assert_eq!(counts, Counts { read: 4, without_contact: 2, queued: 1, ..Counts::default() });
    }
}
