//! The endpoints: which are not complete, and which cannot be opened. Those that have the same finding share a line.

use std::collections::BTreeMap;

use super::line::{Line, Verdict};
use crate::{
    outcome::Failure,
    pipeline::{Pipeline, Unusable},
    store::endpoints::EndpointRow,
};

/// How many tenants a line names.
const NAMED: usize = 5;

/// For what was sealed by a key that is gone, or that was altered.
const SET_ANEW: &str = "what cannot be opened again, set anew: `lead-webhook endpoint set TENANT …`, \
                        `lead-webhook secret generate TENANT`";

/// A line over all, and one for each thing that is wrong. Without a `pipeline` nothing can be opened.
pub(super) fn look(rows: &[EndpointRow], pipeline: Option<&Pipeline>) -> Vec<Line> {
    let is_whole = |row: &&EndpointRow| row.sealed.url_sealed.is_some() && row.sealed.secret_sealed.is_some();
    let whole: Vec<_> = rows.iter().filter(is_whole).collect();
    let mut lines = vec![summary(rows.len(), whole.len(), whole.iter().filter(|row| !row.sealed.enabled).count())];
    lines.extend(missing(rows, "URL", "set it: `lead-webhook endpoint set TENANT --url …`", |row| {
        row.sealed.url_sealed.is_none()
    }));
    lines.extend(missing(rows, "secret", "make one: `lead-webhook secret generate TENANT`", |row| {
        row.sealed.secret_sealed.is_none()
    }));
    let Some(pipeline) = pipeline else { return lines };
    let mut unusable: BTreeMap<(&str, String), (Failure, Vec<&str>)> = BTreeMap::new();
    for row in whole {
        if let Err(Unusable { failure, error }) = pipeline.open(&row.tenant_id, &row.sealed) {
            let same = unusable.entry((failure.as_str(), error)).or_insert((failure, Vec::new()));
            same.1.push(&row.tenant_id);
        }
    }
    lines
        .extend(unusable.into_iter().map(|((_, error), (failure, tenants))| cannot_be_used(failure, &error, &tenants)));
    lines
}

fn summary(all: usize, whole: usize, off: usize) -> Line {
    if all == 0 {
        let remedy = "set one: `lead-webhook endpoint set TENANT --url …`, then `lead-webhook secret generate TENANT`";
        return Line::warn("endpoints", "there are none: nothing is queued or sent", remedy);
    }
    Line::ok("endpoints", format!("{all}, of which {whole} have URL and secret; {off} of these are off"))
}

fn missing(rows: &[EndpointRow], part: &str, remedy: &str, is_missing: impl Fn(&EndpointRow) -> bool) -> Option<Line> {
    let tenants: Vec<_> = rows.iter().filter(|row| is_missing(row)).map(|row| row.tenant_id.as_str()).collect();
    let text = format!("{} without {part}, for which nothing is queued", named(&tenants));
    (!tenants.is_empty()).then(|| Line::warn("endpoints", text, remedy))
}

/// What the key file decides is the operator's to mend; the rest the tenant saves anew.
fn cannot_be_used(failure: Failure, error: &str, tenants: &[&str]) -> Line {
    let text = format!("{}: deliveries are failed / {failure}: {error}", named(tenants));
    let (verdict, remedy) = match failure {
        // The error may say how they open again.
        Failure::Secret | Failure::Headers => (Verdict::Fail, SET_ANEW),
        _ => (Verdict::Warn, "save a corrected one: `lead-webhook endpoint set TENANT …`"),
    };
    Line { verdict, what: "endpoints", finding: text, remedy: Some(remedy.to_owned()) }
}

/// `1 (acme)`, `7 (a, b, c, d, e, …)`.
fn named(tenants: &[&str]) -> String {
    let mut names: Vec<_> = tenants.iter().take(NAMED).copied().collect();
    if tenants.len() > NAMED {
        names.push("…");
    }
    format!("{} ({})", tenants.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::endpoints::SealedEndpoint;

    fn row(tenant: &str, url: bool, secret: bool) -> EndpointRow {
        EndpointRow {
            tenant_id: tenant.to_owned(),
            sealed: SealedEndpoint {
                enabled: true,
                url_sealed: url.then(Vec::new),
                host: None,
                port: None,
                secret_sealed: secret.then(Vec::new),
                headers_sealed: None,
                template: None,
                omit_empty: false,
                timeout_ms: None,
            },
            header_names: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            secret_set_at: None,
        }
    }

    #[test]
    fn endpoints_that_are_not_complete_share_a_line_that_names_some() {
        let mut rows: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|tenant| row(tenant, true, false)).into();
        rows.push(row("g", false, true));
        let lines = look(&rows, None);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].finding.starts_with("1 (g) without URL"), "{lines:?}");
        assert!(lines[2].finding.starts_with("6 (a, b, c, d, e, …) without secret"), "{lines:?}");
        assert!(lines[1..].iter().all(|line| line.verdict == Verdict::Warn));
    }

    #[test]
    fn what_the_key_file_decides_fails_and_what_a_tenant_saved_is_warned_about() {
        assert_eq!(cannot_be_used(Failure::Secret, "sealed by key 1", &["a"]).verdict, Verdict::Fail);
        assert_eq!(cannot_be_used(Failure::Blocked, "private", &["a"]).verdict, Verdict::Warn);
    }
}
