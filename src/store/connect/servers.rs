//! Several servers in one URL: each has a login of its own, so that one which is frozen keeps nobody from the next. The
//! driver has a limit for the TCP connection alone.

use tokio_postgres::{
    Config,
    config::{Host, LoadBalanceHosts},
};

/// A configuration for each server of `config`, in order. All in one where the driver is to choose at random.
pub(super) fn each(config: &Config) -> Vec<Config> {
    let servers = config.get_hosts().len().max(config.get_hostaddrs().len());
    if servers < 2 || config.get_load_balance_hosts() != LoadBalanceHosts::Disable {
        return vec![config.clone()];
    }
    (0..servers).map(|at| one_of(config, at)).collect()
}

/// The same with the one server that stands there.
fn one_of(config: &Config, at: usize) -> Config {
    let mut one = Config::new();
    if let Some(host) = config.get_hosts().get(at) {
        match host {
            Host::Tcp(name) => one.host(name),
            Host::Unix(path) => one.host_path(path),
        };
    }
    config.get_hostaddrs().get(at).map(|address| one.hostaddr(*address));
    let ports = config.get_ports();
    ports.get(at).or_else(|| ports.first()).map(|port| one.port(*port));
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
        .channel_binding(config.get_channel_binding());
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
        let at_random = config("host=one,two load_balance_hosts=random");
        assert_eq!(each(&at_random), [at_random]);
    }
}
