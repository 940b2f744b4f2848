//! A draft: what `endpoint set` and `test` were given, laid over the endpoint as it is stored.
//!
//! [`Changes`] are the options, read and checked as far as they stand alone; [`Changes::apply`] lays them over what is
//! stored and seals. Problems are collected all the way and reported together, each with its option, its place and the
//! remedy; a [`Sealed`] comes out only where there was none, so nothing is half-saved. Values never stand in a problem.

mod source;

use std::{io::Read, ops::RangeInclusive, time::Duration};

use crate::{
    delivery::{
        headers::{CustomHeaders, HeaderFault, MAX_HEADERS},
        presets::Preset,
        template::Template,
    },
    egress::{EndpointUrl, Policy, Resolver},
    keyring::{Column, KeyRing, Place, SealError},
    pipeline::{Pipeline, Unusable},
    secret::Secret,
    store::endpoints::{EndpointRow, SealedEndpoint},
};

use super::{Failure, args, fields::is_unseen, preset};
use source::Sources;

/// What an endpoint's own limit of time may be; the table's CHECK says the same (spec section 4).
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Bytes of a tenant's id: more than any in use, and far below what an index entry takes.
const TENANT_BYTES: usize = 255;

/// The options, as far as they could be read, and everything that is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    url: Option<EndpointUrl>,
    headers: GivenHeaders,
    clear_headers: bool,
    /// `Some(None)`: back to the default body.
    template: Option<Option<Template>>,
    omit_empty: Option<bool>,
    /// `Some(None)`: back to `delivery.timeout`.
    timeout: Option<Option<Duration>>,
    preset: Option<&'static Preset>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

/// `--header`, all of them.
#[derive(Debug, Default)]
struct GivenHeaders {
    lines: Vec<HeaderLine>,
    /// Empty where one of the lines is refused.
    checked: CustomHeaders,
}

/// One header as it was given.
#[derive(Debug)]
struct HeaderLine {
    /// `Name: value`.
    text: Secret<String>,
    /// ` (line 2 of @FILE)`, where it stood in one.
    place: String,
}

/// The endpoint that changes are laid over.
pub(super) struct Stored {
    sealed: SealedEndpoint,
    header_names: Vec<String>,
    headers: Result<CustomHeaders, Unusable>,
}

/// An endpoint as it is saved.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The secret and the switch are as they were stored.
    pub(super) endpoint: SealedEndpoint,
    /// The custom headers' names, in the order they are sent.
    pub(super) header_names: Vec<String>,
}

