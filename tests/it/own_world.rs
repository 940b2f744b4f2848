//! A test in namespaces of its own, where it may do to network and disk what no other test must feel.

use std::{
    fs,
    io::{Write as _, stderr},
    os::unix::fs::MetadataExt as _,
    process::Command,
};

use crate::harness::environment;

/// Says that this process is inside.
const INSIDE: &str = "LEAD_WEBHOOK_TEST_WORLD";

/// What a test needs of its own.
pub(crate) struct World {
    /// In words, after "which needs root for".
    pub(crate) what: &'static str,
    /// What `unshare` separates.
    pub(crate) namespaces: &'static [&'static str],
    /// A shell's commands that make it; they find the files in the directory `$1`.
    pub(crate) make: &'static str,
    /// Files, by name, with what stands in them.
    pub(crate) files: &'static [(&'static str, &'static str)],
}

impl World {
    /// Runs the test of that name again inside, and says whether this is that run. Where it cannot be made, that is
    /// printed: nothing is left out in silence.
    #[expect(clippy::explicit_write, reason = "of a test that passes, the runner swallows what eprintln! prints")]
    pub(crate) fn is_here(&self, test: &str) -> bool {
        if environment(INSIDE).is_some() {
            return true;
        }
        let am_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !am_root {
            writeln!(stderr(), "left out: {test}, which needs root for {}", self.what).unwrap();
            return false;
        }
        let files = tempfile::tempdir().unwrap();
        self.files.iter().for_each(|(name, text)| fs::write(files.path().join(name), text).unwrap());
        // 77: it cannot be made here.
        let enter = format!("{{ {}; }} || exit 77\nshift\nexec \"$@\"", self.make);
        let run = Command::new("unshare")
            .args(self.namespaces)
            .args(["sh", "-c", &enter, "enter"])
            .arg(files.path())
            .arg(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(INSIDE, "own")
            .output();
        match run {
            Ok(run) if run.status.success() && String::from_utf8_lossy(&run.stdout).contains("1 passed") => {}
            Ok(run) if run.status.code() != Some(77) && run.status.code() != Some(1) => {
                panic!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
            }
            Ok(run) => {
                let why = String::from_utf8_lossy(&run.stderr).trim().to_owned();
                writeln!(stderr(), "left out: {test}, because {} cannot be made here: {why}", self.what).unwrap();
            }
            Err(why) => writeln!(stderr(), "left out: {test}, which needs unshare: {why}").unwrap(),
        }
        false
    }
}
