//! A network of a test's own, in which every address of the Internet is this machine: what a connection went to can be
//! seen, and a name server may answer whatever it likes.

use std::{
    io::copy,
    net::{IpAddr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::own_world::World;

/// It asks the name server on 127.0.0.1 alone; for longer than an attempt lasts a look-up waits for an answer that does
/// not come.
pub(super) const NETWORK: World = World {
    what: "a network of its own",
    namespaces: &["--net", "--mount"],
    make: "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo &&
        mount --bind \"$1/resolv.conf\" /etc/resolv.conf && mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf",
    files: &[
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ],
};

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
