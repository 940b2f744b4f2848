//! Where the daemon may send: the egress policy, the same at save, at Test and at every send.
//!
//! Tenants choose the URLs, and the daemon stands inside the operator's network. Without a policy every tenant could
//! make it POST to the database beside it, to a cloud's metadata service, or to a router.
//!
//! # How it works
//! 1. **Text.** [`Policy::vet_url`] looks at the raw text first and refuses what two parsers could read differently:
//!    control characters, white space, backslashes, a missing `//`, user info, percent signs in the host.
//! 2. **Parse, once.** The `url` crate reads it as the Fetch standard says. What it read is compared with the text
//!    (an IPv4 address must stand there in plain four-part decimal), and only the parsed form goes on, without its
//!    fragment. An [`EndpointUrl`] exists only if all of this and the next two steps passed.
//! 3. **Name.** Names that no public DNS serves are refused: single labels and reserved last labels.
//! 4. **Literal address.** A host that is an address is judged by the table in `address`, a row an RFC.
//! 5. **Resolved addresses.** [`Resolver::resolve`] judges every answer, and one forbidden answer forbids the whole.
//!    The connection goes to an address that it returned: there is no second look-up, so rebinding gains nothing.
//!
//! An HTTP client asks its resolver only for names, never for literals; so a stored URL goes through
//! [`Policy::vet_url`] again before it is sent to. That also makes a stricter configuration hold for old URLs.
//!
//! # What the operator may change
//! `egress.allow_hosts` waives steps 3 to 5 for a host, `egress.allow_networks` steps 4 and 5 for an address, and
//! `egress.deny_networks` forbids an address whatever else allows it. Nothing waives steps 1 and 2, nor HTTPS.
//! An error names the rule and the setting, and never repeats a path, a query or user info: those are credentials.

mod address;
mod name;
mod policy;
mod resolver;
#[cfg(test)]
mod tests;
mod url;

pub use self::{
    address::Block,
    name::without_root,
    policy::{AddressRefused, Lists, NotAHost, Policy, Rule, parse_allow_host},
    resolver::{Lookup, ResolveError, Resolver},
    url::{EndpointUrl, UrlRefused, is_invisible},
};
