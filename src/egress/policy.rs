//! [`Policy`]: the built-in rules joined with what the operator's configuration allows and forbids.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use url::Host;

use super::{
    EndpointUrl, UrlRefused,
    address::{self, Block},
    name,
};

/// Decides where the daemon may send. Cheap to clone; a reload makes a new one.
#[derive(Debug, Clone)]
pub struct Policy {
    lists: Arc<Lists>,
}

/// The operator's lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// Hosts that pass the rules about names and addresses, as [`parse_allow_host`] spells them.
    pub allow_hosts: Vec<String>,
    /// Networks whose addresses are allowed for any host.
    pub allow_networks: Vec<IpNet>,
    /// Networks whose addresses are forbidden, whatever else allows them.
    pub deny_networks: Vec<IpNet>,
}

/// How an address came up. NAT64 answers are DNS64's work, NAT64 literals are somebody's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Literal,
    Answer,
}

/// An address that must not be connected to, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct AddressRefused {
    /// The address, as the URL has it or as it was resolved.
    pub address: IpAddr,
    /// What forbids it.
    pub rule: Rule,
}

/// What forbids an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It, or the IPv4 address that it carries, is special. The operator could allow it.
    Special(&'static Block),
    /// It, or the IPv4 address that it carries, lies in one of `egress.deny_networks`.
    Denied(IpNet),
}

impl Policy {
    /// The built-in rules, and the operator's lists on top of them.
    pub fn new(lists: Lists) -> Self {
        Self { lists: Arc::new(lists) }
    }

    /// Checks raw text, parses it once, and judges the host, as spec section 5 says. White space around it is dropped.
    ///
    /// What comes out goes in again unchanged, so that a stored URL can be vetted before it is sent to.
    ///
    /// # Errors
    /// [`UrlRefused`] with the first rule that forbids it: the tenant must change the URL, or the operator the setting
    /// that the text names.
    pub fn vet_url(&self, raw: &str) -> Result<EndpointUrl, UrlRefused> {
        EndpointUrl::vet(raw, self)
    }

    /// Judges every answer of one resolution of `host`, and returns them in their order, to connect to.
    ///
    /// # Errors
    /// [`AddressRefused`] for the first forbidden answer: one forbids them all, lest a name with a public and a
    /// private address gets through by chance.
    pub fn vet_addresses(&self, host: &str, answers: &[IpAddr]) -> Result<Vec<IpAddr>, AddressRefused> {
        let host_allowed = self.allows_host(host);
        for &address in answers {
            self.judge(address, Origin::Answer, host_allowed)?;
        }
        Ok(answers.to_vec())
    }

    /// Judges an address that a URL names itself.
    pub(super) fn vet_literal(&self, address: IpAddr) -> Result<(), AddressRefused> {
        self.judge(address, Origin::Literal, self.allows_host(&address.to_string()))
    }

    /// Whether `egress.allow_hosts` names `host`: itself, or for `*.suffix` a name below the suffix.
    pub(super) fn allows_host(&self, host: &str) -> bool {
        let host = name::without_root(host);
        self.lists.allow_hosts.iter().any(|allowed| match allowed.strip_prefix('*') {
            Some(dot_suffix) => host.strip_suffix(dot_suffix).is_some_and(|rest| !rest.is_empty()),
            None => allowed == host,
        })
    }

    fn judge(&self, address: IpAddr, origin: Origin, host_allowed: bool) -> Result<(), AddressRefused> {
        let refused = |rule| Err(AddressRefused { address, rule });
        if let Some(&network) = self.lists.deny_networks.iter().find(|network| touches(network, address)) {
            return refused(Rule::Denied(network));
        }
        // What the connection ends at, for the two forms that the system itself unpacks.
        let end = match origin {
            Origin::Answer => address::nat64(address).map_or(address, IpAddr::V4),
            Origin::Literal => address,
        };
        let allowed = |address: IpAddr| self.lists.allow_networks.iter().any(|network| network.contains(&address));
        if host_allowed || allowed(address) || allowed(end.to_canonical()) {
            return Ok(());
        }
        address::block_of(end).map_or(Ok(()), |block| refused(Rule::Special(block)))
    }
}

