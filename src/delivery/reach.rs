//! Whether it is this machine that lacks a way to a receiver, or the receiver that is nowhere: what is this machine's
//! fault costs no lead, and what is one tenant's must not hold up the others.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{Mutex, PoisonError},
};

use rustix::io::Errno;

use crate::shortage::Shortage;

/// Two root name servers: with a way to the Internet there is one to either. Nothing is sent there.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30))];

/// What this machine can reach, as far as its own routes say.
#[derive(Debug, Default)]
pub(super) struct Reach {
    answered: Mutex<Option<IpAddr>>,
}

impl Reach {
    /// Notes that a receiver has answered from there.
    pub(super) fn answered(&self, address: IpAddr) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Whether there is no way to anybody: not to the receiver that was the last to answer, or as long as none has, not to
    /// the Internet.
    pub(super) fn is_nowhere(&self) -> bool {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.map_or_else(|| !ANYWHERE.into_iter().any(has_route), |address| !has_route(address))
    }

    /// Whether it is for this machine's sake that none of these addresses could be connected to, which failed so.
    pub(super) fn shortage(&self, error: &io::Error, tried: &[IpAddr]) -> Option<Shortage> {
        let has_no_address = match Errno::from_io_error(error)? {
            Errno::ADDRNOTAVAIL => true,
            Errno::NETUNREACH | Errno::NETDOWN => false,
            _ => return None,
        };
        if tried.iter().copied().any(has_route) {
            // There is an address for it here: then it was a port that was missing.
            return has_no_address.then_some(Shortage::Ports);
        }
        self.is_nowhere().then_some(Shortage::Network)
    }
}

/// Whether the system has a route to an address, and an address of its own to send from. A connected UDP socket sends
/// nothing. Where none can be made, it is not said that there is no route.
fn has_route(to: IpAddr) -> bool {
    let from: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let Err(error) = UdpSocket::bind((from, 0)).and_then(|socket| socket.connect((to, 443))) else { return true };
    let lacks = [Errno::NETUNREACH, Errno::NETDOWN, Errno::HOSTUNREACH, Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    !Errno::from_io_error(&error).is_some_and(|errno| lacks.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_a_route_only_a_port_can_be_missing() {
        let here = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let shortage = |errno: Errno| Reach::default().shortage(&io::Error::from(errno), &here);
        assert_eq!(shortage(Errno::ADDRNOTAVAIL), Some(Shortage::Ports));
        // A router on the way said so.
        assert_eq!(shortage(Errno::NETUNREACH), None);
        assert_eq!(shortage(Errno::CONNREFUSED), None);
    }
}
