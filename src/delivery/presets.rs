//! Ready-made settings for destinations that tenants ask for: a template, a limit of time, and what else to know. Nothing is
//! kept of them in an endpoint but what it is made of.

use std::time::Duration;

/// Settings for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// As it is given to `--preset`.
    pub name: &'static str,
    /// What it does there.
    pub does: &'static str,
    /// What the URL looks like; what is in capitals is the tenant's own.
    pub url: &'static str,
    /// Where the URL leads: this host or one below it; `None`: anywhere.
    pub host: Option<&'static str>,
    /// Headers that it needs, each with what its value looks like.
    pub headers: &'static [(&'static str, &'static str)],
    /// `None`: the default body.
    pub template: Option<&'static str>,
    /// Whether members that come out empty are left out.
    pub omit_empty: bool,
    /// `None`: as `delivery.timeout` says.
    pub timeout: Option<Duration>,
    /// What to know before it is used.
    pub notes: &'static [&'static str],
}

const HUBSPOT_TOKEN: &[(&str, &str)] = &[("Authorization", "Bearer TOKEN")];

const RAW_BODY: &str = "to verify the signature there, take the raw body";

/// All of them.
pub const ALL: [Preset; 9] = [
    Preset {
        name: "hubspot-upsert",
        does: "makes or updates a HubSpot contact, by its email",
        url: "https://api.hubapi.com/crm/v3/objects/contacts/batch/upsert",
        host: Some("hubapi.com"),
        headers: HUBSPOT_TOKEN,
        template: Some(include_str!("presets/hubspot-upsert.json")),
        omit_empty: true,
        timeout: None,
        notes: &[
            "a lead with a phone alone is refused: HubSpot finds contacts by email here",
            "an answer of 207 counts as delivered, and may hide that the contact was refused",
        ],
    },
    Preset {
        name: "hubspot-create",
        does: "makes a HubSpot contact",
        url: "https://api.hubapi.com/crm/v3/objects/contacts",
        host: Some("hubapi.com"),
        headers: HUBSPOT_TOKEN,
        template: Some(include_str!("presets/hubspot-create.json")),
        omit_empty: true,
        timeout: None,
        notes: &[
            "an email that HubSpot knows is answered with 409, and so is every lead.re_engaged: hubspot-upsert updates",
        ],
    },
    Preset {
        name: "hubspot-form",
        does: "submits a HubSpot form, which needs no token",
        url: "https://api.hsforms.com/submissions/v3/integration/submit/PORTAL_ID/FORM_GUID",
        host: Some("hsforms.com"),
        headers: &[],
        template: Some(include_str!("presets/hubspot-form.json")),
        omit_empty: false,
        timeout: None,
        notes: &["the form needs the fields email, phone and firstname"],
    },
    Preset {
        name: "pipedrive",
        does: "makes a Pipedrive person",
        url: "https://COMPANY.pipedrive.com/api/v2/persons",
        host: Some("pipedrive.com"),
        headers: &[("x-api-token", "TOKEN")],
        template: Some(include_str!("presets/pipedrive.json")),
        omit_empty: true,
        timeout: None,
        notes: &["Pipedrive does not look for a person that it has: a lead.re_engaged makes a second one"],
    },
    Preset {
        name: "google-sheets",
        does: "calls a Google Apps Script that writes a row",
        url: "https://script.google.com/macros/s/DEPLOYMENT_ID/exec?token=TOKEN",
        host: Some("script.google.com"),
        headers: &[],
        template: None,
        omit_empty: false,
        timeout: Some(Duration::from_secs(30)),
        notes: &[
            "deploy it as a web app: execute as me, access for anyone",
            "it sees no headers, so no signature: let the script compare the token in the address",
            "a phone that begins with + is a formula to the sheet: let the script write an apostrophe before it",
            "a script that throws still answers 200, which counts as delivered",
        ],
    },
    Preset {
        name: "slack",
        does: "posts a message to a Slack channel",
        url: "https://hooks.slack.com/services/T000/B000/TOKEN",
        host: Some("hooks.slack.com"),
        headers: &[],
        template: Some(include_str!("presets/slack.json")),
        omit_empty: false,
        timeout: None,
        notes: &["Slack takes about one message a second, and answers 429 above that"],
    },
    Preset {
        name: "zapier",
        does: "starts a Zap",
        url: "https://hooks.zapier.com/hooks/catch/ACCOUNT/HOOK/",
        host: Some("hooks.zapier.com"),
        headers: &[],
        template: None,
        omit_empty: false,
        timeout: None,
        notes: &[
            "Zapier answers 2xx also while the Zap is off: delivered does not mean processed",
            "`Catch Raw Hook` has the raw body, which the signature is verified by",
        ],
    },
    Preset {
        name: "make",
        does: "starts a Make scenario",
        url: "https://hook.REGION.make.com/HOOK",
        host: Some("make.com"),
        headers: &[],
        template: None,
        omit_empty: false,
        timeout: None,
        notes: &["the first request teaches Make what a lead looks like: send it a Test", RAW_BODY],
    },
    Preset {
        name: "n8n",
        does: "starts an n8n workflow",
        url: "https://HOST/webhook/PATH",
        host: None,
        headers: &[],
        template: None,
        omit_empty: false,
        timeout: None,
        notes: &[
            "/webhook-test/… works for two minutes after `listen` alone: take the production URL",
            "one on a private network is the operator's to allow: egress.allow_hosts, allow_networks",
            RAW_BODY,
        ],
    },
];

impl Preset {
    /// The one of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|preset| preset.name == name)
    }

    /// Whether a URL of this host may lead there.
    pub fn is_at(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.host.is_none_or(|own| host.strip_suffix(own).is_some_and(|below| below.is_empty() || below.ends_with('.')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::{headers::CustomHeaders, payload::synthetic_event, template::Template},
        egress::{Lists, Policy},
        event::EventKind,
    };

    #[test]
    fn every_preset_can_be_saved() {
        let policy = Policy::new(Lists::default());
        for preset in ALL {
            let url = policy.vet_url(&preset.url.replace("HOST", "n8n.example.com").replace("REGION", "eu2")).unwrap();
            assert!(preset.is_at(url.host()), "{}", preset.name);
            let headers: Vec<_> = preset.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert!(CustomHeaders::parse(&headers, "X-Wilow").is_ok(), "{}", preset.name);
            if let Some(text) = preset.template {
                let template = Template::parse(text).unwrap();
                let body = template.render(&synthetic_event("acme", EventKind::Created), preset.omit_empty).unwrap();
                assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{}", preset.name);
            }
        }
    }

    #[test]
    fn notes_fit_whoever_has_no_command_line() {
        for note in ALL.iter().flat_map(|preset| preset.notes) {
            assert!(!note.contains("lead-webhook") && !note.contains("--"), "{note}");
        }
    }

    #[test]
    fn a_host_is_the_destination_s_or_one_below_it() {
        let pipedrive = Preset::find("pipedrive").unwrap();
        assert!(pipedrive.is_at("acme.pipedrive.com") && pipedrive.is_at("pipedrive.com."));
        assert!(!pipedrive.is_at("notpipedrive.com") && !pipedrive.is_at("pipedrive.com.evil.example"));
        assert_eq!(Preset::find("salesforce"), None);
    }
}
