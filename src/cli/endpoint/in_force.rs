//! What is in force for a tenant, as lines and as JSON. Credentials never leave the row: URLs end after the port,
//! headers are names and a mask, of the secret only the time is known.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    cli::fields::{quoted, yes_or_no},
    control::endpoint::{Lack, authority, lacks, masked_url, timeout},
    delivery::{headers::MASK, payload::format_time, template::Template},
    store::endpoints::EndpointRow,
};

/// An endpoint with what the configuration adds to it.
pub(in crate::cli) struct InForce<'a> {
    /// As it is stored.
    pub(in crate::cli) row: &'a EndpointRow,
    /// `delivery.timeout`.
    pub(in crate::cli) default_timeout: Duration,
}

/// Why an endpoint takes no leads: each obstacle, and the command that removes it. Empty: it takes them.
pub(in crate::cli) fn obstacles(row: &EndpointRow) -> Vec<String> {
    let tenant = quoted(&row.tenant_id);
    let obstacle = |lack| match lack {
        Lack::Off => format!("it is off: run `lead-webhook endpoint enable {tenant}`"),
        Lack::Url => format!("no URL: run `lead-webhook endpoint set {tenant} --url @FILE`"),
        Lack::Secret => format!("no secret: run `lead-webhook secret generate {tenant}`"),
    };
    lacks(&row.sealed).into_iter().map(obstacle).collect()
}

