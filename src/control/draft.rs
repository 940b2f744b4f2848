//! A draft: changes laid over a tenant's endpoint as it is stored.
//!
//! [`Changes`] are what was given, checked as far as it stands alone; [`Changes::apply`] lays them over what is stored and
//! seals. Faults are collected all the way and reported together, each with the part it is of; a [`Sealed`] comes out only
//! where there was none, so nothing is half-saved. Values never stand in a fault.

mod headers;

use std::{ops::RangeInclusive, time::Duration};

use self::headers::{GivenHeaders, open_headers, position};
use super::is_unseen;
use crate::{
    delivery::{
        headers::{CustomHeaders, HeaderFault, MAX_HEADERS},
        presets::Preset,
        template::{Template, TemplateFault},
    },
    egress::{EndpointUrl, Policy, Resolver},
    keyring::{Column, KeyRing, Place, SealError},
    outcome::Destination,
    pipeline::{Pipeline, Unusable},
    secret::Secret,
    store::endpoints::{EndpointRow, SealedEndpoint},
};

/// What an endpoint's own limit of time may be; the table's CHECK says the same (spec section 4).
pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Bytes of a tenant's id: more than any in use, and far below what an index entry takes.
pub const TENANT_BYTES: usize = 255;

/// What is to be changed; what is not named stays as it is.
#[derive(Debug, Default)]
pub struct Input {
    /// The URL.
    pub url: Option<Secret<String>>,
    /// `Name: value` each: replaces the one of the same name, else comes behind the others.
    pub headers: Vec<Secret<String>>,
    /// Names of those to drop.
    pub dropped_headers: Vec<String>,
    /// Drops all that are stored.
    pub clear_headers: bool,
    /// Its text; `Some(None)`: back to the default body.
    pub template: Option<Option<Secret<String>>>,
    /// Whether what comes out empty is left out.
    pub omit_empty: Option<bool>,
    /// On or off.
    pub enabled: Option<bool>,
    /// `Some(None)`: back to `delivery.timeout`.
    pub timeout: Option<Option<Duration>>,
    /// Its settings, where none of the above names another.
    pub preset: Option<&'static Preset>,
}

/// Which part of a draft a fault is of, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its tenant.
    Tenant,
    /// The URL.
    Url,
    /// One of the headers given, counted from 1; `None`: all of them.
    Header(Option<usize>),
    /// The headers that are stored: they do not open, so none can be laid over them.
    StoredHeaders,
    /// The headers that are stored, with those given over them.
    AllHeaders,
    /// The template.
    Template,
    /// The preset.
    Preset,
    /// The limit of time.
    Timeout,
    /// None in particular.
    Whole,
}

impl Part {
    /// Where it comes among the others; headers keep the order in which they were found.
    pub fn rank(self) -> Self {
        if let Self::Header(_) = self { Self::Header(None) } else { self }
    }
}

/// Something that is wrong with a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// With which part of it.
    pub part: Part,
    /// What, and the remedy, where that is not the surface's own. Without any value.
    pub text: String,
}

impl Fault {
    /// A fault of `part`.
    pub fn new(part: Part, text: impl Into<String>) -> Self {
        Self { part, text: text.into() }
    }
}

/// Why a draft comes to nothing.
#[derive(Debug)]
pub enum Refused {
    /// Everything that is wrong with it.
    Faults(Vec<Fault>),
    /// Nothing can be sealed; the operator must act.
    Seal(SealError),
}

/// What was given, as far as it could be used, and everything that is wrong with it.
#[derive(Debug, Default)]
pub struct Changes {
    url: Option<EndpointUrl>,
    headers: GivenHeaders,
    template: Option<Option<Template>>,
    omit_empty: Option<bool>,
    enabled: Option<bool>,
    timeout: Option<Option<Duration>>,
    preset: Option<&'static Preset>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

/// The endpoint that changes are laid over.
pub struct Stored {
    sealed: SealedEndpoint,
    header_names: Vec<String>,
    headers: Result<CustomHeaders, Unusable>,
}

/// An endpoint as it is saved.
#[derive(Debug)]
pub struct Sealed {
    /// The secret is as it was stored.
    pub endpoint: SealedEndpoint,
    /// The custom headers' names, in the order they are sent.
    pub header_names: Vec<String>,
}

impl Stored {
    /// Opens what is needed of `row`; `None`: the tenant has no endpoint yet.
    pub fn open(pipeline: &Pipeline, row: Option<EndpointRow>) -> Self {
        row.map_or_else(Self::nothing, |row| Self {
            headers: open_headers(pipeline, &row),
            sealed: row.sealed,
            header_names: row.header_names,
        })
    }

