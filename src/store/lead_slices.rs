//! The leads since some time, a slice at a time: for the sweep and for `reconcile`. A slice is a condition over the row
//! alias `lead`, to be used in a statement of its own: a lock on the application's table lasts no longer than that, and
//! a lead is seen together with what was committed with it.
//!
//! Bounds are literals, so that each statement is planned for what it is. Where a statement fails for one lead's values,
//! [`Pieces`] halves its slice until that lead stands alone.

use jiff::Timestamp;
use tokio_postgres::Error;

use super::{
    client::{Client, Setting},
    leads::{concerns_all, describe, may_concern_all},
    literal,
    mapping::{MappedSql, MappedTime},
    said,
};

/// Leads a slice, more only where they share one captured time. A statement over so many takes a tenth of a second.
const SLICE: usize = 10_000;

/// Ids a page, where a slice has to be halved.
const PAGE: usize = 1_000;

/// Why slices cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The statement fails whichever leads it is to read.
    #[error("{}", said(.0))]
    Table(#[source] Error),
    /// They cannot be read, because of the server or of a value.
    #[error("{}", describe(.0))]
    Leads(#[from] Error),
}

/// The log and the keys are probed by index, the outbox is hashed once a slice; so it is right whatever the statistics
/// say.
const PLAN: [Setting; 4] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("enable_nestloop", "off"), ("enable_mergejoin", "off")];

/// While a statement reads the leads, a change of their table waits for it, and behind that every writer.
const PATIENCE: [Setting; 1] = [("statement_timeout", "10s")];

/// Gives this session's statements so long from here on.
///
/// # Errors
/// That the connection is lost.
pub async fn be_patient(client: &Client) -> Result<(), Error> {
    client.set("lead_slices::be_patient", &PATIENCE).await
}

/// Plans this session's statements for slices from here on.
///
/// # Errors
/// That the connection is lost.
pub async fn plan(client: &Client) -> Result<(), Error> {
    client.set("lead_slices::plan", &PLAN).await
}

/// The place in the table.
pub struct Slices {
    table: String,
    id: String,
    id_key: String,
    id_type: String,
    /// What slices are made by, with its type.
    key: String,
    key_type: String,
    /// What holds for every key that is looked at.
    range: String,
    /// What holds for every lead beside.
    filter: String,
    after: Option<String>,
    is_done: bool,
}

impl Slices {
    /// Leads captured at `since` or later, in that order: their captured time needs an index.
    pub fn by_capture(mapped: &MappedSql, captured: &MappedTime, since: Timestamp) -> Self {
        let time = format!("{}::timestamptz", literal(&since.to_string()));
        let (key, key_type) = (captured.key.clone(), captured.key_type().to_owned());
        let range = format!("{key} >= {}", captured.as_key(&time));
        Self::new(mapped, key, key_type, range, format!("{} >= {time} AND {} IS NOT NULL", captured.sql, mapped.id_key))
    }

    /// The same over the whole table in the order of the ids; without `captured` all leads.
    pub fn by_id(mapped: &MappedSql, captured: Option<(&MappedTime, Timestamp)>) -> Self {
        let filter = captured.map_or_else(
            || "true".to_owned(),
            |(time, since)| format!("{} >= {}::timestamptz", time.sql, literal(&since.to_string())),
        );
        let (key, key_type) = (mapped.id_key.clone(), mapped.id_type.clone());
        let range = format!("{key} IS NOT NULL");
        Self::new(mapped, key, key_type, range, filter)
    }

    fn new(mapped: &MappedSql, key: String, key_type: String, range: String, filter: String) -> Self {
        let MappedSql { table, id, id_key, id_type, .. } = mapped.clone();
        Self { table, id, id_key, id_type, key, key_type, range, filter, after: None, is_done: false }
    }

    /// The next slice; `None`: there are no more.
    ///
    /// # Errors
    /// [`SliceError`].
    pub async fn next(&mut self, client: &Client) -> Result<Option<Pieces>, SliceError> {
        if self.is_done {
            return Ok(None);
        }
        let Self { table, key, key_type, .. } = self;
        let bound = |bound: &str| format!("{}::{key_type}", literal(bound));
        let from = match &self.after {
            Some(after) => format!("{} AND {key} > {}", self.range, bound(after)),
            None => self.range.clone(),
        };
        let sql = format!(
            "-- lead_slices::next\nSELECT {key}::text FROM {table} lead WHERE {from} ORDER BY {key} OFFSET {} LIMIT 1",
            SLICE - 1
        );
        let last: Option<String> = client.query_opt(&sql, &[]).await?.map(|row| row.try_get(0)).transpose()?;
        let range = match &last {
            Some(last) => format!("{from} AND {key} <= {}", bound(last)),
            None => from,
        };
        self.is_done = last.is_none();
        self.after = last;
        Ok(Some(Pieces::new(self, &range)))
    }
}

