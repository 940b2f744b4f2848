//! The options that `endpoint set`, `test` and `preview` have in common, read: files, standard input and words, each
//! problem with its option, its place and the remedy. What they say is checked where the admin API has it checked too.

mod source;

use std::{io::Read, time::Duration};

use super::{Failure, args, preset};
use crate::{
    control::draft::{Changes, Fault, Input, Part, Refused, Sealed, Stored, tenant_fault},
    delivery::{presets::Preset, template::Template},
    egress::{Policy, Resolver},
    keyring::KeyRing,
    secret::Secret,
    store::endpoints::SealedEndpoint,
};
use source::{Given, Sources};

/// The options, as far as they could be read, and everything that is wrong with them.
#[derive(Debug)]
pub(super) struct Draft {
    changes: Changes,
    options: Options,
}

/// Where values stood: the option, and its file where there is one. Never a value.
#[derive(Debug, Default)]
struct Options {
    url: String,
    template: String,
    /// ` (line 2 of @FILE)`, for each header that stood in one.
    headers: Vec<String>,
    /// What could not be read, each with its option.
    unread: Vec<(Part, String)>,
}

impl Draft {
    /// Reads and checks `options` for `tenant`: files, and `stdin` where one of them is `@-`.
    pub(super) fn read(
        tenant: &str,
        options: &args::Draft,
        policy: &Policy,
        header_prefix: &str,
        stdin: impl Read,
    ) -> Self {
        let (mut sources, mut read) = (Sources::new(stdin), Options::default());
        let template = options.template.as_ref().filter(|_| !options.no_template);
        let input = Input {
            url: options.url.as_ref().and_then(|url| read.url(url, &mut sources)),
            headers: read.headers(&options.headers, &mut sources),
            dropped_headers: Vec::new(),
            clear_headers: options.clear_headers,
            template: template.map_or_else(
                || options.no_template.then_some(None),
                |template| read.template(template, &mut sources).map(Some),
            ),
            omit_empty: options.omit_empty,
            enabled: None,
            timeout: options.timeout.as_deref().and_then(|text| read.timeout(text)),
            preset: options.preset.as_deref().and_then(|name| read.preset(name)),
        };
        Self { changes: Changes::check(tenant, input, policy, header_prefix), options: read }
    }

    /// Resolves a new URL's host, as a save does.
    pub(super) async fn resolve(&mut self, resolver: &Resolver) {
        self.changes.resolve(resolver, true).await;
    }

    /// Takes a problem up that the caller found.
    pub(super) fn refuse(&mut self, problem: String) {
        self.options.unread.push((Part::Whole, problem));
    }

    /// The preset that was named.
    pub(super) fn preset(&self) -> Option<&'static Preset> {
        self.changes.preset()
    }

    /// Whether anything is wrong already: nothing will be saved then.
    pub(super) fn is_refused(&self) -> bool {
        self.changes.are_refused() || !self.options.unread.is_empty()
    }

    /// What to tell beside a save.
    pub(super) fn warnings(&self) -> &[String] {
        self.changes.warnings()
    }

    /// Whether headers are given, dropped or cleared.
    pub(super) fn names_headers(&self) -> bool {
        self.changes.named().contains(&"headers")
    }

    /// The refusal where there is one: the arguments can be put right without a database. Else `failure`.
    pub(super) fn or(&self, failure: Failure) -> Failure {
        if self.is_refused() { self.options.refusal(&self.changes.faults()) } else { failure }
    }

    /// What a save would make a body of: the template, where there is one, and whether empty members are left out.
    ///
    /// # Errors
    /// [`Failure::Arguments`] with every problem; [`Failure::Operation`] where the stored template cannot be used.
    pub(super) fn body(self, stored: Option<SealedEndpoint>) -> Result<(Option<Template>, bool), Failure> {
        if self.is_refused() {
            return Err(self.options.refusal(&self.changes.faults()));
        }
        self.changes.body(stored).map_err(Failure::Operation)
    }

    /// Lays the changes over `stored` and seals what is new.
    ///
    /// # Errors
    /// [`Failure::Arguments`] with every problem; [`Failure::Operation`] where nothing can be sealed.
    pub(super) fn apply(
        self,
        keyring: &KeyRing,
        tenant: &str,
        header_prefix: &str,
        stored: Stored,
    ) -> Result<Sealed, Failure> {
        match self.changes.apply(keyring, tenant, header_prefix, stored) {
            Ok(sealed) if self.options.unread.is_empty() => Ok(sealed),
            Ok(_) => Err(self.options.refusal(&[])),
            Err(Refused::Faults(faults)) => Err(self.options.refusal(&faults)),
            Err(Refused::Seal(error)) => Err(Failure::operation(error)),
        }
    }
}

