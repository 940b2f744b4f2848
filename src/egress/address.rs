//! The addresses that are no public web server: a table, a row an RFC.
//!
//! Built on the IANA special-purpose registries for IPv4 and IPv6, and stricter: what they call globally reachable
//! but is no place for a web server (anycast of protocols, AS112) is in it too. Knows nothing of the configuration.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// One row of the table: addresses that are refused unless the operator allows them.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    members: Members,
    name: &'static str,
    source: &'static str,
}

/// Which addresses a row means.
#[derive(Debug, PartialEq, Eq)]
enum Members {
    Network(IpNet),
    /// Interface ids `0:5efe:a.b.c.d` and `200:5efe:a.b.c.d` under any prefix.
    Isatap,
    /// IPv6 that was never given out for unicast.
    OutsideGlobalUnicast,
}

/// All IPv6 addresses that are given out for global unicast (RFC 4291, section 2.4; IANA's address space registry).
const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// The well-known prefix by which DNS64 makes an IPv4 address reachable from an IPv6-only host (RFC 6052).
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

static BLOCKS: &[Block] = &[
    v4([0, 0, 0, 0], 8, "\"this network\"", "RFC 791, section 3.2"),
    v4([10, 0, 0, 0], 8, "private use", "RFC 1918"),
    v4([100, 64, 0, 0], 10, "shared address space of carriers", "RFC 6598"),
    v4([127, 0, 0, 0], 8, "loopback", "RFC 1122, section 3.2.1.3"),
    v4([168, 63, 129, 16], 32, "Azure's host agent", "Microsoft, not an RFC"),
    v4([169, 254, 0, 0], 16, "link-local, where clouds keep their metadata", "RFC 3927"),
    v4([172, 16, 0, 0], 12, "private use", "RFC 1918"),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments", "RFC 6890, section 2.1"),
    v4([192, 0, 0, 0], 29, "IPv4 service continuity", "RFC 7335"),
    v4([192, 0, 0, 8], 32, "IPv4 dummy address", "RFC 7600"),
    v4([192, 0, 0, 9], 32, "Port Control Protocol anycast", "RFC 7723"),
    v4([192, 0, 0, 10], 32, "TURN anycast", "RFC 8155"),
    v4([192, 0, 0, 170], 31, "discovery of NAT64", "RFC 7050, section 2.2"),
    v4([192, 0, 2, 0], 24, "documentation", "RFC 5737"),
    v4([192, 31, 196, 0], 24, "AS112", "RFC 7535"),
    v4([192, 52, 193, 0], 24, "automatic multicast tunneling", "RFC 7450"),
    v4([192, 88, 99, 0], 24, "6to4 relay anycast, deprecated", "RFC 7526"),
    v4([192, 168, 0, 0], 16, "private use", "RFC 1918"),
    v4([192, 175, 48, 0], 24, "AS112, direct delegation", "RFC 7534"),
    v4([198, 18, 0, 0], 15, "benchmarking", "RFC 2544"),
    v4([198, 51, 100, 0], 24, "documentation", "RFC 5737"),
    v4([203, 0, 113, 0], 24, "documentation", "RFC 5737"),
    v4([224, 0, 0, 0], 4, "multicast", "RFC 5771"),
    v4([240, 0, 0, 0], 4, "reserved", "RFC 1112, section 4"),
    v4([255, 255, 255, 255], 32, "limited broadcast", "RFC 919, section 7"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 8, "reserved by the IETF", "RFC 4291, section 4"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible, deprecated", "RFC 4291, section 2.5.5.1"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified", "RFC 4291, section 2.5.2"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback", "RFC 4291, section 2.5.3"),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped", "RFC 4291, section 2.5.5.2"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated", "RFC 2765"),
    Block { members: Members::Network(IpNet::V6(NAT64)), name: "NAT64", source: "RFC 6052" },
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "NAT64 for local use", "RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard only", "RFC 6666"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "dummy prefix", "RFC 9780"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF protocol assignments", "RFC 2928"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo", "RFC 4380"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, "Port Control Protocol anycast", "RFC 7723"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, "TURN anycast", "RFC 8155"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, "DNS-SD service registration anycast", "RFC 9665"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking", "RFC 5180"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "automatic multicast tunneling", "RFC 7450"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "AS112", "RFC 7535"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "ORCHID, deprecated", "RFC 4843"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHIDv2", "RFC 7343"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "drone remote id", "RFC 9374"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation", "RFC 3849"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4", "RFC 3056"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112, direct delegation", "RFC 7534"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation", "RFC 9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing", "RFC 9602"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local", "RFC 4193"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local", "RFC 4291, section 2.5.6"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local, deprecated", "RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast", "RFC 4291, section 2.7"),
    Block { members: Members::Isatap, name: "ISATAP", source: "RFC 5214, section 6.1" },
    Block { members: Members::OutsideGlobalUnicast, name: "no global unicast", source: "RFC 4291, section 2.4" },
];

const fn v4([a, b, c, d]: [u8; 4], length: u8, name: &'static str, source: &'static str) -> Block {
    let network = Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length);
    Block { members: Members::Network(IpNet::V4(network)), name, source }
}

