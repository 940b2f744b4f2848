//! The settings as a form has them: to a draft and back, each fault beside its field.

use std::collections::HashSet;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Fields;
use crate::{
    admin::{
        api::views::EndpointView,
        problem::{FieldFault, Problem},
    },
    delivery::presets::{self, Preset},
};

/// Rows for new headers.
const NEW_HEADERS: usize = 3;

/// What stands in the form, and what is wrong with it.
#[derive(Default)]
pub(super) struct Form {
    /// As it was typed; of what is stored nothing is shown.
    pub(super) url: String,
    pub(super) headers: Vec<HeaderRow>,
    dropped: Vec<String>,
    pub(super) template: String,
    pub(super) omit_empty: bool,
    /// Seconds.
    pub(super) timeout: String,
    pub(super) preset: String,
    pub(super) event: String,
    /// Of each setting that the form shows, what it was made of.
    pub(super) made_of: Vec<String>,
    faults: Vec<(&'static str, String)>,
}

#[derive(Default)]
pub(super) struct HeaderRow {
    pub(super) name: String,
    pub(super) value: String,
}

impl Form {
    /// Of what is stored; `None`: there is nothing yet.
    pub(super) fn of(stored: Option<&EndpointView>) -> Self {
        let mut form = stored.map_or_else(Self::default, |stored| Self {
            template: as_typed(stored.template.as_deref().unwrap_or_default()),
            omit_empty: stored.omit_empty,
            timeout: if stored.timeout_is_own { seconds(stored.timeout_ms) } else { String::new() },
            ..Self::default()
        });
        form.made_of = form.shown().map(|setting| mark(&setting)).into();
        form.with_rows()
    }

    /// What was typed, over what is in force now: a setting that was not touched is as it is there.
    pub(super) fn over(mut self, in_force: Self) -> Self {
        let [keeps_template, keeps_omit_empty, keeps_timeout] = self.shown().map(|setting| self.is_untouched(&setting));
        if keeps_template {
            self.template = in_force.template;
        }
        if keeps_omit_empty {
            self.omit_empty = in_force.omit_empty;
        }
        if keeps_timeout {
            self.timeout = in_force.timeout;
        }
        self.made_of = in_force.made_of;
        self
    }

    /// The settings that are shown as they are stored, by their names in a draft.
    fn shown(&self) -> [(&'static str, String); 3] {
        let omit_empty = self.omit_empty.to_string();
        [("template", self.template.clone()), ("omit_empty", omit_empty), ("timeout_ms", self.timeout.clone())]
    }

    fn is_untouched(&self, setting: &(&str, String)) -> bool {
        self.made_of.contains(&mark(setting))
    }

    /// Of what was sent.
    pub(super) fn sent(fields: &Fields) -> Self {
        let rows = fields.all("header_name").zip(fields.all("header_value"));
        let rows = rows.map(|(name, value)| HeaderRow { name: name.trim().to_owned(), value: value.to_owned() });
        Self {
            url: fields.first("url").trim().to_owned(),
            headers: rows.filter(|row| !row.name.is_empty() || !row.value.is_empty()).collect(),
            dropped: fields.all("drop").map(str::to_owned).collect(),
            template: as_typed(fields.first("template")),
            omit_empty: fields.first("omit_empty") == "yes",
            timeout: fields.first("timeout").trim().to_owned(),
            preset: fields.first("preset").to_owned(),
            event: fields.first("event").to_owned(),
            made_of: fields.all("made_of").map(str::to_owned).collect(),
            faults: Vec::new(),
        }
        .with_rows()
    }

    fn with_rows(mut self) -> Self {
        let least = self.headers.len().max(NEW_HEADERS);
        self.headers.resize_with(least, HeaderRow::default);
        self
    }

    /// Puts a preset's settings in; they are not saved by that.
    pub(super) fn take(&mut self, preset: &Preset) {
        self.template = preset.template.unwrap_or_default().to_owned();
        self.omit_empty = preset.omit_empty;
        let milliseconds = preset.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok());
        self.timeout = milliseconds.map(seconds).unwrap_or_default();
    }

    /// Whether a template stands in it that is no preset's.
    pub(super) fn has_own_template(&self) -> bool {
        !self.template.trim().is_empty() && presets::ALL.iter().all(|preset| preset.template != Some(&self.template))
    }

