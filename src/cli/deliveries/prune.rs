//! `deliveries prune`: what the daemon removes from the log by and by, at once or only counted.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::{Failure, context::Context, database::failed, fields::aligned, output, progress::Progress},
    config::SHORTEST_RETENTION,
    control::time::{self, to_the_second},
    store::retention::{self, Edges, Pruning},
};

/// What `--json` says.
#[derive(Serialize)]
struct Pruned {
    dry_run: bool,
    delivered: i64,
    skipped: i64,
    failed: i64,
    interrupted: i64,
}

/// Counts what is too old, and removes it unless that is all.
pub(super) async fn prune(context: &Context, before: Option<&str>, dry_run: bool, json: bool) -> Result<(), Failure> {
    let before = before.map(|text| edge(text, Timestamp::now())).transpose().map_err(Failure::Arguments)?;
    let mut session = context.session().await?;
    let edges = match before {
        Some(before) => [Some(before); 3],
        None => retention::edges(&mut session, &context.config.retention).await.map_err(failed(context))?,
    };
    let counted = retention::count(&mut session, &edges).await.map_err(failed(context))?;
    let of = |status: &str| counted.iter().find(|(counted, _)| counted == status).map_or(0, |(_, n)| *n);
    let [delivered, skipped, failed_, interrupted] = ["delivered", "skipped", "failed", "interrupted"].map(of);
    let all = delivered + skipped + failed_ + interrupted;
    if !dry_run {
        let progress = Progress::new();
        let mut pruning = Pruning::begin(&mut session, edges, None).await.map_err(failed(context))?;
        let mut removed = 0;
        loop {
            let batch = pruning.step(&mut session).await.map_err(failed(context))?;
            if batch == 0 {
                break;
            }
            removed += batch;
            progress.show(&format!("{removed} of {all} deliveries"));
        }
        progress.end();
    }
    if json {
        output::json(&Pruned { dry_run, delivered, skipped, failed: failed_, interrupted })?;
    } else {
        output::data(&table(&edges, [delivered, skipped, failed_, interrupted]))?;
    }
    let become_of_them = match (dry_run, all) {
        (true, _) => "would be",
        (false, 1) => "is",
        (false, _) => "are",
    };
    output::message(&format!("{} {become_of_them} removed", super::counted(all)));
    Ok(())
}

fn edge(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let edge = time::parse(text, now).map_err(|problem| format!("--before: {problem}"))?;
    if now.checked_sub(SHORTEST_RETENTION).is_ok_and(|newest| edge > newest) {
        return Err(format!("--before: {text:?} is too new: what ended within the last 48 hours is kept"));
    }
    Ok(edge)
}

fn table(edges: &Edges, counts: [i64; 4]) -> String {
    let [delivered, skipped, failed] = edges.map(|edge| {
        edge.map_or_else(|| "kept for ever".to_owned(), |edge| format!("ended before {}", to_the_second(edge)))
    });
    let [of_delivered, of_skipped, of_failed, of_interrupted] = counts;
    aligned(&[
        ("delivered", format!("{of_delivered}, {delivered}")),
        ("skipped", format!("{of_skipped}, {skipped}")),
        ("failed", format!("{of_failed}, {failed}")),
        ("interrupted", format!("{of_interrupted}, {failed}")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_never_pruned() {
        let now: Timestamp = "2026-04-22T10:00:00Z".parse().unwrap();
        assert_eq!(edge("48h", now), Ok("2026-04-20T10:00:00Z".parse().unwrap()));
        for (text, problem) in [("47h", "too new"), ("2026-04-23", "too new"), ("monday", "is no time")] {
            let said = edge(text, now).unwrap_err();
            assert!(said.contains("--before") && said.contains(problem), "{said}");
        }
    }
}
