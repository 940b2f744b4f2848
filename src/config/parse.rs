//! What each kind of value may be. Pure: a setting in; a value, or what is wrong with it and the remedy, out.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use ipnet::IpNet;
use url::Url;

use crate::egress;

use super::{Listen, Mapping, Origin, TableName, reader::Setting};

/// Bytes of a name in PostgreSQL's catalog (NAMEDATALEN - 1); the server cuts longer ones off without a word.
const NAME_BYTES: usize = 63;

/// Bytes of a header prefix: our longest header stays below what receivers' frameworks take.
const PREFIX_BYTES: usize = 32;

/// Bytes of a user agent: names and a URL fit, a mistake does not.
const USER_AGENT_BYTES: usize = 256;

/// A duration within `range`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Setting) -> Result<Duration, String> {
    move |setting| within(&range, setting.duration()?)
}

/// As [`duration`]; 0 stands for no limit.
pub(super) fn limit(range: RangeInclusive<Duration>) -> impl Fn(&Setting) -> Result<Option<Duration>, String> {
    move |setting| {
        let text = setting.duration()?;
        if any_duration(text)?.is_zero() {
            return Ok(None);
        }
        within(&range, text).map(Some).map_err(|problem| format!("{problem}, or 0 for no limit"))
    }
}

fn any_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{text:?} is not a duration ({error}): write 15s, 72h or 30d"))
}

fn within(range: &RangeInclusive<Duration>, text: &str) -> Result<Duration, String> {
    let duration = any_duration(text)?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [least, most] = [range.start(), range.end()].map(|bound| humantime::format_duration(*bound));
    Err(format!("{text:?} is out of range: at least {least}, at most {most}"))
}

/// A whole number within `range`.
pub(super) fn count(range: RangeInclusive<usize>) -> impl Fn(&Setting) -> Result<usize, String> {
    move |setting| {
        let number = setting.integer()?;
        usize::try_from(number)
            .ok()
            .filter(|count| range.contains(count))
            .ok_or_else(|| format!("{number} is out of range: at least {}, at most {}", range.start(), range.end()))
    }
}

/// One of `words`.
pub(super) fn word<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Setting) -> Result<T, String> {
    move |setting| {
        let expected = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let text = setting.text().map_err(|text| format!("{text}: write one of {}", expected()))?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| format!("{text:?} is not known: write one of {}", expected()))
    }
}

/// A list of what `entry` takes; the problems of all entries come together.
pub(super) fn list<T>(entry: impl Fn(&str) -> Result<T, String>) -> impl Fn(&Setting) -> Result<Vec<T>, String> {
    move |setting| {
        let (mut values, mut problems) = (Vec::new(), Vec::new());
        for text in setting.list()? {
            match entry(text) {
                Ok(value) => values.push(value),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(problems.join("; ")) }
    }
}

/// Where to listen on this host; empty: nowhere.
pub(super) fn listen(setting: &Setting) -> Result<Option<Listen>, String> {
    let text = setting.text()?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "write 127.0.0.1:9464, or unix:/run/lead-webhook/admin.sock";
    if let Some(path) = text.strip_prefix("unix:") {
        let is_absolute = path.starts_with('/') && !path.ends_with('/');
        return if is_absolute {
            Ok(Some(Listen::Unix(path.into())))
        } else {
            Err(format!("{text:?} has no absolute path: {expected}"))
        };
    }
    match text.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(Some(Listen::Tcp(address))),
        Ok(_) => Err(format!("{text:?} can be reached from elsewhere: {expected}, and put a reverse proxy before it")),
        Err(_) => Err(format!("{text:?} is no address with a port: {expected}")),
    }
}