    /// The draft that it means, as the API takes it.
    pub(super) fn draft(&self) -> Map<String, Value> {
        let mut draft = Map::new();
        if !self.url.is_empty() {
            draft.insert("url".to_owned(), self.url.clone().into());
        }
        let template = Some(&self.template).filter(|text| !text.trim().is_empty());
        draft.insert("template".to_owned(), json!(template));
        draft.insert("omit_empty".to_owned(), self.omit_empty.into());
        draft.insert("timeout_ms".to_owned(), self.timeout_ms());
        let dropped = self.dropped.iter().map(|name| (name.clone(), Value::Null));
        let given = self.headers.iter().filter(|row| !row.name.is_empty() || !row.value.is_empty());
        let given = given.map(|row| (row.name.clone(), row.value.clone().into()));
        let headers: Map<String, Value> = dropped.chain(given).collect();
        if !headers.is_empty() {
            draft.insert("headers".to_owned(), headers.into());
        }
        draft
    }

    /// Of the draft what was touched: the rest is not overwritten, whatever it is by now.
    pub(super) fn changes(&self) -> Map<String, Value> {
        let shown = self.shown();
        let untouched: Vec<_> =
            shown.iter().filter(|setting| self.is_untouched(setting)).map(|(name, _)| *name).collect();
        let mut changes = self.draft();
        changes.retain(|name, _| !untouched.contains(&name.as_str()));
        changes
    }

    /// What is no number goes on as it is, and is refused there.
    fn timeout_ms(&self) -> Value {
        if self.timeout.is_empty() {
            return Value::Null;
        }
        let seconds = self.timeout.replace(',', ".").parse::<f64>().ok().filter(|seconds| (0.0..1e6).contains(seconds));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e9, and not negative")]
        seconds.map_or_else(|| self.timeout.clone().into(), |seconds| ((seconds * 1_000.0).round() as u64).into())
    }

    /// Of the new headers.
    pub(super) fn header_names(&self) -> Vec<String> {
        self.headers.iter().map(|row| row.name.clone()).collect()
    }

    /// Whether it can be a draft: of two new headers of one name one would be lost.
    pub(super) fn check(&mut self) -> bool {
        let mut names = HashSet::new();
        let mut named = self.headers.iter().map(|row| row.name.to_ascii_lowercase()).filter(|name| !name.is_empty());
        let twice = !named.all(|name| names.insert(name));
        self.faults.extend(twice.then(|| ("headers", "a name is given twice: one value each".to_owned())));
        !twice
    }

    /// Takes over what is wrong; `whole` is what is wrong with none of its fields.
    pub(super) fn refuse(&mut self, problem: &Problem) {
        self.faults.extend(problem.errors().iter().map(|fault| (field_of(fault), words(fault))));
    }

    /// What is wrong with a field.
    pub(super) fn faults(&self, field: &str) -> Vec<&str> {
        self.faults.iter().filter(|(known, _)| *known == field).map(|(_, text)| text.as_str()).collect()
    }

    pub(super) fn is_faulty(&self, field: &str) -> bool {
        self.faults.iter().any(|(known, _)| *known == field)
    }

    /// The ids of a field's faults, for whoever hears the page.
    pub(super) fn described(&self, field: &str) -> String {
        (1..=self.faults(field).len()).map(|nth| format!("{field}-fault-{nth}")).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn drops(&self, name: &str) -> bool {
        self.dropped.iter().any(|dropped| dropped == name)
    }
}

/// Browsers send each end of a line as CR and LF, whatever stood there.
fn as_typed(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// A setting's value is known again by it: a template itself would make the form twice as long.
fn mark((name, value): &(&str, String)) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{name}={value}")))
}

fn seconds(milliseconds: u64) -> String {
    if milliseconds.is_multiple_of(1_000) {
        (milliseconds / 1_000).to_string()
    } else {
        format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000).trim_end_matches('0').to_owned()
    }
}

fn field_of(fault: &FieldFault) -> &'static str {
    let pointer = fault.pointer.as_deref().unwrap_or_default();
    let pointer = pointer.trim_start_matches('#').trim_start_matches("/draft").trim_start_matches('/');
    let first = pointer.split('/').next().unwrap_or_default();
    ["url", "headers", "template", "timeout_ms"].into_iter().find(|field| *field == first).unwrap_or("whole")
}