const fn v6(groups: [u16; 8], length: u8, name: &'static str, source: &'static str) -> Block {
    let [a, b, c, d, e, f, g, h] = groups;
    let network = Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length);
    Block { members: Members::Network(IpNet::V6(network)), name, source }
}

/// The row that `address` falls under, the most specific one, so that an error names the real reason.
///
/// `None` is an address of the public Internet.
pub(super) fn block_of(address: IpAddr) -> Option<&'static Block> {
    BLOCKS.iter().filter(|block| block.contains(address)).max_by_key(|block| block.specificity())
}

/// The IPv4 address inside an answer under the well-known NAT64 prefix: what the connection ends at.
pub(super) fn nat64(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    NAT64.contains(&address).then(|| carried(address)).flatten()
}

/// The IPv4 address that an IPv6 address carries, in any of the forms that a translator or tunnel may unpack.
///
/// The prefix for local use (RFC 8215) is not among them: where it holds the IPv4 address is each network's choice.
pub(super) fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let low = ipv4(g, h);
    match [a, b, c, d, e, f] {
        // IPv4-mapped, IPv4-translated, NAT64.
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(low),
        // IPv4-compatible, apart from the unspecified and the loopback address.
        [0, 0, 0, 0, 0, 0] => (low.to_bits() > 1).then_some(low),
        // 6to4.
        [0x2002, high, next, ..] => Some(ipv4(high, next)),
        // Teredo holds the client's address with every bit flipped (RFC 4380, section 4).
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!low.to_bits())),
        _ if is_isatap(address) => Some(low),
        _ => None,
    }
}

fn ipv4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// The universal/local bit (0x0200) may be set or not (RFC 5214, section 6.1).
fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [_, _, _, _, 0 | 0x0200, 0x5efe, _, _])
}

impl Block {
    /// Whether `address` falls under this row.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        match (&self.members, address) {
            (Members::Network(network), _) => network.contains(&address),
            (Members::Isatap, IpAddr::V6(address)) => is_isatap(address),
            (Members::OutsideGlobalUnicast, IpAddr::V6(address)) => !GLOBAL_UNICAST.contains(&address),
            (_, IpAddr::V4(_)) => false,
        }
    }

    fn specificity(&self) -> u8 {
        match &self.members {
            Members::Network(network) => network.prefix_len(),
            // An interface id says more than the prefix that it stands under, unless that is a single address.
            Members::Isatap => 127,
            Members::OutsideGlobalUnicast => 0,
        }
    }
}

/// The row as a reason: `private use (10.0.0.0/8, RFC 1918)`.
impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        match &self.members {
            Members::Network(network) => write!(f, "{network}")?,
            Members::Isatap => f.write_str("interface id 0:5efe:a.b.c.d")?,
            Members::OutsideGlobalUnicast => write!(f, "outside {GLOBAL_UNICAST}")?,
        }
        write!(f, ", {})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(address: &str) -> Option<String> {
        block_of(address.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn the_most_specific_row_is_the_reason() {
        for (address, expected) in [
            ("10.1.2.3", "private use (10.0.0.0/8, RFC 1918)"),
            ("192.0.0.9", "Port Control Protocol anycast (192.0.0.9/32, RFC 7723)"),
            ("255.255.255.255", "limited broadcast (255.255.255.255/32, RFC 919, section 7)"),
            ("::1", "loopback (::1/128, RFC 4291, section 2.5.3)"),
            ("2600:abcd::5efe:a00:1", "ISATAP (interface id 0:5efe:a.b.c.d, RFC 5214, section 6.1)"),
            ("2600:abcd::200:5efe:a00:1", "ISATAP (interface id 0:5efe:a.b.c.d, RFC 5214, section 6.1)"),
            ("4000::1", "no global unicast (outside 2000::/3, RFC 4291, section 2.4)"),
        ] {
            assert_eq!(reason(address).as_deref(), Some(expected), "{address}");
        }
        assert_eq!(reason("93.184.216.34"), None);
        assert_eq!(reason("2606:4700:4700::1111"), None);
    }

    #[test]
    fn every_block_of_the_corpus_is_a_row_with_its_source() {
        let corpus = include_str!("../../tests/corpus/special_addresses.tsv");
        for row in corpus.lines().skip(1).filter(|row| !row.starts_with("not 2000::/3")) {
            let network = Members::Network(row.split('\t').next().unwrap().parse().unwrap());
            let block = BLOCKS.iter().find(|block| block.members == network);
            let source = block.map(|block| block.source.split(',').next().unwrap());
            assert!(source.is_some_and(|source| row.contains(source)), "{row}: {source:?}");
        }
    }

    #[test]
    fn a_carried_address_is_found_in_every_form() {
        for address in [
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
            "2001:0:4136:e378:8000:63bf:f5ff:fffe",
            "2600:abcd::5efe:10.0.0.1",
            "2600:abcd::200:5efe:10.0.0.1",
        ] {
            assert_eq!(carried(address.parse().unwrap()), Some(Ipv4Addr::new(10, 0, 0, 1)), "{address}");
        }
        for address in ["::", "::1", "2606:4700:4700::1111", "64:ff9b:1::a00:1"] {
            assert_eq!(carried(address.parse().unwrap()), None, "{address}");
        }
    }
}
