use std::{collections::HashMap, os::unix::fs::PermissionsExt as _, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::config::{Level, Mapping, TableName, Tls};

const SAMPLE: &str = include_str!("../../../config/lead-webhook.toml");
const PATH: &str = "/srv/lead-webhook.toml";

fn variables(settings: &[(&str, &str)]) -> Variables {
    let settings = settings.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
    Variables { settings: settings.collect::<HashMap<_, _>>(), ..Variables::default() }
}

fn with_both(text: &str, settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
    assemble(Some((Path::new(PATH), text)), &variables(settings))
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    with_both(text, &[])
}

fn from_environment(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
    assemble(None, &variables(settings))
}

fn defaults() -> Config {
    from_environment(&[]).unwrap()
}

/// The sample as it is after an operator has uncommented every key.
fn uncommented_sample() -> String {
    let uncomment = |line: &'static str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting,
        _ => line,
    };
    SAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

/// The one line that says what is wrong.
fn problem(result: Result<Config, ConfigError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

#[test]
fn the_sample_says_the_defaults_whether_its_keys_are_uncommented_or_not() {
    assert_eq!(from_file(SAMPLE).unwrap(), defaults());
    assert_eq!(from_file(&uncommented_sample()).unwrap(), defaults());
}

#[test]
fn the_sample_shows_every_key_and_no_other() {
    let text = uncommented_sample();
    let mut reader = reader(Some((Path::new(PATH), &text)), &Variables::default()).unwrap();
    let mut shown = reader.keys();
    sections::read(&mut reader, None);
    let mut known: Vec<_> = reader.known().iter().map(|key| (*key).to_owned()).collect();
    known.sort();
    shown.sort();
    assert_eq!(shown, known);
}

#[test]
fn the_defaults_are_the_specified_ones() {
    let config = defaults();
    assert_eq!(config.database.url.expose(), "postgres://lead_webhook@localhost/app");
    assert_eq!(config.database.owner_url, config.database.url);
    assert_eq!(config.database.listen_url, config.database.url);
    assert_eq!(config.leads.table, TableName { schema: "public".into(), name: "leads".into() });
    assert_eq!(config.leads.silence, Duration::from_secs(30 * 86_400));
    assert_eq!(config.leads.columns.captured_at, Some(Mapping::Column("created_at".into())));
    assert_eq!((config.delivery.concurrency, config.delivery.per_endpoint), (256, 16));
    assert_eq!(config.delivery.max_age, Some(Duration::from_secs(72 * 3600)));
    assert_eq!(config.keys_file, Path::new("/etc/lead-webhook/keys"));
}

#[test]
fn the_environment_goes_before_the_file() {
    let file = "[delivery]\ntimeout = '20s'\nconcurrency = 8\n[leads.columns]\nphone = 'mobile'\nemail = 'mail'";
    let settings = [
        ("DELIVERY__TIMEOUT", "30s"),
        ("DELIVERY__PER_ENDPOINT", "4"),
        ("LEADS__COLUMNS__PHONE", ""),
        ("EGRESS__ALLOW_NETWORKS", "10.1.0.0/16, fd00::/8,"),
        ("LOG__RESPONSE_EXCERPT", "true"),
        ("LOG__LEVEL", "debug"),
    ];
    let config = with_both(file, &settings).unwrap();
    assert_eq!(config.delivery.timeout, Duration::from_secs(30));
    assert_eq!((config.delivery.concurrency, config.delivery.per_endpoint), (8, 4));
    assert_eq!(config.leads.columns.phone, None);
    assert_eq!(config.leads.columns.email, Some(Mapping::Column("mail".into())));
    assert_eq!(config.egress.lists.allow_networks, ["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    assert!(config.log.response_excerpt);
    assert_eq!(config.log.level, Level::Debug);
}

#[test]
fn every_problem_is_told_at_once_with_its_key_its_origin_and_a_remedy() {
    let file = "
        [database]
        tls = 'verify_full'
        [delivery]
        timeout = '90s'
        timeuot = '5s'
        concurrency = '8'
        [leads]
        columns = { email = '', phone = '' }
        [egress]
        deny_networks = ['10.0.0.1/8', '10.0.0.1', 'x', '::ffff:10.0.0.0/104']
        [retention]
        failed = '1d'
        [admin]
        listen = 'x'
        origin = 'http://example.org'
    ";
    let settings = [("DELIVERY__DRAIN_TIMEOUT", "1"), ("LOGS__LEVEL", "info")];
    let error = with_both(file, &settings).unwrap_err();
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    let expected = [
        "database.tls (/srv/lead-webhook.toml): \"verify_full\" is not known: \
         write one of disable, prefer, require, verify-full",
        "leads.columns.email (/srv/lead-webhook.toml): neither it nor leads.columns.phone is mapped: \
         map at least one of the two",
        "delivery.concurrency (/srv/lead-webhook.toml): expected a whole number \
         without quotes, found a text in quotes",
        "delivery.timeout (/srv/lead-webhook.toml): \"90s\" is out of range: at least 1s, at most 1m",
        "delivery.drain_timeout (LEAD_WEBHOOK__DELIVERY__DRAIN_TIMEOUT): \"1\" is not a duration \
         (time unit needed, for example 1sec or 1ms): write 15s, 72h or 30d",
        "egress.deny_networks (/srv/lead-webhook.toml): \"10.0.0.1/8\" has bits beyond its \
         prefix: write \"10.0.0.0/8\"; \
         \"10.0.0.1\" is an address: write \"10.0.0.1/32\"; \
         \"x\" is not a network: write 10.0.0.0/8 or fd00::/8; \
         \"::ffff:10.0.0.0/104\" is IPv4 in IPv6's form: write \"10.0.0.0/8\"",
        "retention.failed (/srv/lead-webhook.toml): \"1d\" is out of range: at least 2days, at most 10years, \
         or 0 for no limit",
        "admin.listen (/srv/lead-webhook.toml): \"x\" is no address with a port: write 127.0.0.1:9464, \
         or unix:/run/lead-webhook/admin.sock",
        "admin.origin (/srv/lead-webhook.toml): \"http://example.org\" does not begin with https://: \
         TLS is the reverse proxy's work; write https://webhooks.example.com, with its port where that is not 443",
        "delivery.timeuot (/srv/lead-webhook.toml): unknown key; did you mean delivery.timeout?",
        "logs.level (LEAD_WEBHOOK__LOGS__LEVEL): unknown key; did you mean log.level?",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn no_text_quotes_a_credential() {
    const CREDENTIAL: &str = "hunter2";
    let in_file = [
        // An unclosed quote: the parser would quote the line.
        "[database]\nurl = \"postgres://app:hunter2@localhost/app",
        "[database]\nurl = hunter2",
        "[database]\nurl = 'host=localhost password=my hunter2=x'",
        "[database]\nurl = 'postgres://app@localhost/app?hunter2=x'",
        "[database]\nurl = 'postgres://app:hunter2@localhost:x/app'",
        "[database]\nurl = 'hunter2'",
        "[database]\nurl = 'postgres://app:hunter2@localhost/app?sslmode=verify-full'",
        "[database]\nurl = 'postgres://app:hunter2@localhost/app?sslmode=require'",
        "[database]\nowner_url = 'postgres://app:hunter2@/app'",
        "[database]\nlisten_url = ['hunter2']",
        "[database]\npassword = 'hunter2'",
        "[database]\npassword_file = 'hunter2'",
    ];
    let errors = in_file.map(|text| from_file(text).unwrap_err());
    let from_variable = from_environment(&[("DATABASE__PASSWORD", CREDENTIAL), ("DATABASE", CREDENTIAL)]).unwrap_err();
    for error in errors.iter().chain([&from_variable]) {
        assert!(!format!("{error} {error:?}").contains(CREDENTIAL), "{error}");
    }
    let good = from_file("database.url = 'postgres://app:hunter2@localhost/app'").unwrap();
    assert!(!format!("{good:?}").contains(CREDENTIAL));
}

#[test]
fn a_syntax_error_is_told_with_its_place() {
    let text = problem(from_file("[database]\nurl = 'x"));
    assert!(text.starts_with("/srv/lead-webhook.toml: TOML parse error at line 2, column "), "{text}");
}

#[test]
fn a_database_url_must_name_a_host_and_not_contradict_the_tls_setting() {
    for (url, tls, fine) in [
        ("postgres://a@db1:5432,db2/app?target_session_attrs=read-write", "prefer", true),
        ("host=/run/postgresql user=a dbname=app", "prefer", true),
        ("postgres:///app?host=/run/postgresql", "prefer", true),
        ("postgres:///app", "prefer", false),
        ("postgres://a@/app", "prefer", false),
        ("", "prefer", false),
        ("postgres://a@db/app?sslmode=require", "require", true),
        ("postgres://a@db/app?sslmode=require", "verify-full", true),
        ("postgres://a@db/app?sslmode=require", "prefer", false),
        ("postgres://a@db/app?sslmode=disable", "verify-full", false),
        ("postgres://a@db/app?sslmode=disable", "disable", true),
    ] {
        let result = from_environment(&[("DATABASE__URL", url), ("DATABASE__TLS", tls)]);
        assert_eq!(result.is_ok(), fine, "{url} {tls}: {result:?}");
    }
}

#[test]
fn another_url_stands_in_for_an_empty_one_only() {
    let settings = [("DATABASE__URL", "postgres://a@db/app"), ("DATABASE__OWNER_URL", "postgres://b@db/app")];
    let database = from_environment(&settings).unwrap().database;
    assert_eq!(database.owner_url.expose(), "postgres://b@db/app");
    assert_eq!(database.listen_url.expose(), "postgres://a@db/app");
}

#[test]
fn a_password_file_is_read_without_the_newline_at_its_end() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("password");
    let password = |content: &str| {
        fs::write(&path, content).unwrap();
        let config = from_environment(&[("DATABASE__PASSWORD_FILE", path.to_str().unwrap())])?;
        Ok::<_, ConfigError>(config.database.password.unwrap().expose().clone())
    };
    assert_eq!(password(" hunter2 \n").unwrap(), " hunter2 ");
    assert_eq!(password("hunter2\r\n").unwrap(), "hunter2");
    assert!(password("\n").unwrap_err().to_string().contains("is empty"));
    fs::remove_file(&path).unwrap();
    let text = problem(from_environment(&[("DATABASE__PASSWORD_FILE", path.to_str().unwrap())]));
    assert!(text.contains("cannot be read (No such file or directory"), "{text}");
}

#[test]
fn a_ca_file_must_hold_a_certificate() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ca.pem");
    let certificate = rcgen::generate_simple_self_signed(["db.example.com".to_owned()]).unwrap().cert.pem();
    let set = || from_environment(&[("EGRESS__CA_FILE", path.to_str().unwrap())]);
    assert!(problem(set()).contains("cannot be read"));
    fs::write(&path, "nothing").unwrap();
    assert!(problem(set()).contains("holds no certificate"));
    fs::write(&path, certificate.replace("-----END", "-----")).unwrap();
    assert!(problem(set()).contains("is not valid PEM"));
    fs::write(&path, certificate).unwrap();
    assert_eq!(set().unwrap().egress.ca_file.as_deref(), Some(path.as_path()));
}

#[test]
fn a_ca_that_nothing_is_verified_against_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap().cert.pem()).unwrap();
    let set = |tls| from_environment(&[("DATABASE__TLS_CA_FILE", path.to_str().unwrap()), ("DATABASE__TLS", tls)]);
    assert!(problem(set("require")).starts_with("database.tls_ca_file (LEAD_WEBHOOK__DATABASE__TLS_CA_FILE)"));
    assert_eq!(set("verify-full").unwrap().database.tls, Tls::VerifyFull);
}

#[test]
fn attempts_for_one_endpoint_are_held_within_all_attempts() {
    let delivery = from_file("delivery.concurrency = 8").unwrap().delivery;
    assert_eq!((delivery.concurrency, delivery.per_endpoint), (8, 8));
    let text = problem(from_file("delivery.concurrency = 8\ndelivery.per_endpoint = 9"));
    assert!(text.contains("9 is out of range: at least 1, at most 8, which is delivery.concurrency"), "{text}");
    let text = problem(from_file("delivery.concurrency = 0\ndelivery.per_endpoint = 1000"));
    assert!(text.starts_with("delivery.concurrency"), "{text}");
}

#[test]
fn one_role_cannot_be_owner_and_daemon() {
    let text = problem(from_file("database.owner_role = 'lead_webhook_daemon'"));
    assert!(text.starts_with("database.daemon_role (default): is the same as database.owner_role"), "{text}");
}

#[test]
fn a_value_in_a_sections_place_is_told() {
    let text = problem(with_both("[log]\nlevel = 'debug'", &[("LOG", "debug")]));
    assert!(text.starts_with("log (LEAD_WEBHOOK__LOG): is a section, not a value: write [log]"), "{text}");
}

#[test]
fn a_variable_that_is_no_text_is_told() {
    let mut variables = variables(&[]);
    variables.not_text.push("LEAD_WEBHOOK__LOG__LEVEL".to_owned());
    let text = problem(assemble(None, &variables));
    assert_eq!(text, "log.level (LEAD_WEBHOOK__LOG__LEVEL): is not UTF-8");
}

#[test]
fn the_operators_token_is_a_systemd_credential_where_there_is_one_and_nothing_else_is_set() {
    let directory = TempDir::new().unwrap();
    let mut variables = variables(&[]);
    variables.credentials_directory = Some(directory.path().to_owned());
    let token = |variables: &Variables| assemble(None, variables).unwrap().admin.token;
    assert_eq!(token(&variables), Ok(None));
    let (text, credential) = ("t".repeat(32), directory.path().join("admin-token"));
    fs::write(&credential, &text).unwrap();
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(token(&variables), Ok(Some(text.into())));
    let key = || "LEAD_WEBHOOK__ADMIN__TOKEN_FILE".to_owned();
    variables.settings.insert(key(), "/nowhere".to_owned());
    assert!(token(&variables).unwrap_err().to_string().starts_with("admin.token_file: the file cannot be read"));
    variables.settings.insert(key(), String::new());
    assert_eq!(token(&variables), Ok(None));
}

#[test]
fn the_keys_are_a_systemd_credential_where_there_is_one_and_nothing_else_is_set() {
    let directory = TempDir::new().unwrap();
    let mut variables = variables(&[]);
    variables.credentials_directory = Some(directory.path().to_owned());
    assert_eq!(assemble(None, &variables).unwrap().keys_file, Path::new("/etc/lead-webhook/keys"));
    let credential = directory.path().join("keys");
    fs::write(&credential, "").unwrap();
    assert_eq!(assemble(None, &variables).unwrap().keys_file, credential);
    variables.settings.insert("LEAD_WEBHOOK__KEYS__FILE".to_owned(), "/srv/keys".to_owned());
    assert_eq!(assemble(None, &variables).unwrap().keys_file, Path::new("/srv/keys"));
}

#[test]
fn a_file_that_is_named_must_exist() {
    let directory = TempDir::new().unwrap();
    let text = problem(load(Some(&directory.path().join("missing.toml"))));
    assert!(text.contains("cannot be read (No such file or directory"), "{text}");
}
