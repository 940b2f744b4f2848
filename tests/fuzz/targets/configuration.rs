//! A configuration is read, or refused with problems that say something; it never ends the program.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use lead_webhook::config;
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    folder.keep().join("lead-webhook.toml")
});

fuzz_target!(|text: &str| {
    fs::write(&*FILE, text).expect("the file");
    match config::load(Some(&FILE)) {
        Ok(config) => {
            assert!(config.delivery.per_endpoint <= config.delivery.concurrency);
            assert!(!config.delivery.timeout.is_zero() && !config.database.poll_interval.is_zero());
        }
        Err(refused) => {
            let said = refused.to_string();
            assert!(said.lines().all(|line| line.len() > 10), "{said}");
        }
    }
});
