//! The application: `pgbench`, which runs one statement again and again on several connections.

use std::{fs, process::Command};

use super::{
    harness::Database,
    stand::{COLUMNS, Stand},
};

/// What every run has.
const ARGUMENTS: [&str; 4] = ["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file"];

/// One lead of one of so many tenants, whose names begin with `prefix`.
pub(crate) fn insert(table: &str, prefix: &str, tenants: u64) -> String {
    format!(
        "\\set tenant random(0, {})\n\\set lead random(1, 1000000000)\n\
         INSERT INTO {table} ({COLUMNS}) \
         VALUES ('{prefix}-' || :tenant, 'lead' || :lead || '@example.com', '+491234567890', 'Ann', 'c-000000000042');\n",
        tenants - 1
    )
}

/// Runs a script in a database until it is done; commits a second.
pub(crate) async fn run(stand: &Stand, database: &Database, script: &str, arguments: &[&str]) -> f64 {
    let file = stand.files().join("pgbench.sql");
    fs::write(&file, script).unwrap();
    let mut command = Command::new(stand.cluster.binary("pgbench"));
    command.args(ARGUMENTS).arg(file).args(arguments).arg(database.admin_url());
    // Sessions of this process go on meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "pgbench: {errors}");
    let rate = printed.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("pgbench printed no rate:\n{printed}{errors}"))
}
