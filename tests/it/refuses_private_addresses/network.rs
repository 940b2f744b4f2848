//! A network of a test's own, in which every address of the Internet is this machine: what a connection went to can be
//! seen, and a name server may answer whatever it likes.

use std::{
    fs,
    io::{Write as _, copy, stderr},
    net::{IpAddr, Shutdown, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use crate::harness::environment;

/// Says that this process is inside.
const INSIDE: &str = "LEAD_WEBHOOK_TEST_NETWORK";

/// Makes the network, asks the name server on 127.0.0.1 alone, and goes on as the test. 77: it cannot be made here.
const ENTER: &str = "
{ ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo &&
  mount --bind \"$1/resolv.conf\" /etc/resolv.conf && mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf; } || exit 77
shift
exec \"$@\"";

/// For longer than an attempt lasts a look-up waits for an answer that does not come.
const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n";

/// Runs the test of that name again inside a network of its own, and says whether this is that run. Where none can be
/// made, that is printed: nothing is left out in silence.
#[expect(clippy::explicit_write, reason = "of a test that passes, the runner swallows what eprintln! prints")]
pub(super) fn is_inside(test: &str) -> bool {
    if environment(INSIDE).is_some() {
        return true;
    }
    let am_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !am_root {
        writeln!(stderr(), "left out: {test}, which needs root for a network of its own").unwrap();
        return false;
    }
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("resolv.conf"), RESOLV_CONF).unwrap();
    fs::write(files.path().join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n").unwrap();
    let run = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", ENTER, "enter"])
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
            writeln!(stderr(), "left out: {test}, because no network of its own can be made here: {why}").unwrap();
        }
        Err(why) => writeln!(stderr(), "left out: {test}, which needs unshare: {why}").unwrap(),
    }
    false
}

/// Takes every connection to its port, whichever address it is for, and hands it on to a receiver.
pub(super) struct Everywhere {
    /// The port, at every address.
    pub(super) port: u16,
    called: Arc<Mutex<Vec<IpAddr>>>,
}

impl Everywhere {
    /// Listens at every address and hands on to this port of 127.0.0.1.
    pub(super) fn before(receiver: u16) -> Self {
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
    pub(super) fn called(&self) -> Vec<IpAddr> {
        self.called.lock().unwrap().clone()
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
