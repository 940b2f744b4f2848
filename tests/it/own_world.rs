//! A test in namespaces of its own, where it may do to network and disk what no other test must feel.

mod internet;
mod name_server;

use std::{
    fs,
    io::copy,
    net::{IpAddr, Shutdown, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

pub(crate) use self::{
    internet::INTERNET,
    name_server::{NameServer, Reply},
};
use crate::harness::{environment, left_out};

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
    pub(crate) fn is_here(&self, test: &str) -> bool {
        if environment(INSIDE).is_some() {
            return true;
        }
        let am_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !am_root {
            left_out(&format!("{test}, which needs root for {}", self.what));
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
                left_out(&format!("{test}, because {} cannot be made here: {why}", self.what));
            }
            Err(why) => left_out(&format!("{test}, which needs unshare: {why}")),
        }
        false
    }
}

/// Takes every connection to its port, whichever address it is for, and hands it on to a receiver.
pub(crate) struct Everywhere {
    /// The port, at every address.
    pub(crate) port: u16,
    called: Arc<Mutex<Vec<IpAddr>>>,
}

impl Everywhere {
    /// Listens at every address and hands on to this port of 127.0.0.1.
    pub(crate) fn before(receiver: u16) -> Self {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let called = Arc::<Mutex<Vec<IpAddr>>>::default();
        let seen = Arc::clone(&called);
        thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                seen.lock().unwrap().push(client.local_addr().unwrap().ip().to_canonical());
                let server = TcpStream::connect(("127.0.0.1", receiver)).unwrap();
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        });
        Self { port, called }
    }

    /// The addresses that were connected to, in order.
    pub(crate) fn called(&self) -> Vec<IpAddr> {
        self.called.lock().unwrap().clone()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