/// One slice, whole or in pieces.
pub struct Pieces {
    condition: String,
    id_key: String,
    id_type: String,
    /// The statement that reads a page of the slice's ids, up to where it begins.
    ids_sql: String,
    waiting: Vec<Piece>,
    /// Where the next page of ids begins, once the whole has failed.
    paging: Option<Option<String>>,
    /// The lead that is looked at once more, after a piece of none.
    doubted: Option<String>,
    broken: Vec<(String, String)>,
}

/// A part of a slice.
pub struct Piece {
    /// Over the row alias `lead`.
    pub condition: String,
    /// `None`: the whole slice.
    ids: Option<Vec<String>>,
}

impl Piece {
    /// No lead: only the statement itself can fail.
    fn of_none() -> Self {
        Self { condition: "false".to_owned(), ids: Some(Vec::new()) }
    }

    fn is_of_none(&self) -> bool {
        self.ids.as_ref().is_some_and(Vec::is_empty)
    }
}

impl Pieces {
    /// `range` is what the slice is by its key. The filter is not asked for its ids: it may fail for the one lead.
    fn new(slices: &Slices, range: &str) -> Self {
        let Slices { table, id, id_key, id_type, filter, .. } = slices;
        let condition = format!("{range} AND {filter}");
        Self {
            ids_sql: format!(
                "-- lead_slices::ids\nSELECT {id} FROM {table} lead WHERE {range} AND {id_key} IS NOT NULL"
            ),
            waiting: vec![Piece { condition: condition.clone(), ids: None }],
            condition,
            id_key: id_key.clone(),
            id_type: id_type.clone(),
            paging: None,
            doubted: None,
            broken: Vec::new(),
        }
    }

    /// The next piece to be looked at; `None`: the slice is done.
    ///
    /// # Errors
    /// [`SliceError`].
    pub async fn next(&mut self, client: &Client) -> Result<Option<Piece>, SliceError> {
        if self.waiting.is_empty()
            && let Some(after) = self.paging.take()
        {
            let key = &self.id_key;
            let from = after.map_or_else(String::new, |id| format!(" AND {key} > {}::{}", literal(&id), self.id_type));
            let sql = format!("{}{from} GROUP BY {key} ORDER BY {key} LIMIT {PAGE}", self.ids_sql);
            let rows = client.query(&sql, &[]).await?;
            let ids: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, Error>>()?;
            if let Some(last) = ids.last() {
                self.paging = Some(Some(last.clone()));
                self.push(ids);
            }
        }
        Ok(self.waiting.pop())
    }

    /// The piece's statement has failed: it is looked at again in smaller ones, or the one lead that it is stands among
    /// the [`broken`](Self::broken).
    ///
    /// # Errors
    /// [`SliceError`] where the failure concerns every lead.
    pub fn failed(&mut self, piece: Piece, error: Error) -> Result<(), SliceError> {
        if concerns_all(&error) {
            return Err(error.into());
        }
        if piece.is_of_none() {
            return Err(SliceError::Table(error));
        }
        match piece.ids {
            None => self.paging = Some(None),
            // Whether it concerns this lead alone is told by asking for none, and for it once more.
            Some(ids) if may_concern_all(&error) && ids.len() == 1 && self.doubted.as_ref() != ids.first() => {
                self.doubted = ids.first().cloned();
                self.push(ids);
                self.waiting.push(Piece::of_none());
            }
            Some(mut ids) if ids.len() > 1 => {
                let right = ids.split_off(ids.len() / 2);
                self.push(right);
                self.push(ids);
            }
            Some(ids) => self.broken.extend(ids.into_iter().map(|id| (id, describe(&error)))),
        }
        Ok(())
    }

    /// The leads that could not be looked at, each with the reason; neither holds a value.
    pub fn broken(self) -> Vec<(String, String)> {
        self.broken
    }

    fn push(&mut self, ids: Vec<String>) {
        let list: Vec<String> = ids.iter().map(|id| literal(id)).collect();
        let condition = format!(
            "{} AND {} = ANY (ARRAY[{}]::text[]::{}[])",
            self.condition,
            self.id_key,
            list.join(", "),
            self.id_type
        );
        self.waiting.push(Piece { condition, ids: Some(ids) });
    }
}