/// Milliseconds are the API's; the form has seconds.
fn words(fault: &FieldFault) -> String {
    if field_of(fault) == "timeout_ms" && fault.detail.contains("milliseconds") {
        "must be a number of seconds, or empty".to_owned()
    } else {
        fault.detail.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_form_is_a_draft_and_what_was_left_empty_is_what_is_stored_or_the_default() {
        let sent = Form::sent(&fields(&[
            ("url", " https://a.example.org/ "),
            ("header_name", "X-Token"),
            ("header_value", " a b "),
            ("header_name", ""),
            ("header_value", ""),
            ("drop", "X-Old"),
            ("template", "{\r\n}"),
            ("omit_empty", "yes"),
            ("timeout", "2,5"),
        ]));
        let expected = json!({
            "url": "https://a.example.org/", "template": "{\n}", "omit_empty": true, "timeout_ms": 2_500,
            "headers": { "X-Old": null, "X-Token": " a b " },
        });
        assert_eq!(Value::Object(sent.draft()), expected);
        let empty = json!({ "template": null, "omit_empty": false, "timeout_ms": null });
        assert_eq!(Value::Object(Form::sent(&fields(&[])).draft()), empty);
    }

    #[test]
    fn what_was_not_touched_is_not_saved_and_is_as_it_is_in_force_when_that_has_changed() {
        let stored = |template: &str, timeout: &str| {
            let mut form = Form { template: template.to_owned(), timeout: timeout.to_owned(), ..Form::default() };
            form.made_of = form.shown().map(|setting| mark(&setting)).into();
            form
        };
        let mut typed = stored("{}", "15");
        assert!(typed.changes().is_empty());
        typed.template = "[]".to_owned();
        assert_eq!(Value::Object(typed.changes()), json!({ "template": "[]" }));
        let mut typed = typed.over(stored("{\"theirs\":1}", "20"));
        assert_eq!((typed.template.as_str(), typed.timeout.as_str()), ("[]", "20"));
        assert_eq!(Value::Object(typed.changes()), json!({ "template": "[]" }));
        typed.timeout = "15".to_owned();
        assert_eq!(Value::Object(typed.changes()), json!({ "template": "[]", "timeout_ms": 15_000 }));
    }

    #[test]
    fn of_two_new_headers_of_one_name_none_is_lost_unseen() {
        let header = |name: &str| HeaderRow { name: name.to_owned(), value: "v".to_owned() };
        let form =
            |names: &[&str]| Form { headers: names.iter().map(|name| header(name)).collect(), ..Form::default() };
        assert!(form(&["X-A", "X-B", "", ""]).check());
        let mut twice = form(&["X-A", "x-a"]);
        assert!(!twice.check());
        assert!(twice.is_faulty("headers"));
    }

    #[test]
    fn a_time_limit_that_is_no_number_is_kept_for_its_fault() {
        for (text, value) in [
            ("15", json!(15_000)),
            ("0.5", json!(500)),
            ("soon", json!("soon")),
            ("-1", json!("-1")),
            ("inf", json!("inf")),
        ] {
            assert_eq!(Form { timeout: text.to_owned(), ..Form::default() }.timeout_ms(), value);
        }
        assert_eq!([15_000, 2_500, 1_001].map(seconds), ["15", "2.5", "1.001"]);
    }

    #[test]
    fn of_the_time_limit_alone_milliseconds_are_told_as_seconds() {
        let detail = "must be a whole number of milliseconds, or null";
        assert_eq!(words(&FieldFault::at(&["timeout_ms"], detail)), "must be a number of seconds, or empty");
        let unknown = "unknown placeholder `{{milliseconds}}`";
        assert_eq!(words(&FieldFault::at(&["template"], unknown)), unknown);
    }

    #[test]
    fn a_fault_stands_beside_its_field() {
        for (path, field) in [
            (&["url"][..], "url"),
            (&["draft", "url"], "url"),
            (&["headers", "X-Token"], "headers"),
            (&["draft", "timeout_ms"], "timeout_ms"),
            (&["draft"], "whole"),
            (&[], "whole"),
        ] {
            assert_eq!(field_of(&FieldFault::at(path, "")), field, "{path:?}");
        }
    }
}
