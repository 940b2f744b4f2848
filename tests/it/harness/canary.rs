//! Canaries: what is secret or personal in these tests, whichever test it is, and must stand nowhere but in the request
//! to its receiver. Every line that a program of ours prints, its arguments and environment, and all that stands in our
//! schema when a database goes are looked through.

use std::{
    fs,
    sync::{Mutex, PoisonError},
};

use tokio_postgres::Client;

/// In every contact, in the path of every receiver's URL, and in header values and queries of some.
const MARKS: [&str; 3] = ["@example.", PATH, "cr3dential"];

/// The path of the receivers' URLs.
pub(super) const PATH: &str = "hook-of-kanarienvogel";

/// Signing secrets and keys that were made in this process.
static PLANTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From here on this value must stand nowhere, nor what follows the prefix of a signing secret.
pub(super) fn plant(value: &str) {
    let value = value.trim_start_matches("whsec_").to_owned();
    PLANTED.lock().unwrap_or_else(PoisonError::into_inner).push(value);
}

/// Plants the keys of a key file.
pub(super) fn plant_keys(file: &str) {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().last())
        .for_each(plant);
}

/// The canaries that stand in a text.
pub(super) fn found(text: &str) -> Vec<String> {
    let planted = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    let planted = planted.iter().map(String::as_str);
    MARKS.into_iter().chain(planted).filter(|canary| text.contains(canary)).map(str::to_owned).collect()
}

/// The arguments and the environment of a process, where this user may read them.
pub(super) fn of_process(process: u32) -> String {
    let read = |what: &str| fs::read(format!("/proc/{process}/{what}")).unwrap_or_default();
    ["cmdline", "environ"].map(|what| String::from_utf8_lossy(&read(what)).into_owned()).concat()
}

/// All rows of all tables of ours, with the functions and triggers, as text. Not by `pg_dump`: it does not come with
/// every server, and shows bytes in hexadecimal, in which nothing would be recognised.
pub async fn everything_in_our_schema(admin: &Client) -> Result<String, tokio_postgres::Error> {
    admin.batch_execute("SET bytea_output = 'escape'").await?;
    let parts = "SELECT format('SELECT concat(string_agg(t::text, '' '')) FROM %s AS t', oid::regclass)
                 FROM pg_class WHERE relnamespace = to_regnamespace('lead_webhook') AND relkind = 'r'
                 UNION ALL SELECT format('SELECT pg_get_functiondef(%s)', oid)
                 FROM pg_proc WHERE pronamespace = to_regnamespace('lead_webhook')
                 UNION ALL SELECT format('SELECT pg_get_triggerdef(%s)', oid) FROM pg_trigger WHERE NOT tgisinternal";
    let mut everything = String::new();
    for part in admin.query(parts, &[]).await? {
        let text: Option<String> = admin.query_one(part.get::<_, &str>(0), &[]).await?.get(0);
        everything.push_str(&text.unwrap_or_default());
        everything.push('\n');
    }
    Ok(everything)
}