/// Whether `network` holds `address` or the IPv4 address that it carries.
fn touches(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address) || carried(address).is_some_and(|carried| network.contains(&IpAddr::V4(carried)))
}

fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address::carried(address),
    }
}

/// `::ffff:10.0.0.1 is IPv4-mapped (…) and carries 10.0.0.1, private use (…); … could allow it`.
impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, rule } = self;
        match (rule, carried(*address)) {
            (Rule::Special(block), Some(carried)) if !block.contains(*address) => {
                write!(f, "{address} carries {carried}, {block}")?;
            }
            (Rule::Special(block), Some(carried)) => {
                write!(f, "{address} is {block} and carries {carried}")?;
                if let Some(inner) = address::block_of(carried.into()) {
                    write!(f, ", {inner}")?;
                }
            }
            (Rule::Special(block), None) => write!(f, "{address} is {block}")?,
            (Rule::Denied(network), Some(carried)) if !network.contains(address) => {
                return write!(f, "{address} carries {carried}, in {network}, which `egress.deny_networks` forbids");
            }
            (Rule::Denied(network), _) => {
                return write!(f, "{address} is in {network}, which `egress.deny_networks` forbids");
            }
        }
        f.write_str("; `egress.allow_networks` or `egress.allow_hosts` could allow it")
    }
}

/// Why a text is no entry of `egress.allow_hosts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a host: expected a name (`crm.internal`), all names below one (`*.crm.internal`) or an address (`10.0.0.5`), \
     without scheme, port or path"
)]
pub struct NotAHost;

