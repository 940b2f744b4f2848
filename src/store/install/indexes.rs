//! The indexes of our tables: whether each that the migrations make is there and usable. One may have been dropped, or be what
//! an interrupted REINDEX CONCURRENTLY has left.

use super::{error::InstallError, history, step::Step};
use crate::store::{client::Client, identifier};

const OURS: &str = "-- indexes::ours
SELECT c.relname::text, i.indisvalid AND i.indisready
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'lead_webhook'::regnamespace
ORDER BY 1";

/// An index as its migration makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    /// Its name in our schema.
    pub(super) name: String,
    sql: String,
}

/// What is not as the migrations have made it.
#[derive(Debug)]
pub(super) struct Found {
    /// Missing, or not usable.
    pub(super) lacking: Vec<Index>,
    /// Written to, and of no use.
    pub(super) left_over: Vec<String>,
}

/// Looks at all of them. Every migration must have run.
pub(super) async fn look(client: &Client) -> Result<Found, InstallError> {
    let rows = client.query(OURS, &[]).await?;
    let there: Vec<(String, bool)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, tokio_postgres::Error>>()?;
    let wanted = wanted();
    let left_over =
        there.iter().filter(|(name, is_usable)| !is_usable && wanted.iter().all(|index| index.name != *name));
    let left_over = left_over.map(|(name, _)| name.clone()).collect();
    let is_usable = |index: &Index| there.iter().any(|(name, is_usable)| *is_usable && *name == index.name);
    Ok(Found { lacking: wanted.into_iter().filter(|index| !is_usable(index)).collect(), left_over })
}

impl Found {
    /// The steps that make what is lacking.
    pub(super) fn steps(&self, owner: &str) -> Vec<Step> {
        let step = |index: &Index| {
            let sql = format!("DROP INDEX IF EXISTS {};\n{};", index.qualified(), index.sql);
            Step::owner(owner, format!("make index {} anew", index.qualified()), sql)
        };
        self.lacking.iter().map(step).collect()
    }
}

impl Index {
    /// As SQL names it.
    pub(super) fn qualified(&self) -> String {
        qualified(&self.name)
    }
}

/// As SQL names an index of ours.
pub(super) fn qualified(name: &str) -> String {
    format!("lead_webhook.{}", identifier(name))
}

/// Those that no constraint brings along, in the order of the migrations.
fn wanted() -> Vec<Index> {
    let statements = history::statements();
    statements
        .iter()
        .filter_map(|sql| named(sql).map(|name| Index { name: name.to_owned(), sql: sql.clone() }))
        .collect()
}

fn named(sql: &str) -> Option<&str> {
    let rest = sql.strip_prefix("CREATE UNIQUE INDEX ").or_else(|| sql.strip_prefix("CREATE INDEX "))?;
    rest.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_is_found_whole_among_the_migrations() {
        let wanted = wanted();
        let events = wanted.iter().find(|index| index.name == "deliveries_event").unwrap();
        assert!(events.sql.starts_with("CREATE UNIQUE INDEX deliveries_event ON lead_webhook.deliveries"));
        assert!(events.sql.ends_with("WHERE redelivery_of IS NULL"), "{}", events.sql);
        assert_eq!(wanted.len(), 8, "{wanted:?}");
    }
}