    fn nothing() -> Self {
        let sealed = SealedEndpoint::default();
        Self { sealed, header_names: Vec::new(), headers: Ok(CustomHeaders::default()) }
    }
}

impl Changes {
    /// Checks `input` for `tenant`.
    pub fn check(tenant: &str, input: Input, policy: &Policy, header_prefix: &str) -> Self {
        let Input { url, headers, dropped_headers, clear_headers, template, omit_empty, enabled, timeout, preset } =
            input;
        let mut changes = Self { omit_empty, enabled, preset, ..Self::default() };
        changes.faults.extend(tenant_fault(tenant).map(|text| Fault::new(Part::Tenant, text)));
        if let Some(url) = &url {
            changes.url = changes.taken(Part::Url, policy.vet_url(url.expose()));
        }
        changes.headers.checked =
            CustomHeaders::parse(&headers.iter().map(|line| line.expose().as_str()).collect::<Vec<_>>(), header_prefix)
                .unwrap_or_else(|faults| {
                    changes.faults.extend(
                        faults.iter().map(|fault| Fault::new(Part::Header(position(fault)), fault.to_string())),
                    );
                    CustomHeaders::default()
                });
        changes.headers.lines = headers;
        changes.headers.dropped = dropped_headers;
        changes.headers.clear = clear_headers;
        changes.template = match template {
            Some(Some(text)) => changes.read_template(Part::Template, text.expose()).map(Some),
            Some(None) => Some(None),
            None => None,
        };
        if let Some(preset) = preset {
            changes.take_preset(preset);
        }
        changes.take_timeout(timeout);
        changes
    }

    fn taken<T, E: ToString>(&mut self, part: Part, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.faults.push(Fault::new(part, error.to_string()))).ok()
    }

    fn read_template(&mut self, part: Part, text: &str) -> Option<Template> {
        let found = |faults: Vec<TemplateFault>| {
            self.faults.extend(faults.iter().map(|fault| {
                let said = fault.to_string();
                Fault::new(part, said.strip_prefix("template: ").unwrap_or(&said))
            }));
        };
        Template::parse(text).map_err(found).ok()
    }

    /// Each of its settings, where none of its own names another.
    fn take_preset(&mut self, preset: &Preset) {
        if self.template.is_none() && !self.faults.iter().any(|fault| fault.part == Part::Template) {
            self.template = match preset.template {
                Some(text) => self.read_template(Part::Preset, text).map(Some),
                None => Some(None),
            };
        }
        self.omit_empty.get_or_insert(preset.omit_empty);
        self.timeout = Some(preset.timeout);
    }

    fn take_timeout(&mut self, given: Option<Option<Duration>>) {
        let Some(given) = given else { return };
        if let Some(timeout) = given.filter(|timeout| !TIMEOUTS.contains(timeout)) {
            let [least, most] = [TIMEOUTS.start(), TIMEOUTS.end()].map(|bound| bound.as_secs());
            let timeout = humantime::format_duration(timeout);
            let text = format!("{timeout} is out of range: at least {least}s, at most {most}s");
            return self.faults.push(Fault::new(Part::Timeout, text));
        }
        self.timeout = Some(given);
    }

    /// Resolves a new URL's host, as a save does: a forbidden address is a fault, none at all a warning. Only the operator
    /// is told more: what names lead to, in a network that is not theirs, is no tenant's business.
    pub async fn resolve(&mut self, resolver: &Resolver, is_operator: bool) {
        let Some(url) = &self.url else { return };
        let host = url.host();
        match resolver.vet_at_save(url).await {
            Ok(Some(warning)) if is_operator => self.warnings.push(warning),
            Ok(Some(_)) => {
                self.warnings.push(format!("the host {host} does not resolve, and deliveries fail until it does"));
            }
            Ok(None) => {}
            Err(refused) => {
                let text = if is_operator {
                    format!("the host {host} resolves, but {refused}")
                } else {
                    format!("the host {host} leads into a network that is not sent to: private, local or reserved")
                };
                self.faults.push(Fault::new(Part::Url, text));
            }
        }
    }

    /// Whether anything is wrong already: nothing will be saved then.
    pub fn are_refused(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Everything that is wrong so far, by part.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        // Stable: of one part as they were found.
        faults.sort_by_key(|fault| fault.part.rank());
        faults
    }