/// Under which name a reverse proxy serves the admin listener; empty: not at all.
pub(super) fn origin(setting: &Setting) -> Result<Option<Origin>, String> {
    let text = setting.text()?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "write https://webhooks.example.com, with its port where that is not 443";
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL ({error}): {expected}"))?;
    if url.scheme() != "https" {
        return Err(format!("{text:?} does not begin with https://: TLS is the reverse proxy's work; {expected}"));
    }
    let origin = url.origin().ascii_serialization();
    // A slash at the end is the empty path, which a URL cannot be without.
    if text.trim_end_matches('/').to_lowercase() == origin {
        Ok(Some(Origin { text: origin }))
    } else {
        Err(format!("{text:?} is more than an origin, or spelt otherwise than browsers do: write {origin:?}"))
    }
}

/// A network in CIDR notation, without bits beyond its prefix.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(address) => format!("{text:?} is an address: write \"{}\"", IpNet::from(address)),
        Err(_) => format!("{text:?} is not a network: write 10.0.0.0/8 or fd00::/8"),
    })?;
    if network.trunc() != network {
        return Err(format!("{text:?} has bits beyond its prefix: write \"{}\"", network.trunc()));
    }
    match network.network().to_canonical() {
        // What lies in it is judged as IPv4, and would never be found in it.
        IpAddr::V4(address) if network.prefix_len() >= 96 && network.addr().is_ipv6() => {
            Err(format!("{text:?} is IPv4 in IPv6's form: write \"{address}/{}\"", network.prefix_len() - 96))
        }
        _ => Ok(network),
    }
}

/// A host's name as the URL parser spells it (lower case, IDNA), without the dot at its end; or an address.
pub(super) fn host(text: &str) -> Result<String, String> {
    egress::parse_allow_host(text).map_err(|error| format!("{text:?} is {error}"))
}

/// What our own headers begin with: a token (RFC 9110, section 5.6.2) that is not the beginning of everybody's own.
pub(super) fn header_prefix(setting: &Setting) -> Result<String, String> {
    let text = setting.text()?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !(1..=PREFIX_BYTES).contains(&text.len()) || !text.bytes().all(token) {
        return Err(format!(
            "{text:?} is not a header's beginning: 1 to {PREFIX_BYTES} letters, digits, hyphens and what else a header's name may have"
        ));
    }
    if text.ends_with('-') {
        return Err(format!("{text:?} ends with a hyphen: leave it out, it is added"));
    }
    // Tenants may set no header with the prefix, so X alone would take X-Api-Key from them; webhook-signature is
    // Standard Webhooks' own.
    if ["x", "webhook"].iter().any(|taken| text.eq_ignore_ascii_case(taken)) {
        return Err(format!("{text:?} takes the names of other headers: add a name of your own, such as X-Acme"));
    }
    Ok(text.to_owned())
}

/// `User-Agent`: visible ASCII, blanks inside.
pub(super) fn user_agent(setting: &Setting) -> Result<String, String> {
    let text = setting.text()?;
    let fits = (1..=USER_AGENT_BYTES).contains(&text.len()) && text.trim() == text;
    if fits && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a user agent: 1 to {USER_AGENT_BYTES} visible ASCII characters, no blank at either end"
    ))
}

/// A role's name.
pub(super) fn role(setting: &Setting) -> Result<String, String> {
    name(setting.text()?.to_owned())
}

/// `schema.table`, or `table` in the schema public; either in double quotes where it holds a dot.
pub(super) fn table(setting: &Setting) -> Result<TableName, String> {
    let text = setting.text()?.trim();
    let wrong = || format!("{text:?} is not a table: write schema.table; double quotes around a name with a dot in it");
    let (first, rest) = first_name(text).ok_or_else(wrong)?;
    let (schema, table) = match rest.strip_prefix('.') {
        None => ("public".to_owned(), first),
        Some(rest) => {
            let (second, rest) = first_name(rest).ok_or_else(wrong)?;
            if !rest.is_empty() {
                return Err(wrong());
            }
            (first, second)
        }
    };
    Ok(TableName { schema: name(schema)?, name: name(table)? })
}

