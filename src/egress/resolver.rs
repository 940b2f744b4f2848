//! [`Resolver`]: names become vetted addresses. One look-up an attempt, and the connection goes to what it returned.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{AddressRefused, EndpointUrl, Policy};
use crate::names::{Addresses, LookupError, Names};

/// How long a save waits for the name. The connect limit of a delivery has the same default.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// Where answers come from: the system, or a DNS of its own choosing. It decides nothing.
pub trait Lookup: Send + Sync {
    /// All addresses of `host`, in the order in which to try them.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Addresses>;
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Addresses> {
        Box::pin(self.look_up(host))
    }
}

/// Resolves hosts under a [`Policy`]. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    policy: Policy,
    lookup: Arc<dyn Lookup>,
}

/// Why a host gives no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name exists without an address.
    #[error("the host's name has no address")]
    NoAnswer,
    /// The look-up failed: no such name, or no working name server.
    #[error("the host's name could not be looked up: {0}")]
    Lookup(LookupError),
    /// An answer is forbidden, and with it the whole.
    #[error("the host's address {0}")]
    Refused(AddressRefused),
}

impl Resolver {
    /// Asks the system: hosts file, search list and name servers count as configured there.
    pub fn system(policy: Policy) -> Self {
        Self::new(policy, Names::default())
    }

    /// Asks `lookup`.
    pub fn new(policy: Policy, lookup: impl Lookup + 'static) -> Self {
        Self { policy, lookup: Arc::new(lookup) }
    }

    /// The policy that judges the answers.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Looks `host` up once and returns the vetted addresses, to connect to in this order. An address as `host`
    /// (without brackets) is judged without a look-up.
    ///
    /// It has no limit of time: the caller's connect limit covers name, connection and TLS together.
    ///
    /// # Errors
    /// [`ResolveError::Refused`] if any answer is forbidden (the tenant or the operator must act), the other two if
    /// there is none (whoever runs the host's DNS must act).
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let addresses = match host.parse() {
            Ok(literal) => self.policy.vet_literal(literal).map(|()| vec![literal]),
            Err(_) => {
                let answers = self.lookup.lookup(host).await.map_err(ResolveError::Lookup)?;
                if answers.is_empty() {
                    return Err(ResolveError::NoAnswer);
                }
                self.policy.vet_addresses(host, &answers)
            }
        };
        let addresses = addresses.map_err(ResolveError::Refused)?;
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    /// Resolves a URL's host when an endpoint is saved, waiting at most 5 s. `None` is a good answer; `Some` is a
    /// warning that there was none, which must not stop a save: DNS may come later, or be away just now.
    ///
    /// # Errors
    /// [`AddressRefused`] if an answer is forbidden; the tenant must change the URL, or the operator the setting.
    pub async fn vet_at_save(&self, url: &EndpointUrl) -> Result<Option<String>, AddressRefused> {
        self.vet_within(SAVE_LIMIT, url).await
    }

    async fn vet_within(&self, limit: Duration, url: &EndpointUrl) -> Result<Option<String>, AddressRefused> {
        let why = match tokio::time::timeout(limit, self.resolve(url.host(), url.port())).await {
            Ok(Ok(_)) => return Ok(None),
            Ok(Err(ResolveError::Refused(refused))) => return Err(refused),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer came within {} s", limit.as_secs_f64()),
        };
        Ok(Some(format!("host {} does not resolve, and deliveries fail until it does: {why}", url.host())))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::IpAddr};

    use super::*;
    use crate::egress::Lists;

    /// A name server of one answer.
    enum Answer {
        Addresses(Vec<IpAddr>),
        NoSuchName,
        Silence,
    }

    impl Lookup for Answer {
        fn lookup<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Addresses> {
            Box::pin(async move {
                match self {
                    Self::Addresses(addresses) => Ok(addresses.clone()),
                    Self::NoSuchName => Err(LookupError::Failed("NXDOMAIN".to_owned())),
                    Self::Silence => pending().await,
                }
            })
        }
    }

    async fn save(answer: Answer) -> Result<Option<String>, AddressRefused> {
        let policy = Policy::new(Lists::default());
        let url = policy.vet_url("https://hooks.example.com/secret").unwrap();
        Resolver::new(policy, answer).vet_within(Duration::from_millis(20), &url).await
    }

    #[tokio::test]
    async fn a_save_is_refused_for_a_private_answer_and_only_warned_about_without_one() {
        assert_eq!(save(Answer::Addresses(vec![[93, 184, 216, 34].into()])).await, Ok(None));
        assert!(save(Answer::Addresses(vec![[93, 184, 216, 34].into(), [10, 0, 0, 1].into()])).await.is_err());
        for (answer, why) in [
            (Answer::Addresses(vec![]), "the host's name has no address"),
            (Answer::NoSuchName, "the host's name could not be looked up: NXDOMAIN"),
            (Answer::Silence, "no answer came within 0.02 s"),
        ] {
            let warning = save(answer).await.unwrap().unwrap();
            let expected = format!("host hooks.example.com does not resolve, and deliveries fail until it does: {why}");
            assert_eq!(warning, expected);
        }
    }

    #[tokio::test]
    async fn a_literal_is_judged_without_a_look_up() {
        let resolver = Resolver::new(Policy::new(Lists::default()), Answer::NoSuchName);
        let addresses = resolver.resolve("93.184.216.34", 8443).await.unwrap();
        assert_eq!(addresses, ["93.184.216.34:8443".parse().unwrap()]);
        for literal in ["127.0.0.1", "::1", "64:ff9b::5db8:d822"] {
            assert!(matches!(resolver.resolve(literal, 443).await, Err(ResolveError::Refused(_))), "{literal}");
        }
    }

    #[tokio::test]
    async fn the_system_resolver_reads_the_hosts_file_and_its_answers_are_judged() {
        let resolver = Resolver::system(Policy::new(Lists::default()));
        assert!(matches!(resolver.resolve("localhost", 443).await, Err(ResolveError::Refused(_))));
    }
}