impl InForce<'_> {
    /// As lines: keys and values.
    pub(in crate::cli) fn fields(&self) -> Vec<(&'static str, String)> {
        let EndpointRow { tenant_id, sealed, header_names, created_at, updated_at, secret_set_at } = self.row;
        let obstacles = obstacles(self.row);
        let mut fields = vec![
            ("tenant", tenant_id.clone()),
            ("switch", on_or_off(sealed.enabled).to_owned()),
            ("takes leads", yes_or_no(obstacles.is_empty()).to_owned()),
        ];
        fields.extend(obstacles.into_iter().map(|obstacle| ("", obstacle)));
        fields.push(("url", masked_url(sealed).unwrap_or_else(|| "none".to_owned())));
        let headers = header_names.iter().map(|name| format!("{name}: {MASK}"));
        fields.extend(keyed("headers", headers));
        fields.push(("template", self.template_summary()));
        fields.push(("omit empty", yes_or_no(sealed.omit_empty).to_owned()));
        let whose = if sealed.timeout_ms.is_some() { "its own" } else { "delivery.timeout" };
        fields.push(("timeout", format!("{} ({whose})", humantime::format_duration(self.timeout()))));
        fields.push(("secret set", time(*secret_set_at).unwrap_or_else(|| "never".to_owned())));
        fields.push(("created", format_time(*created_at)));
        fields.push(("changed", format_time(*updated_at)));
        fields
    }

    /// As a JSON object; keys are the table's columns where there is one.
    pub(in crate::cli) fn json(&self) -> Value {
        let EndpointRow { tenant_id, sealed, header_names, created_at, updated_at, secret_set_at } = self.row;
        let obstacles = obstacles(self.row);
        let headers: Map<String, Value> = header_names.iter().map(|name| (name.clone(), MASK.into())).collect();
        json!({
            "tenant_id": tenant_id,
            "enabled": sealed.enabled,
            "takes_leads": obstacles.is_empty(),
            "obstacles": obstacles,
            "url": masked_url(sealed),
            "host": sealed.host,
            "port": sealed.port,
            "headers": headers,
            "template": sealed.template,
            "omit_empty": sealed.omit_empty,
            "timeout_ms": u64::try_from(self.timeout().as_millis()).unwrap_or(u64::MAX),
            "timeout_is_own": sealed.timeout_ms.is_some(),
            "secret_set_at": time(*secret_set_at),
            "created_at": format_time(*created_at),
            "updated_at": format_time(*updated_at),
        })
    }

    /// The list's head.
    pub(in crate::cli) const COLUMNS: [&'static str; 7] =
        ["tenant", "switch", "takes leads", "destination", "headers", "template", "secret set"];

    /// One row of the list, under [`Self::COLUMNS`].
    pub(in crate::cli) fn columns(&self) -> [String; 7] {
        let EndpointRow { tenant_id, sealed, header_names, secret_set_at, .. } = self.row;
        let template = if sealed.template.is_some() { "own" } else { "default" };
        [
            tenant_id.clone(),
            on_or_off(sealed.enabled).to_owned(),
            yes_or_no(obstacles(self.row).is_empty()).to_owned(),
            sealed.destination().map_or_else(|| "none".to_owned(), |destination| authority(&destination)),
            header_names.len().to_string(),
            template.to_owned(),
            secret_set_at.map_or_else(|| "never".to_owned(), |time| time.strftime("%Y-%m-%d").to_string()),
        ]
    }

    fn timeout(&self) -> Duration {
        timeout(&self.row.sealed, self.default_timeout)
    }

    fn template_summary(&self) -> String {
        let Some(text) = &self.row.sealed.template else { return "none: the default body is sent".to_owned() };
        let uses = match Template::parse(text) {
            Ok(template) => {
                let words: Vec<&str> = template.placeholders().into_iter().map(|one| one.as_str()).collect();
                if words.is_empty() { "no placeholders".to_owned() } else { words.join(", ") }
            }
            Err(faults) => {
                let fault = faults.first().map(ToString::to_string).unwrap_or_default();
                format!("cannot be used: {fault}")
            }
        };
        format!("{} bytes: {uses}", text.len())
    }
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The key beside the first value; "none" where there is no value.
fn keyed(key: &'static str, values: impl Iterator<Item = String>) -> Vec<(&'static str, String)> {
    let mut lines: Vec<_> = values.map(|value| ("", value)).collect();
    match lines.first_mut() {
        Some(first) => first.0 = key,
        None => lines.push((key, "none".to_owned())),
    }
    lines
}

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(format_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::fields::aligned, store::endpoints::SealedEndpoint};

    fn row() -> EndpointRow {
        EndpointRow {
            tenant_id: "acme".to_owned(),
            sealed: SealedEndpoint {
                enabled: true,
                url_sealed: Some(vec![1]),
                host: Some("hooks.example.org".to_owned()),
                port: Some(443),
                secret_sealed: Some(vec![1]),
                headers_sealed: Some(vec![1]),
                template: Some(r#"{"mail":"{{email}}","id":"{{leadId}}"}"#.to_owned()),
                omit_empty: true,
                timeout_ms: Some(2_500),
            },
            header_names: vec!["Authorization".to_owned(), "X-Token".to_owned()],
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            secret_set_at: Some(Timestamp::UNIX_EPOCH),
        }
    }

    fn in_force(row: &EndpointRow) -> InForce<'_> {
        InForce { row, default_timeout: Duration::from_secs(15) }
    }

    #[test]
    fn everything_in_force_is_shown_and_no_credential() {
        let expected = "\
tenant       acme
switch       on
takes leads  yes
url          https://hooks.example.org:443/…
headers      Authorization: ••••••
             X-Token: ••••••
template     38 bytes: leadId, email
omit empty   yes
timeout      2s 500ms (its own)
secret set   1970-01-01T00:00:00.000Z
created      1970-01-01T00:00:00.000Z
changed      1970-01-01T00:00:00.000Z";
        assert_eq!(aligned(&in_force(&row()).fields()), expected);
    }

    #[test]
    fn what_keeps_an_endpoint_from_taking_leads_is_named_with_its_remedy() {
        let mut row = row();
        row.tenant_id = "big corp".to_owned();
        row.sealed.enabled = false;
        row.sealed.url_sealed = None;
        row.sealed.host = None;
        row.sealed.port = None;
        row.sealed.secret_sealed = None;
        row.secret_set_at = None;
        row.header_names.clear();
        row.sealed.template = None;
        row.sealed.timeout_ms = None;
        let json = in_force(&row).json();
        assert_eq!(json["takes_leads"], false);
        assert_eq!(
            json["obstacles"],
            json!([
                "it is off: run `lead-webhook endpoint enable 'big corp'`",
                "no URL: run `lead-webhook endpoint set 'big corp' --url @FILE`",
                "no secret: run `lead-webhook secret generate 'big corp'`",
            ])
        );
        assert_eq!(json["url"], Value::Null);
        assert_eq!((&json["timeout_ms"], &json["timeout_is_own"]), (&json!(15_000), &json!(false)));
        let text = aligned(&in_force(&row).fields());
        for line in
            ["url          none", "headers      none", "timeout      15s (delivery.timeout)", "secret set   never"]
        {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let mut row = row();
        row.sealed.host = Some("2606:2800:220:1::1".to_owned());
        assert_eq!(in_force(&row).json()["url"], "https://[2606:2800:220:1::1]:443/…");
    }
}