/// Reads an entry of `egress.allow_hosts` and returns the spelling that hosts are compared with: ASCII, lower case,
/// without brackets or the root's dot.
///
/// # Errors
/// [`NotAHost`] when it is neither a name, nor `*.` and a name, nor an address; the operator must correct it.
pub fn parse_allow_host(text: &str) -> Result<String, NotAHost> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    let (wildcard, host) = text.strip_prefix("*.").map_or(("", text), |suffix| ("*.", suffix));
    // The parser would decode percent signs, and read an IPv4 address in any spelling.
    match Host::parse(host) {
        Ok(Host::Ipv4(address)) if wildcard.is_empty() && address.to_string() == host => Ok(host.to_owned()),
        Ok(Host::Domain(domain)) if !host.contains('%') && name::is_well_formed(&domain) => {
            Ok(format!("{wildcard}{}", name::without_root(&domain)))
        }
        _ => Err(NotAHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow_hosts: &[&str], allow_networks: &[&str], deny_networks: &[&str]) -> Policy {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Policy::new(Lists {
            allow_hosts: allow_hosts.iter().map(|host| parse_allow_host(host).unwrap()).collect(),
            allow_networks: networks(allow_networks),
            deny_networks: networks(deny_networks),
        })
    }

    fn answers(policy: &Policy, host: &str, address: &str) -> bool {
        policy.vet_addresses(host, &[address.parse().unwrap()]).is_ok()
    }

    #[test]
    fn an_allowed_host_passes_the_rules_about_names_and_addresses() {
        let policy = policy(&["localhost", "CRM.internal.", "*.svc", "10.0.0.5", "[fd00::5]", "bücher.lan"], &[], &[]);
        for url in [
            "https://localhost:8443/",
            "https://localhost.:8443/",
            "https://crm.INTERNAL/hook",
            "https://a.b.svc/",
            "https://10.0.0.5/",
            "https://[fd00:0::5]/",
            "https://xn--bcher-kva.lan/",
        ] {
            assert!(policy.vet_url(url).is_ok(), "{url}");
        }
        for url in
            ["https://svc/", "https://xsvc/", "https://x.crm.internal/", "https://10.0.0.6/", "https://127.0.0.1/"]
        {
            assert!(policy.vet_url(url).is_err(), "{url}");
        }
        assert!(answers(&policy, "localhost", "127.0.0.1"));
        assert!(answers(&policy, "a.b.svc.", "10.1.1.1"));
        assert!(!answers(&policy, "example.com", "10.0.0.5"), "an allowed literal allows no name that resolves to it");
    }

    #[test]
    fn an_allowed_network_is_allowed_for_any_host() {
        let policy = policy(&[], &["10.0.0.0/8", "fd00::/8"], &[]);
        for address in ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"] {
            assert!(answers(&policy, "example.com", address), "{address}");
        }
        for address in ["192.168.0.1", "fc00::1", "::10.1.2.3", "2002:a01:203::", "64:ff9b::192.168.0.1"] {
            assert!(!answers(&policy, "example.com", address), "{address}");
        }
        assert!(policy.vet_url("https://10.1.2.3/").is_ok());
        assert!(policy.vet_url("https://[fd00::1]/").is_ok());
        assert!(policy.vet_url("https://[64:ff9b::a01:203]/").is_err());
        assert!(policy.vet_url("https://crm.internal/").is_err(), "networks waive no rule about names");
    }

    #[test]
    fn a_denied_network_is_denied_whatever_allows_it() {
        let policy =
            policy(&["crm.internal", "10.0.0.5"], &["10.0.0.0/8", "::/0"], &["10.0.0.0/24", "93.184.216.0/24"]);
        for address in ["10.0.0.5", "93.184.216.34", "::ffff:10.0.0.5", "64:ff9b::10.0.0.5", "2002:a00:5::"] {
            assert!(!answers(&policy, "crm.internal", address), "{address}");
        }
        assert!(answers(&policy, "crm.internal", "10.0.1.5"));
        assert!(policy.vet_url("https://10.0.0.5/").is_err());
    }

    #[test]
    fn nothing_waives_the_form_of_a_url() {
        let policy = policy(&["example.com", "localhost", "127.0.0.1", "*.internal"], &["0.0.0.0/0", "::/0"], &[]);
        for url in [
            "http://localhost/",
            "https://user@localhost/",
            "https://localhost:0/",
            "https://localhost:25/",
            "https://127.1/",
            "https://2130706433/",
            "https:localhost/",
            "https://local%68ost/",
            "https://-x.internal/",
            "https://a..internal/",
            "https://example.com/a b",
        ] {
            assert!(policy.vet_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_refusal_names_the_rule_and_the_setting() {
        let policy = policy(&[], &[], &["198.41.0.0/24"]);
        for (address, expected) in [
            (
                "10.0.0.1",
                "10.0.0.1 is private use (10.0.0.0/8, RFC 1918); \
                 `egress.allow_networks` or `egress.allow_hosts` could allow it",
            ),
            (
                "::ffff:10.0.0.1",
                "::ffff:10.0.0.1 is IPv4-mapped (::ffff:0.0.0.0/96, RFC 4291, section 2.5.5.2) and carries 10.0.0.1, \
                 private use (10.0.0.0/8, RFC 1918); `egress.allow_networks` or `egress.allow_hosts` could allow it",
            ),
            (
                "64:ff9b::a00:1",
                "64:ff9b::a00:1 carries 10.0.0.1, private use (10.0.0.0/8, RFC 1918); \
                 `egress.allow_networks` or `egress.allow_hosts` could allow it",
            ),
            ("198.41.0.4", "198.41.0.4 is in 198.41.0.0/24, which `egress.deny_networks` forbids"),
            (
                "64:ff9b::c629:4",
                "64:ff9b::c629:4 carries 198.41.0.4, in 198.41.0.0/24, which `egress.deny_networks` forbids",
            ),
        ] {
            let refused = policy.vet_addresses("example.com", &[address.parse().unwrap()]).unwrap_err();
            assert_eq!(refused.to_string(), expected);
        }
    }

    #[test]
    fn an_entry_that_is_no_host_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "*.*.svc",
            "https://crm.internal",
            "crm.internal:8443",
            "crm.internal/hook",
            "crm internal",
            "*.10.0.0.5",
            "127.1",
            "c%72m.internal",
            "-crm.internal",
            "a..b",
            "[::1",
            "a@b",
        ] {
            assert_eq!(parse_allow_host(text), Err(NotAHost), "{text}");
        }
        for (text, expected) in [
            ("CRM.Internal.", "crm.internal"),
            ("*.SVC", "*.svc"),
            ("[::1]", "::1"),
            ("::FFFF:127.0.0.1", "::ffff:127.0.0.1"),
            ("bücher.lan", "xn--bcher-kva.lan"),
        ] {
            assert_eq!(parse_allow_host(text).as_deref(), Ok(expected));
        }
    }
}