/// The name that `text` begins with, and what follows: a dot and the next, or nothing.
fn first_name(text: &str) -> Option<(String, &str)> {
    let (name, rest) = match text.strip_prefix('"') {
        None => text.split_at(text.find('.').unwrap_or(text.len())),
        Some(quoted) => {
            // A doubled quote is a quote in the name; the first single one ends it.
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next()? {
                    (at, '"') if quoted.get(at + 1..)?.starts_with('"') => drop(letters.next()),
                    (at, '"') => break at,
                    _ => {}
                }
            };
            return Some((quoted.get(..end)?.replace("\"\"", "\""), quoted.get(end + 1..)?))
                .filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'));
        }
    };
    (!name.contains('"')).then(|| (name.to_owned(), rest))
}

/// A name as the catalog can hold it.
fn name(text: String) -> Result<String, String> {
    match text.len() {
        0 => Err("a name must not be empty".to_owned()),
        1..=NAME_BYTES if !text.contains('\0') => Ok(text),
        1..=NAME_BYTES => Err("a name must not hold a NUL".to_owned()),
        bytes => Err(format!("{text:?} has {bytes} bytes: PostgreSQL's names have {NAME_BYTES} at most")),
    }
}

/// A column's name, or `sql:` and an expression.
pub(super) fn mapping(setting: &Setting) -> Result<Mapping, String> {
    optional_mapping(setting)?.ok_or_else(|| "must not be empty: name the column that holds it".to_owned())
}

/// As [`mapping`]; empty: not there.
pub(super) fn optional_mapping(setting: &Setting) -> Result<Option<Mapping>, String> {
    let text = setting.text()?.trim();
    match text.strip_prefix("sql:") {
        Some(expression) => expression_over_the_row(expression.trim()).map(Mapping::Sql).map(Some),
        None if text.is_empty() => Ok(None),
        None => column(text).map(Mapping::Column).map(Some),
    }
}

/// Refuses what could not stand as one operand in a statement. Whether it is valid SQL only the database can say.
fn expression_over_the_row(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("has no expression behind sql:".to_owned());
    }
    match [";", "--", "/*", "\0"].iter().find(|mark| text.contains(**mark)) {
        Some(mark) => Err(format!("must be one SQL expression: remove {mark:?}")),
        None => Ok(text.to_owned()),
    }
}

