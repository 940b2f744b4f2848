//! A network of a test's own, in which every address of the Internet is this machine: what a connection went to can be
//! seen, and a name server may answer whatever it likes.

use super::World;

/// It asks the name server on 127.0.0.1 alone; for longer than an attempt lasts a look-up waits for an answer that does
/// not come.
pub(crate) const INTERNET: World = World {
    what: "a network of its own",
    namespaces: &["--net", "--mount"],
    make: "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo &&
        mount --bind \"$1/resolv.conf\" /etc/resolv.conf && mount --bind \"$1/nsswitch.conf\" /etc/nsswitch.conf",
    files: &[
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ],
};