impl Options {
    fn note(&mut self, part: Part, problem: String) {
        self.unread.push((part, problem));
    }

    fn url(&mut self, given: &Secret<String>, sources: &mut Sources<impl Read>) -> Option<Secret<String>> {
        let url = sources.value("--url", given).and_then(|url| {
            if url.is_empty_file() { Err(format!("{}: is empty: write the URL into it", url.place)) } else { Ok(url) }
        });
        let Given { place, text, .. } = url.map_err(|problem| self.note(Part::Url, problem)).ok()?;
        self.url = place;
        Some(text)
    }

    fn headers(&mut self, given: &[Secret<String>], sources: &mut Sources<impl Read>) -> Vec<Secret<String>> {
        let mut lines = Vec::new();
        for one in given {
            match sources.value("--header", one) {
                Err(problem) => self.note(Part::Header(None), problem),
                // Else a file that was not written yet would, with --clear-headers, drop every credential.
                Ok(given) if given.is_empty_file() => {
                    let problem = format!("{}: holds no header: one `Name: value` a line", given.place);
                    self.note(Part::Header(None), problem);
                }
                Ok(given) if given.is_file => lines.extend(header_lines(&given)),
                Ok(given) => lines.push((given.text, String::new())),
            }
        }
        let (lines, places) = lines.into_iter().unzip();
        self.headers = places;
        lines
    }

    fn template(&mut self, given: &Secret<String>, sources: &mut Sources<impl Read>) -> Option<Secret<String>> {
        let document = sources.document("--template", given);
        let Given { place, text, .. } = document.map_err(|problem| self.note(Part::Template, problem)).ok()?;
        self.template = place;
        Some(text)
    }

    fn preset(&mut self, name: &str) -> Option<&'static Preset> {
        let preset = Preset::find(name);
        if preset.is_none() {
            self.note(Part::Preset, format!("--preset {}", preset::unknown(name)));
        }
        preset
    }

    /// `default`, or a duration.
    fn timeout(&mut self, text: &str) -> Option<Option<Duration>> {
        if text == "default" {
            return Some(None);
        }
        let unread = |error| {
            let problem = format!("--timeout: {text:?} is not a duration ({error}): write 15s or 500ms, or default");
            self.note(Part::Timeout, problem);
        };
        humantime::parse_duration(text).map_err(unread).ok().map(Some)
    }

    /// Everything that is wrong, `faults` included, each a line with its option.
    fn refusal(&self, faults: &[Fault]) -> Failure {
        let mut problems: Vec<(Part, String)> = self.unread.clone();
        problems.extend(faults.iter().map(|fault| (fault.part, self.line(fault))));
        problems.sort_by_key(|(part, _)| part.rank());
        Failure::Arguments(problems.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n"))
    }

    fn line(&self, Fault { part, text }: &Fault) -> String {
        match part {
            Part::Tenant => tenant_problem(text),
            Part::Url => format!("{}: {text}", self.url),
            Part::Header(position) => {
                let line = position.and_then(|position| self.headers.get(position - 1));
                format!("--header: {text}{}", line.map_or("", String::as_str))
            }
            Part::StoredHeaders => format!("--header: {text}: give --clear-headers and all of them again"),
            Part::AllHeaders => format!("--header: {text}; --clear-headers drops them"),
            Part::Template => format!("{}: {text}", self.template),
            Part::Preset => format!("--preset: {text}"),
            Part::Timeout => format!("--timeout: {text}"),
            Part::Whole => text.clone(),
        }
    }
}

/// One header a line, with its place; blank lines are none.
fn header_lines(given: &Given) -> Vec<(Secret<String>, String)> {
    let from = given.place.trim_start_matches("--header ");
    (1..)
        .zip(given.text.expose().lines())
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| (Secret::new(line.to_owned()), format!(" (line {number} of {from})")))
        .collect()
}

/// What is wrong with the argument `TENANT`.
fn tenant_problem(fault: &str) -> String {
    format!("TENANT: {fault}")
}

/// Refuses a tenant's id that no endpoint may be made for.
///
/// # Errors
/// [`Failure::Arguments`].
pub(super) fn vet_tenant(tenant: &str) -> Result<(), Failure> {
    tenant_fault(tenant).map_or(Ok(()), |fault| Err(Failure::Arguments(tenant_problem(&fault))))
}

#[cfg(test)]
mod tests;
