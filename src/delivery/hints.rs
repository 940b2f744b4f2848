//! What to do about an answer of a destination that we know: beside the error's own words, where there is more to say.

use super::presets::Preset;
use crate::outcome::Failure;

/// How an attempt ended, as far as a hint depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The destination's host.
    pub host: &'a str,
    /// Why it was not delivered.
    pub failure: Failure,
    /// The receiver's status code.
    pub http_status: Option<u16>,
}

/// A sentence for the tenant, who has the page or an application's own and no command line; `None`: the error says it all.
pub fn hint(ended: &Ended<'_>) -> Option<&'static str> {
    let Ended { host, failure, http_status } = *ended;
    let is = |name: &str| Preset::find(name).is_some_and(|preset| preset.is_at(host));
    match (failure, http_status) {
        (Failure::HttpStatus, Some(409)) if is("hubspot-upsert") => {
            Some("HubSpot has the contact already: the preset hubspot-upsert and its URL make or update it.")
        }
        (Failure::HttpStatus, Some(400)) if is("hubspot-upsert") => Some(
            "HubSpot refuses a property that it does not have, a value that it does not take, and a lead without an email: \
             see the template, and the preview.",
        ),
        (Failure::HttpStatus, Some(400)) if is("pipedrive") => Some(
            "Pipedrive wants a name, and may refuse empty emails and phones: see what the preset pipedrive leaves out.",
        ),
        (Failure::HttpStatus, Some(403 | 404 | 410)) if is("slack") => {
            Some("The hook was removed, or its channel archived: make a new one in Slack, and set its URL.")
        }
        (Failure::HttpStatus, Some(404)) if is("make") => {
            Some("The scenario's webhook is gone: set the URL of the new one.")
        }
        (Failure::Redirect, Some(302)) if is("google-sheets") => {
            Some("Deploy the script as a web app that runs as you, with access for anyone; its URL ends in /exec.")
        }
        (Failure::HttpStatus, Some(405)) if is("google-sheets") => {
            Some("The script has no doPost, or the URL is not that of the deployment: it ends in /exec.")
        }
        (Failure::Timeout, _) if is("google-sheets") => {
            Some("A script may take some seconds to start: give it a time limit of 30s. It may have run all the same.")
        }
        (Failure::HttpStatus, Some(429)) => Some(
            "The receiver takes no more for now. Nothing is repeated by itself: send it again later; the operator sends many again by `deliveries redeliver --rate`.",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_belongs_to_its_destination_and_status() {
        let of = |host, failure, http_status| hint(&Ended { host, failure, http_status });
        let said = of("api.hubapi.com", Failure::HttpStatus, Some(409)).unwrap();
        assert!(said.contains("the preset hubspot-upsert"), "{said}");
        assert_eq!(of("api.example.com", Failure::HttpStatus, Some(409)), None);
        assert!(of("script.google.com", Failure::Redirect, Some(302)).unwrap().contains("anyone"));
        assert!(of("script.google.com", Failure::Timeout, None).unwrap().contains("30s"));
        assert!(of("hooks.slack.com", Failure::HttpStatus, Some(410)).unwrap().contains("archived"));
        assert!(of("crm.example.com", Failure::HttpStatus, Some(429)).unwrap().contains("--rate"));
        assert_eq!(of("crm.example.com", Failure::Dns, None), None);
    }
}