/// A column's name as it stands in the catalog; double quotes around it are taken off.
fn column(text: &str) -> Result<String, String> {
    if let Some((quoted, "")) = first_name(text).filter(|_| text.starts_with('"')) {
        return name(quoted);
    }
    // An expression without its prefix would be looked for as a column of that name.
    if text.contains(['(', ')', '\'', '"', '>', ':', ';']) {
        return Err(format!(
            "{text:?} reads like an expression: put sql: before it, or double quotes around a column's name"
        ));
    }
    name(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column_of(text: &str) -> Result<Option<Mapping>, String> {
        optional_mapping(&Setting::from_environment(text))
    }

    #[test]
    fn a_table_is_read_as_it_stands_in_the_catalog() {
        for (text, expected) in [
            ("leads", Some(("public", "leads"))),
            ("crm.Lead", Some(("crm", "Lead"))),
            (" \"my.schema\".\"le\"\"ads\" ", Some(("my.schema", "le\"ads"))),
            ("crm.\"leads\"", Some(("crm", "leads"))),
            ("\"leads\"", Some(("public", "leads"))),
            ("", None),
            (".leads", None),
            ("crm.", None),
            ("a.b.c", None),
            ("\"crm.leads", None),
            ("\"crm\"leads", None),
            ("crm.le\"ads", None),
            ("\"\".leads", None),
        ] {
            let expected = expected.map(|(schema, name)| TableName { schema: schema.into(), name: name.into() });
            assert_eq!(table(&Setting::from_environment(text)).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_name_that_postgresql_would_cut_off_is_refused() {
        assert!(role(&Setting::from_environment(&"r".repeat(63))).is_ok());
        for text in ["r".repeat(64), "é".repeat(32), String::new(), "a\0".to_owned()] {
            assert!(role(&Setting::from_environment(&text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mapping_is_a_column_an_expression_or_nothing() {
        let column = |text: &str| Some(Mapping::Column(text.to_owned()));
        let sql = |text: &str| Some(Mapping::Sql(text.to_owned()));
        for (text, expected) in [
            ("", None),
            ("  ", None),
            ("email", column("email")),
            ("E-Mail address", column("E-Mail address")),
            ("\"lower(email)\"", column("lower(email)")),
            ("sql: lead.contact->>'email' ", sql("lead.contact->>'email'")),
            ("sql:lead.a", sql("lead.a")),
        ] {
            assert_eq!(column_of(text), Ok(expected), "{text}");
        }
        for text in
            ["sql:", "sql: a; b", "sql: a -- b", "sql: a /* b */", "lower(email)", "SQL: a", "\"", "\"\"", "a::text"]
        {
            assert!(column_of(text).is_err(), "{text}");
        }
        assert!(mapping(&Setting::from_environment("")).is_err());
    }

    #[test]
    fn a_duration_is_held_within_its_range_and_zero_may_mean_no_limit() {
        let range = Duration::from_secs(1)..=Duration::from_secs(60);
        for (text, seconds) in [("1s", Some(1)), ("1m", Some(60)), (" 15 s ", Some(15)), ("999ms", None), ("61s", None)]
        {
            let read = duration(range.clone())(&Setting::from_environment(text));
            assert_eq!(read.ok(), seconds.map(Duration::from_secs), "{text}");
        }
        for text in ["", "15", "-1s", "1.5.0s", "soon"] {
            assert!(duration(range.clone())(&Setting::from_environment(text)).is_err(), "{text}");
        }
        for (text, expected) in [("0", Ok(None)), ("0s", Ok(None)), ("5s", Ok(Some(Duration::from_secs(5))))] {
            assert_eq!(limit(range.clone())(&Setting::from_environment(text)), expected, "{text}");
        }
        for text in ["10ms", "61s"] {
            let problem = limit(range.clone())(&Setting::from_environment(text)).unwrap_err();
            assert!(problem.ends_with("at least 1s, at most 1m, or 0 for no limit"), "{problem}");
        }
    }

    #[test]
    fn a_host_is_kept_as_the_policy_spells_it() {
        for (text, expected) in [
            ("CRM.Internal.", Some("crm.internal")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[FD00::1]", Some("fd00::1")),
            ("fd00::1", Some("fd00::1")),
            ("https://crm.internal", None),
            ("crm.internal:8443", None),
            ("crm.internal/hook", None),
            ("*.crm.internal", Some("*.crm.internal")),
            ("*", None),
            ("user@crm.internal", None),
            (".", None),
        ] {
            assert_eq!(host(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_header_prefix_takes_no_other_headers_name() {
        let read = |text: &str| header_prefix(&Setting::from_environment(text)).is_ok();
        for text in ["X-Wilow", "X-Acme_2", "Acme", &"a".repeat(32)] {
            assert!(read(text), "{text}");
        }
        for text in ["", "X", "x", "Webhook", "X-Wilow-", "X Wilow", "X:Wilow", "Ä", "X-A\r\n", &"a".repeat(33)] {
            assert!(!read(text), "{text}");
        }
    }

    #[test]
    fn a_user_agent_is_visible_ascii() {
        let read = |text: &str| user_agent(&Setting::from_environment(text)).is_ok();
        assert!(read("Acme-Webhook/1.0 (+https://acme.example)"));
        for text in ["", " a", "a\tb", "a\r\nb", "ä", &"a".repeat(257)] {
            assert!(!read(text), "{text}");
        }
    }
}
