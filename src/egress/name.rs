//! The rules about host names: their form, and which of them no public DNS serves.
//!
//! Works on the ASCII form that IDNA made of a host; knows nothing of addresses.

use super::UrlRefused;

/// Octets of a whole name in text, without the root's dot (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// Octets of one label (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// Last labels that are never looked up, and who reserved them or why they lead inside.
const RESERVED: &[(&str, &str)] = &[
    ("localhost", "RFC 6761, section 6.3"),
    ("localdomain", "of hosts files, not delegated"),
    ("local", "multicast DNS, RFC 6762"),
    ("localnet", "of networks files, not delegated"),
    ("internal", "ICANN Board, 2024-07-29"),
    ("intranet", "RFC 6762, appendix G"),
    ("intra", "not delegated"),
    ("private", "RFC 6762, appendix G"),
    ("lan", "RFC 6762, appendix G"),
    ("home", "RFC 6762, appendix G"),
    ("corp", "RFC 6762, appendix G"),
    ("mail", "ICANN Board, 2018-02-04"),
    ("svc", "Kubernetes, not delegated"),
    ("consul", "Consul, not delegated"),
    ("i2p", "I2P, not delegated"),
    ("onion", "RFC 7686"),
    ("alt", "RFC 9476"),
    ("invalid", "RFC 6761, section 6.4"),
    ("test", "RFC 6761, section 6.2"),
    ("example", "RFC 6761, section 6.5"),
    ("arpa", "RFC 3172"),
];

/// Without the one dot that stands for the root: `example.com.` is the same host.
pub fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether `name` is made of labels as RFC 1123, section 2.1 wants them; underscores, which real names hold, pass.
pub(super) fn is_well_formed(name: &str) -> bool {
    let name = without_root(name);
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

/// Refuses a well-formed, lower-case name that the public DNS does not serve.
///
/// # Errors
/// [`UrlRefused::ReservedName`] or [`UrlRefused::SingleLabel`].
pub(super) fn vet(name: &str) -> Result<(), UrlRefused> {
    let name = without_root(name);
    let (parent, last) = name.rsplit_once('.').map_or((None, name), |(parent, last)| (Some(parent), last));
    if let Some(&(label, reserved_by)) = RESERVED.iter().find(|&&(label, _)| label == last) {
        return Err(UrlRefused::ReservedName { host: name.to_owned(), label, reserved_by });
    }
    if parent.is_none() {
        return Err(UrlRefused::SingleLabel { host: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_name_is_refused_in_any_depth_and_only_as_the_last_label() {
        let labels = "localhost localdomain local localnet internal intranet intra private lan home corp mail svc consul \
                      i2p onion alt invalid test example arpa";
        assert_eq!(labels.split(' ').count(), RESERVED.len());
        for label in labels.split(' ') {
            for name in [label.to_owned(), format!("{label}."), format!("a.b.{label}"), format!("a.{label}.")] {
                assert!(matches!(vet(&name), Err(UrlRefused::ReservedName { .. })), "{name}");
            }
            for name in [format!("{label}.com"), format!("a.x{label}"), format!("a.{label}x.")] {
                assert_eq!(vet(&name), Ok(()), "{name}");
            }
        }
        assert_eq!(vet("postgres."), Err(UrlRefused::SingleLabel { host: "postgres".into() }));
    }

    #[test]
    fn a_name_keeps_to_the_lengths_and_letters_of_the_standards() {
        let long = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        for name in ["a", "r3---sn-abc.example.com.", "a_b.example.com", "1.com", long.as_str()] {
            assert!(is_well_formed(name), "{name}");
        }
        let longer = format!("{long}d");
        let label = "a".repeat(64);
        for name in ["", ".", "a..b", "a..", ".a", "-a.com", "a-.com", "a!b.com", "A.com", "ä.com", &longer, &label] {
            assert!(!is_well_formed(name), "{name}");
        }
    }
}
