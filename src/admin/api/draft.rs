//! A draft as the API has it: a merge patch (RFC 7396) over the tenant's endpoint.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Tenant, body::Members, views::UNUSABLE};
use crate::{
    admin::problem::FieldFault,
    control::draft::{Changes, Fault, Input, Part, Refused, Sealed, Stored},
    delivery::{headers::MASK, presets},
    egress::Resolver,
    keyring::KeyRing,
    pipeline::Pipeline,
    secret::Secret,
    store::endpoints::EndpointRow,
};

/// What is to be changed of an endpoint. What is not named stays as it is.
#[derive(Deserialize, ToSchema)]
#[schema(as = Draft)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes: what comes is read member by member, for every fault to be found")]
pub(super) struct Schema {
    /// Where to send: an https URL. It is a credential, and never read back.
    #[schema(nullable = false, example = "https://hooks.example.com/in")]
    url: Option<String>,
    /// Custom headers, by name. A value replaces the header or adds it, null drops it; null in place of the object drops all.
    headers: Option<BTreeMap<String, Option<String>>>,
    /// The body's JSON, as text; null: the default body.
    template: Option<String>,
    /// Leave out members whose placeholders all came out empty.
    #[schema(nullable = false)]
    omit_empty: Option<bool>,
    /// For a whole attempt, 1000 to 60000; null: as `delivery.timeout` says.
    #[schema(minimum = 1000, maximum = 60000)]
    timeout_ms: Option<u32>,
    /// On or off. Off keeps everything, and leads are logged as skipped.
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// A preset's name: its template, `omit_empty` and `timeout_ms`, where the draft names none of its own.
    #[schema(nullable = false)]
    preset: Option<String>,
}

/// A draft as it was read, and everything that is wrong with it so far.
pub(super) struct Draft {
    /// Checked.
    pub(super) changes: Changes,
    place: Place,
}

/// Where the draft stood, for faults.
struct Place {
    path: &'static [&'static str],
    /// The given headers' names, in their order.
    headers: Vec<String>,
    unread: Vec<FieldFault>,
    is_operator: bool,
}

impl Draft {
    /// Reads and checks the draft of `tenant` that stands at `path` in the body.
    pub(super) fn read(
        pipeline: &Pipeline,
        tenant: &Tenant,
        path: &'static [&'static str],
        body: Map<String, Value>,
    ) -> Self {
        let mut members = Members::new(path, body);
        let mut headers = Vec::new();
        let mut input = Input {
            url: members.text("url").map(Secret::new),
            template: members.text_or_null("template").map(|text| text.map(Secret::new)),
            omit_empty: members.boolean("omit_empty"),
            enabled: members.boolean("enabled"),
            timeout: members.milliseconds_or_null("timeout_ms"),
            ..Input::default()
        };
        match members.take("headers") {
            None => {}
            Some(Value::Null) => input.clear_headers = true,
            Some(Value::Object(given)) => headers = read_headers(given, &mut input, &mut members),
            Some(_) => members.fault(&["headers"], "must be an object, or null"),
        }
        if let Some(name) = members.text("preset") {
            input.preset = presets::Preset::find(&name);
            if input.preset.is_none() {
                let known = presets::ALL.map(|preset| preset.name).join(", ");
                members.fault(&["preset"], format!("is not known: it is one of {known}"));
            }
        }
        let changes = Changes::check(&tenant.id, input, pipeline.resolver().policy(), pipeline.header_prefix());
        Self { changes, place: Place { path, headers, unread: members.end(), is_operator: tenant.is_operator() } }
    }

    /// Whether there is a host to resolve.
    pub(super) fn names_a_url(&self) -> bool {
        self.changes.named().contains(&"url")
    }

    /// Resolves a new URL's host, as a save does. Tenants are not told what names lead to.
    pub(super) async fn resolve(&mut self, resolver: &Resolver) {
        self.changes.resolve(resolver, self.place.is_operator).await;
    }

    /// Whether anything is wrong already.
    pub(super) fn is_refused(&self) -> bool {
        self.changes.are_refused() || !self.place.unread.is_empty()
    }

    /// Everything that is wrong already.
    pub(super) fn faults(&self) -> Vec<FieldFault> {
        self.place.all(&self.changes.faults())
    }

    /// Lays the changes over what is stored in `row` and seals what is new by `keyring`.
    ///
    /// # Errors
    /// Every fault, or that nothing can be sealed.
    pub(super) fn apply(
        self,
        keyring: &KeyRing,
        pipeline: &Pipeline,
        tenant: &str,
        row: Option<EndpointRow>,
    ) -> Result<Sealed, NotApplied> {
        match self.changes.apply(keyring, tenant, pipeline.header_prefix(), Stored::open(pipeline, row)) {
            Ok(sealed) if self.place.unread.is_empty() => Ok(sealed),
            Ok(_) => Err(NotApplied::Faults(self.place.unread)),
            Err(Refused::Faults(faults)) => Err(NotApplied::Faults(self.place.all(&faults))),
            Err(Refused::Seal(error)) => Err(NotApplied::Unsealed(error.to_string())),
        }
    }
}

/// Why a draft comes to nothing.
pub(super) enum NotApplied {
    /// Everything that is wrong with it.
    Faults(Vec<FieldFault>),
    /// The operator must act.
    Unsealed(String),
}

fn read_headers(given: Map<String, Value>, input: &mut Input, members: &mut Members<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in given {
        match value {
            Value::Null => input.dropped_headers.push(name),
            Value::String(value) if value == MASK => {
                members.fault(&["headers", &name], "is the mask, not a value: leave out what is to stay as it is");
            }
            // A colon would end the name elsewhere.
            Value::String(_) if name.contains(':') => {
                members.fault(&["headers", &name], "a header's name has no colon");
            }
            Value::String(value) => {
                input.headers.push(Secret::new(format!("{name}: {value}")));
                names.push(name);
            }
            _ => members.fault(&["headers", &name], "must be a string, or null"),
        }
    }
    names
}

/// Why a URL is refused, without what the operator has set or could set.
fn without_settings(text: &str) -> String {
    let why = text.split("; `egress").next().unwrap_or_default();
    let is_ours = !why.contains("egress.");
    if is_ours { why.to_owned() } else { "it is not sent there: the URL must lead to a public address".to_owned() }
}

impl Place {
    fn all(&self, faults: &[Fault]) -> Vec<FieldFault> {
        self.unread.iter().cloned().chain(faults.iter().map(|fault| self.field(fault))).collect()
    }

    fn field(&self, Fault { part, text }: &Fault) -> FieldFault {
        let at = |names: &[&str], text: &str| FieldFault::at(&[self.path, names].concat(), text);
        match part {
            Part::Tenant => FieldFault::of("tenant", text.as_str()),
            Part::Url if self.is_operator => at(&["url"], text),
            Part::Url => at(&["url"], &without_settings(text)),
            Part::Header(position) => match position.and_then(|position| self.headers.get(position - 1)) {
                Some(name) => at(&["headers", name], text),
                None => at(&["headers"], text),
            },
            Part::StoredHeaders if !self.is_operator => at(&["headers"], UNUSABLE),
            Part::StoredHeaders => {
                let remedy = "drop them all, and give all of them again";
                at(&["headers"], &format!("{text}: {remedy}"))
            }
            Part::AllHeaders => at(&["headers"], &format!("{text}; those that are stored can be dropped")),
            Part::Template => at(&["template"], text),
            Part::Preset => at(&["preset"], text),
            Part::Timeout => at(&["timeout_ms"], text),
            Part::Whole => at(&[], text),
        }
    }
}