    /// The preset that was named.
    pub fn preset(&self) -> Option<&'static Preset> {
        self.preset
    }

    /// What to tell beside a save.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What they change, by the names of the table's columns.
    pub fn named(&self) -> Vec<&'static str> {
        let has_headers = !self.headers.lines.is_empty() || !self.headers.dropped.is_empty() || self.headers.clear;
        let parts = [
            ("url", self.url.is_some()),
            ("headers", has_headers),
            ("template", self.template.is_some()),
            ("omit_empty", self.omit_empty.is_some()),
            ("timeout", self.timeout.is_some()),
            ("enabled", self.enabled.is_some()),
        ];
        parts.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name).collect()
    }

    /// What a save would make a body of: the template, where there is one, and whether empty members are left out.
    ///
    /// # Errors
    /// What is wrong with the stored template, where that is the one.
    pub fn body(self, stored: Option<SealedEndpoint>) -> Result<(Option<Template>, bool), String> {
        let stored = stored.unwrap_or_default();
        let template = match self.template {
            Some(template) => template,
            None => stored
                .template
                .as_deref()
                .map(Template::parse)
                .transpose()
                .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?,
        };
        Ok((template, self.omit_empty.unwrap_or(stored.omit_empty)))
    }

    /// Lays the changes over `stored` and seals what is new.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn apply(
        mut self,
        keyring: &KeyRing,
        tenant: &str,
        header_prefix: &str,
        stored: Stored,
    ) -> Result<Sealed, Refused> {
        // Where all are dropped, none has to open.
        self.headers.clear |= self.headers.drop_all(&stored.header_names);
        let headers = self.merge_headers(stored.headers, header_prefix);
        if self.are_refused() {
            return Err(Refused::Faults(self.faults()));
        }
        let seal = |column, plain: &[u8]| keyring.seal(&Place { tenant, column }, plain).map_err(Refused::Seal);
        let mut sealed = Sealed { endpoint: stored.sealed, header_names: stored.header_names };
        let endpoint = &mut sealed.endpoint;
        if let Some(url) = &self.url {
            endpoint.url_sealed = Some(seal(Column::EndpointUrl, url.as_str().as_bytes())?);
            let Destination { host, port } = url.destination();
            endpoint.host = Some(host);
            endpoint.port = Some(i32::from(port));
        }
        if let Some(headers) = headers {
            let some = (!headers.is_empty()).then(|| seal(Column::EndpointHeaders, headers.to_json().expose()));
            endpoint.headers_sealed = some.transpose()?;
            sealed.header_names = headers.names().into_iter().map(str::to_owned).collect();
        }
        if let Some(template) = self.template {
            endpoint.template = template.map(|template| template.text().to_owned());
        }
        if let Some(timeout) = self.timeout {
            endpoint.timeout_ms = timeout.and_then(|timeout| i32::try_from(timeout.as_millis()).ok());
        }
        endpoint.omit_empty = self.omit_empty.unwrap_or(endpoint.omit_empty);
        endpoint.enabled = self.enabled.unwrap_or(endpoint.enabled);
        Ok(sealed)
    }

    /// The stored headers with the given ones in the place of those of the same name, else behind them.
    /// `None`: they stay as they are.
    fn merge_headers(&mut self, stored: Result<CustomHeaders, Unusable>, header_prefix: &str) -> Option<CustomHeaders> {
        let given = &self.headers;
        if given.lines.is_empty() && (given.clear || given.dropped.is_empty()) {
            return given.clear.then(CustomHeaders::default);
        }
        let stored = if given.clear { Ok(CustomHeaders::default()) } else { stored };
        let stored = match stored {
            Ok(stored) => stored,
            Err(Unusable { error, .. }) => {
                let text = format!("the stored ones cannot be kept ({error})");
                self.faults.push(Fault::new(Part::StoredHeaders, text));
                return None;
            }
        };
        let count = given.count_over(&stored);
        if count > MAX_HEADERS && given.lines.len() <= MAX_HEADERS {
            let fault = HeaderFault::TooMany { count };
            let text = format!("{fault}, those included that are stored");
            self.faults.push(Fault::new(Part::AllHeaders, text));
        }
        if self.are_refused() {
            return None;
        }
        let merged = self.headers.over(&stored);
        let lines: Vec<&str> = merged.iter().map(|line| line.expose().as_str()).collect();
        let found = |faults: Vec<HeaderFault>| {
            // Those that are stored: a prefix that came later forbids them.
            self.faults.extend(faults.iter().map(|fault| Fault::new(Part::AllHeaders, fault.to_string())));
        };
        CustomHeaders::parse(&lines, header_prefix).map_err(found).ok()
    }
}

/// What is wrong with a tenant's id that an endpoint is to be made for.
pub fn tenant_fault(tenant: &str) -> Option<String> {
    if tenant.is_empty() {
        Some("is empty: name the tenant as the leads table does".to_owned())
    } else if tenant.len() > TENANT_BYTES {
        Some(format!("has {} bytes, at most {TENANT_BYTES} are allowed", tenant.len()))
    } else if [".", ".."].contains(&tenant) {
        Some("cannot stand in an address: name the tenant otherwise".to_owned())
    } else if tenant.chars().any(is_unseen) {
        Some("holds a character that cannot be seen, such as a tab or a zero-width space: remove it".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
