//! The notification protocol of systemd: ready, alive, reloading, stopping, and a status for people.

use std::{os::unix::net::UnixDatagram, time::Duration};

use crate::harness::{PATIENCE, Setup};

/// Listens as systemd does.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn listen(setup: &Setup) -> Self {
        let path = setup.path("notify").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// Waits for a message with this line; all lines up to and including its message.
    fn wait_for(&self, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let n = self.socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {line} in {lines:?}"));
            let message = std::str::from_utf8(&buffer[..n]).unwrap().to_owned();
            let is_it = message.lines().any(|l| l.starts_with(line));
            lines.extend(message.lines().map(str::to_owned));
            if is_it {
                return lines;
            }
        }
    }
}

#[tokio::test]
async fn systemd_hears_that_it_is_ready_alive_reloading_and_stopping() {
    let setup = Setup::new().await;
    let manager = Manager::listen(&setup);
    let watchdog = Duration::from_millis(200).as_micros().to_string();
    let env = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", &watchdog)];
    let mut daemon = setup.daemon_with(&env);
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=database connected, 0 in flight");
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    daemon.signal("HUP");
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading:?}");
    manager.wait_for("READY=1");
    daemon.signal("TERM");
    manager.wait_for("STOPPING=1");
    assert_eq!(daemon.wait().await.code(), Some(0));
}
