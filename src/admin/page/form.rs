//! The settings as a form has them: to a draft and back, each fault beside its field.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

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
        let Some(stored) = stored else { return Self::default().with_rows() };
        Self {
            template: stored.template.clone().unwrap_or_default(),
            omit_empty: stored.omit_empty,
            timeout: if stored.timeout_is_own { seconds(stored.timeout_ms) } else { String::new() },
            ..Self::default()
        }
        .with_rows()
    }

    /// Of what was sent.
    pub(super) fn sent(fields: &Fields) -> Self {
        let rows = fields.all("header_name").zip(fields.all("header_value"));
        let rows = rows.map(|(name, value)| HeaderRow { name: name.trim().to_owned(), value: value.to_owned() });
        Self {
            url: fields.first("url").trim().to_owned(),
            headers: rows.filter(|row| !row.name.is_empty() || !row.value.is_empty()).collect(),
            dropped: fields.all("drop").map(str::to_owned).collect(),
            template: fields.first("template").replace("\r\n", "\n"),
            omit_empty: fields.first("omit_empty") == "yes",
            timeout: fields.first("timeout").trim().to_owned(),
            preset: fields.first("preset").to_owned(),
            event: fields.first("event").to_owned(),
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
    if fault.detail.contains("milliseconds") {
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
