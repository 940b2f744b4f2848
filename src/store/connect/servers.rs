//! Several servers in one URL: each has a login of its own, so that one which is frozen keeps nobody from the next. The
//! driver has a limit for the TCP connection alone. And it looks names up on the runtime's threads, which panics where the
//! system has none left: they are looked up before.

use std::net::IpAddr;

use tokio_postgres::{
    Config,
    config::{Host, LoadBalanceHosts},
};
use uuid::Uuid;

use crate::names::{self, LookupError};

/// A configuration for each server of `config`, in the order in which to try them.
pub(super) fn each(config: &Config) -> Vec<Config> {
    let servers = config.get_hosts().len().max(config.get_hostaddrs().len());
    let mut each: Vec<Config> = (0..servers).map(|at| one_of(config, at)).collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        each.sort_by_cached_key(|_| Uuid::new_v4());
    }
    each
}

/// The one server of `config` with the addresses of its name, each to be tried.
///
/// # Errors
/// [`LookupError`].
pub(super) async fn looked_up(config: &Config) -> Result<Config, LookupError> {
    let [Host::Tcp(name)] = config.get_hosts() else { return Ok(config.clone()) };
    if !config.get_hostaddrs().is_empty() || name.parse::<IpAddr>().is_ok() {
        return Ok(config.clone());
    }
    let mut looked_up = without_server(config);
    config.get_ports().first().map(|port| looked_up.port(*port));
    for address in names::look_up(name).await? {
        // TLS goes by the name.
        looked_up.host(name).hostaddr(address);
    }
    Ok(looked_up)
}

/// The same with the one server that stands there.
fn one_of(config: &Config, at: usize) -> Config {
    let mut one = without_server(config);
    if let Some(host) = config.get_hosts().get(at) {
        match host {
            Host::Tcp(name) => one.host(name),
            Host::Unix(path) => one.host_path(path),
        };
    }
    config.get_hostaddrs().get(at).map(|address| one.hostaddr(*address));
    let ports = config.get_ports();
    ports.get(at).or_else(|| ports.first()).map(|port| one.port(*port));
    one
}

/// How a server is to be worked with, whichever.
fn without_server(config: &Config) -> Config {
    let mut one = Config::new();
    config.get_user().map(|user| one.user(user));
    config.get_password().map(|password| one.password(password));
    config.get_dbname().map(|name| one.dbname(name));
    config.get_options().map(|options| one.options(options));
    config.get_application_name().map(|name| one.application_name(name));
    config.get_connect_timeout().map(|limit| one.connect_timeout(*limit));
    config.get_tcp_user_timeout().map(|limit| one.tcp_user_timeout(*limit));
    config.get_keepalives_interval().map(|interval| one.keepalives_interval(interval));
    config.get_keepalives_retries().map(|retries| one.keepalives_retries(retries));
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_reached_as_all_were() {
        let settings = "user=u password=p dbname=d options=o application_name=a sslmode=require sslnegotiation=direct \
                        connect_timeout=1 tcp_user_timeout=2 keepalives=0 keepalives_idle=3 keepalives_interval=4 \
                        keepalives_retries=5 target_session_attrs=read-write channel_binding=require";
        let config = |servers: &str| format!("{servers} {settings}").parse::<Config>().unwrap();
        let servers = each(&config("host=one,/run,three hostaddr=10.0.0.1,10.0.0.2,10.0.0.3 port=1,2,3"));
        let expected = [
            "host=one hostaddr=10.0.0.1 port=1",
            "host=/run hostaddr=10.0.0.2 port=2",
            "host=three hostaddr=10.0.0.3 port=3",
        ];
        assert_eq!(servers, expected.map(config));
        assert_eq!(each(&config("host=one,two port=7")), ["host=one port=7", "host=two port=7"].map(config));
        assert_eq!(each(&config("host=one")), [config("host=one")]);
        let mut at_random = each(&config("host=one,two load_balance_hosts=random"));
        at_random.sort_by_key(|one| one.get_hosts() != [Host::Tcp("one".to_owned())]);
        assert_eq!(at_random, ["host=one", "host=two"].map(|one| config(&format!("{one} load_balance_hosts=random"))));
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_kept_for_tls() {
        let config = |server: &str| format!("{server} user=u").parse::<Config>().unwrap();
        let found = looked_up(&config("host=localhost port=7")).await.unwrap();
        assert!(found.get_hosts().iter().all(|host| *host == Host::Tcp("localhost".to_owned())), "{found:?}");
        assert!(!found.get_hostaddrs().is_empty() && found.get_hostaddrs().iter().all(|address| address.is_loopback()));
        assert_eq!((found.get_hosts().len(), found.get_ports()), (found.get_hostaddrs().len(), &[7][..]));
        for one in ["host=10.0.0.1", "host=one hostaddr=10.0.0.2", "host=/run", "hostaddr=10.0.0.3"].map(config) {
            assert_eq!(looked_up(&one).await, Ok(one));
        }
    }
}
