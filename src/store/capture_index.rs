//! Whether the leads can be read in the order of their captured time: what the sweep needs, lest it read the whole
//! table. The server's planner says so itself, so that columns, expressions and partitions are all answered alike.

use tokio_postgres::{Error, SimpleQueryMessage};

use super::{client::Client, mapping::MappedSql};

/// How the captured time serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureIndex {
    /// Leads can be read by it.
    Usable,
    /// No index gives the leads in its order.
    Missing {
        /// The statement that makes one; `None`: the expression uses the row as a whole, which no index can.
        create: Option<String>,
    },
    /// It is a date, which does not say whether a lead came before or after something else of that day.
    OnlyADay,
    /// `leads.columns.captured_at` is not mapped.
    Unmapped,
}

/// What keeps a plan from reading in order where there is no index; forbidden, they are in it only then.
const IN_ORDER: &str = "-- capture_index::look
BEGIN READ ONLY;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_sort = off;
SET LOCAL enable_incremental_sort = off;
EXPLAIN (COSTS OFF) ";

/// Asks the planner; reads no row.
///
/// # Errors
/// What the database says of the mapping, or that the connection is lost.
pub async fn look(client: &Client, mapped: &MappedSql) -> Result<CaptureIndex, Error> {
    let Some(captured) = &mapped.captured_at else { return Ok(CaptureIndex::Unmapped) };
    if captured.is_a_day() {
        return Ok(CaptureIndex::OnlyADay);
    }
    let (table, key, key_type) = (&mapped.table, &captured.key, captured.key_type());
    let sql = format!(
        "{IN_ORDER}SELECT {key} FROM {table} lead WHERE {key} > '-infinity'::{key_type} ORDER BY {key} LIMIT 1; ROLLBACK"
    );
    let plan = match client.whole_transaction(&sql).await {
        Ok(plan) => plan,
        Err(error) => {
            client.roll_back().await?;
            return Err(error);
        }
    };
    let lines = plan.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    if lines.into_iter().any(is_out_of_order) {
        return Ok(CaptureIndex::Missing { create: create_sql(mapped, key) });
    }
    Ok(CaptureIndex::Usable)
}

/// Whether a line of a plan is a node that reads a table as it lies, or sorts.
fn is_out_of_order(line: &str) -> bool {
    let node = line.trim_start().trim_start_matches("->").trim();
    let node = node.strip_prefix("Parallel ").unwrap_or(node);
    node.starts_with("Seq Scan") || node == "Sort" || node == "Incremental Sort"
}

/// On a partitioned table the server refuses CONCURRENTLY.
fn create_sql(mapped: &MappedSql, key: &str) -> Option<String> {
    let concurrently = if mapped.partitioned_by.is_none() { " CONCURRENTLY" } else { "" };
    Some(format!("CREATE INDEX{concurrently} ON {} ({});", mapped.table, without_alias(key)?))
}

/// The expression over the row alias `lead` as an index takes it, whose columns stand alone. `None` where the row is
/// used as a whole, and where that cannot be told.
fn without_alias(expression: &str) -> Option<String> {
    let (mut sql, mut rest) = (String::new(), expression);
    while let Some(first) = rest.chars().next() {
        let length = token(rest, first)?;
        let (word, behind) = rest.split_at_checked(length)?;
        let is_alias = word.eq_ignore_ascii_case("lead") || word == "\"lead\"";
        rest = behind;
        if !is_alias || sql.trim_end().ends_with('.') {
            // A string with backslashes may end elsewhere than it seems.
            if first == '\'' && word.contains('\\') {
                return None;
            }
            sql.push_str(word);
            continue;
        }
        rest = rest.trim_start().strip_prefix('.')?.trim_start();
        let column = rest.chars().next().filter(|first| *first != '*')?;
        // It may be named like the alias.
        let (column, behind) = rest.split_at_checked(token(rest, column)?)?;
        sql.push_str(column);
        rest = behind;
    }
    Some(sql)
}

/// The length of the token that `text` begins with: a string, a quoted or plain name, or one other character.
fn token(text: &str, first: char) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    match first {
        '\'' | '"' => text.get(1..)?.find(first).map(|end| end + 2),
        // Dollar quotes.
        '$' => None,
        c if is_name(c) => Some(text.find(|c| !is_name(c)).unwrap_or(text.len())),
        c => Some(c.len_utf8()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_takes_the_expressions_columns_without_the_alias() {
        for (expression, expected) in [
            (r#"lead."created_at""#, Some(r#""created_at""#)),
            ("(lead.times->>'lead.at')", Some("(times->>'lead.at')")),
            ("(to_timestamp(LEAD.at / 1000.0))", Some("(to_timestamp(at / 1000.0))")),
            (r#"(coalesce("lead" . "a b", lead.lead))"#, Some(r#"(coalesce("a b", lead))"#)),
            ("(lead.row.lead)", Some("(row.lead)")),
            ("(app.leading(lead.a))", Some("(app.leading(a))")),
            ("(lead.a || 'it''s lead.b')", Some("(a || 'it''s lead.b')")),
            ("(app.captured(lead))", None),
            ("(app.captured(lead.*))", None),
            (r"(lead.a || E'\'lead.')", None),
            ("(lead.a || $$lead.$$)", None),
        ] {
            assert_eq!(without_alias(expression).as_deref(), expected, "{expression}");
        }
    }

    #[test]
    fn a_plan_that_sorts_or_reads_a_table_as_it_lies_has_no_index() {
        for line in ["  ->  Sort", "        ->  Parallel Seq Scan on leads lead", "Incremental Sort"] {
            assert!(is_out_of_order(line), "{line}");
        }
        for line in ["Limit", "  Sort Key: lead.created_at", "  ->  Index Only Scan using \"Sort\" on leads lead"] {
            assert!(!is_out_of_order(line), "{line}");
        }
    }
}