impl Stored {
    /// Opens what is needed of `row`; `None`: the tenant has no endpoint yet.
    pub(super) fn open(pipeline: &Pipeline, row: Option<EndpointRow>) -> Self {
        row.map_or_else(Self::nothing, |row| Self {
            headers: pipeline.open_headers(&row.tenant_id, &row.sealed),
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
    /// Reads and checks `options` for `tenant`: files, and `stdin` where one of them is `@-`.
    pub(super) fn read(
        tenant: &str,
        options: &args::Draft,
        policy: &Policy,
        header_prefix: &str,
        stdin: impl Read,
    ) -> Self {
        let mut sources = Sources::new(stdin);
        let mut changes =
            Self { clear_headers: options.clear_headers, omit_empty: options.omit_empty, ..Self::default() };
        changes.problems.extend(tenant_problem(tenant));
        if let Some(url) = &options.url {
            changes.read_url(url, &mut sources, policy);
        }
        changes.read_headers(&options.headers, &mut sources, header_prefix);
        if options.no_template {
            changes.template = Some(None);
        } else if let Some(template) = &options.template {
            changes.read_template(template, &mut sources);
        }
        if let Some(name) = &options.preset {
            changes.take_preset(name);
        }
        if let Some(text) = &options.timeout {
            changes.timeout = timeout(text).map_err(|problem| changes.problems.push(problem)).ok();
        }
        changes
    }

    fn read_url(&mut self, given: &Secret<String>, sources: &mut Sources<impl Read>, policy: &Policy) {
        let url = sources
            .value("--url", given)
            .and_then(|url| {
                if url.is_empty_file() {
                    Err(format!("{}: is empty: write the URL into it", url.place))
                } else {
                    Ok(url)
                }
            })
            .and_then(|url| policy.vet_url(url.text.expose()).map_err(|refused| format!("{}: {refused}", url.place)));
        self.url = url.map_err(|problem| self.problems.push(problem)).ok();
    }

    fn read_headers(&mut self, given: &[Secret<String>], sources: &mut Sources<impl Read>, header_prefix: &str) {
        let mut lines = Vec::new();
        for one in given {
            match sources.value("--header", one) {
                Err(problem) => self.problems.push(problem),
                // Else a file that was not written yet would, with --clear-headers, drop every credential.
                Ok(given) if given.is_empty_file() => {
                    self.problems.push(format!("{}: holds no header: one `Name: value` a line", given.place));
                }
                Ok(given) if given.is_file => lines.extend(header_lines(&given)),
                Ok(given) => lines.push(HeaderLine { text: given.text, place: String::new() }),
            }
        }
        let texts: Vec<&str> = lines.iter().map(|line| line.text.expose().as_str()).collect();
        let checked = CustomHeaders::parse(&texts, header_prefix).unwrap_or_else(|faults| {
            self.problems.extend(faults.iter().map(|fault| header_problem(fault, &lines)));
            CustomHeaders::default()
        });
        self.headers = GivenHeaders { lines, checked };
    }

    fn read_template(&mut self, given: &Secret<String>, sources: &mut Sources<impl Read>) {
        match sources.document("--template", given) {
            Err(problem) => self.problems.push(problem),
            Ok(document) => match Template::parse(document.text.expose()) {
                Ok(template) => self.template = Some(Some(template)),
                Err(faults) => self.problems.extend(faults.iter().map(|fault| {
                    let fault = fault.to_string();
                    format!("{}: {}", document.place, fault.strip_prefix("template: ").unwrap_or(&fault))
                })),
            },
        }
    }

    /// Each of its settings, where no option of its own names another.
    fn take_preset(&mut self, name: &str) {
        self.preset = Preset::find(name);
        let Some(preset) = self.preset else {
            return self.problems.push(format!("--preset {}", preset::unknown(name)));
        };
        match preset.template.map(Template::parse).transpose() {
            Ok(template) => self.template = Some(template),
            Err(faults) => self.problems.extend(faults.iter().map(|fault| format!("--preset {name}: {fault}"))),
        }
        self.omit_empty.get_or_insert(preset.omit_empty);
        self.timeout = Some(preset.timeout);
    }

    /// Resolves a new URL's host, as a save does: a forbidden address is a problem, none at all a warning.
    pub(super) async fn resolve(&mut self, resolver: &Resolver) {
        let Some(url) = &self.url else { return };
        match resolver.vet_at_save(url).await {
            Ok(warning) => self.warnings.extend(warning),
            Err(refused) => self.problems.push(format!("--url: the host {} resolves, but {refused}", url.host())),
        }
    }

    /// Takes a problem up that the caller found.
    pub(super) fn refuse(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// The preset that was named.
    pub(super) fn preset(&self) -> Option<&'static Preset> {
        self.preset
    }

    /// Whether anything is wrong already: nothing will be saved then.
    pub(super) fn are_refused(&self) -> bool {
        !self.problems.is_empty()
    }

    /// What to tell beside a save.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The refusal where there is one: the arguments can be put right without a database. Else `failure`.
    pub(super) fn or(&self, failure: Failure) -> Failure {
        if self.are_refused() { self.refusal() } else { failure }
    }

    /// What a save would make a body of: the template, where there is one, and whether empty members are left out.
    ///
    /// # Errors
    /// [`Failure::Arguments`] with every problem; [`Failure::Operation`] where the stored template cannot be used.
    pub(super) fn body(self, stored: Option<SealedEndpoint>) -> Result<(Option<Template>, bool), Failure> {
        if self.are_refused() {
            return Err(self.refusal());
        }
        let stored = stored.unwrap_or_default();
        let template = match self.template {
            Some(template) => template,
            None => stored.template.as_deref().map(Template::parse).transpose().map_err(|faults| {
                Failure::Operation(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            })?,
        };
        Ok((template, self.omit_empty.unwrap_or(stored.omit_empty)))
    }

    fn refusal(&self) -> Failure {
        Failure::Arguments(self.problems.join("\n"))
    }

    /// Lays the changes over `stored` and seals what is new.
    ///
    /// # Errors
    /// [`Failure::Arguments`] with every problem; [`Failure::Operation`] where nothing can be sealed.
    pub(super) fn apply(
        mut self,
        keyring: &KeyRing,
        tenant: &str,
        header_prefix: &str,
        stored: Stored,
    ) -> Result<Sealed, Failure> {
        let headers = self.merge_headers(stored.headers, header_prefix);
        if self.are_refused() {
            return Err(self.refusal());
        }
        let seal = |column, plain: &[u8]| {
            keyring.seal(&Place { tenant, column }, plain).map_err(|e: SealError| Failure::operation(e))
        };
        let mut sealed = Sealed { endpoint: stored.sealed, header_names: stored.header_names };
        let endpoint = &mut sealed.endpoint;
        if let Some(url) = &self.url {
            endpoint.url_sealed = Some(seal(Column::EndpointUrl, url.as_str().as_bytes())?);
            endpoint.host = Some(url.host().to_owned());
            endpoint.port = Some(i32::from(url.port()));
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
        Ok(sealed)
    }

    /// The stored headers with the given ones in the place of those of the same name, else behind them.
    /// `None`: they stay as they are.
    fn merge_headers(&mut self, stored: Result<CustomHeaders, Unusable>, header_prefix: &str) -> Option<CustomHeaders> {
        if self.headers.lines.is_empty() {
            return self.clear_headers.then(CustomHeaders::default);
        }
        let stored = if self.clear_headers { Ok(CustomHeaders::default()) } else { stored };
        let stored = stored
            .map_err(|unusable| {
                self.problems.push(format!(
                    "--header: the stored ones cannot be kept ({}): give --clear-headers and all of them again",
                    unusable.error
                ));
            })
            .ok()?;
        let count = self.headers.count_over(&stored);
        if count > MAX_HEADERS && self.headers.lines.len() <= MAX_HEADERS {
            let fault = HeaderFault::TooMany { count };
            self.problems
                .push(format!("--header: {fault}, those included that are stored; --clear-headers drops them"));
        }
        if self.are_refused() {
            return None;
        }
        let merged = merge(&stored, &self.headers.checked);
        let lines: Vec<&str> = merged.iter().map(|line| line.expose().as_str()).collect();
        CustomHeaders::parse(&lines, header_prefix)
            .map_err(|faults| self.problems.extend(faults.iter().map(|fault| format!("--header: {fault}"))))
            .ok()
    }
}

impl GivenHeaders {
    /// How many headers there are when they are laid over `stored`; refused lines count as well.
    fn count_over(&self, stored: &CustomHeaders) -> usize {
        let name = |line: &HeaderLine| line.text.expose().split(':').next().unwrap_or_default().to_ascii_lowercase();
        let given: Vec<String> = self.lines.iter().map(name).collect();
        let kept = stored.names().into_iter().filter(|name| !given.contains(&name.to_ascii_lowercase()));
        kept.count() + given.len()
    }
}

fn merge(stored: &CustomHeaders, given: &CustomHeaders) -> Vec<Secret<String>> {
    let mut merged: Vec<_> = stored.iter().collect();
    for (name, value) in given.iter() {
        match merged.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some(place) => *place = (name, value),
            None => merged.push((name, value)),
        }
    }
    merged.iter().map(|(name, value)| Secret::new(format!("{name}: {}", value.expose()))).collect()
}

/// One header a line; blank lines are none.
fn header_lines(given: &source::Given) -> Vec<HeaderLine> {
    let from = given.place.trim_start_matches("--header ");
    (1..)
        .zip(given.text.expose().lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| HeaderLine {
            text: Secret::new(line.to_owned()),
            place: format!(" (line {number} of {from})"),
        })
        .collect()
}

/// A fault's number counts the headers as they were given; one out of a file is named by its line as well.
fn header_problem(fault: &HeaderFault, lines: &[HeaderLine]) -> String {
    let line = match fault {
        HeaderFault::TooMany { .. } => None,
        HeaderFault::NoColon { position }
        | HeaderFault::InvalidName { position }
        | HeaderFault::Reserved { position, .. }
        | HeaderFault::Duplicate { position, .. }
        | HeaderFault::EmptyValue { position, .. }
        | HeaderFault::LongValue { position, .. }
        | HeaderFault::InvalidValue { position, .. } => lines.get(position - 1),
    };
    format!("--header: {fault}{}", line.map_or("", |line| line.place.as_str()))
}

/// `default`, or a duration that an endpoint may have.
fn timeout(text: &str) -> Result<Option<Duration>, String> {
    if text == "default" {
        return Ok(None);
    }
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("--timeout: {text:?} is not a duration ({error}): write 15s or 500ms, or default"))?;
    let [least, most] = [TIMEOUTS.start(), TIMEOUTS.end()].map(|bound| bound.as_secs());
    let range = format!("--timeout: {text:?} is out of range: at least {least}s, at most {most}s");
    if TIMEOUTS.contains(&duration) { Ok(Some(duration)) } else { Err(range) }
}

/// What is wrong with a tenant's id that an endpoint is to be made for.
pub(super) fn tenant_problem(tenant: &str) -> Option<String> {
    if tenant.is_empty() {
        Some("TENANT: is empty: name the tenant as the leads table does".to_owned())
    } else if tenant.len() > TENANT_BYTES {
        Some(format!("TENANT: has {} bytes, at most {TENANT_BYTES} are allowed", tenant.len()))
    } else if tenant.chars().any(is_unseen) {
        Some("TENANT: holds a character that cannot be seen, such as a tab or a zero-width space: remove it".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
