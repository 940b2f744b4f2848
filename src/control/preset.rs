//! What both surfaces show of a preset.

use serde::Serialize;
use utoipa::ToSchema;

use crate::delivery::presets::Preset;

/// What a preset sets, and what to know of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Preset)]
pub struct PresetView {
    name: &'static str,
    does: &'static str,
    /// What its URL looks like.
    url: &'static str,
    /// Headers that it needs, each as `Name: value`.
    headers: Vec<String>,
    /// null: the default body.
    template: Option<&'static str>,
    omit_empty: bool,
    timeout_ms: Option<u64>,
    notes: &'static [&'static str],
}

impl From<&Preset> for PresetView {
    fn from(preset: &Preset) -> Self {
        let Preset { name, does, url, headers, template, omit_empty, timeout, notes, .. } = *preset;
        Self {
            name,
            does,
            url,
            headers: headers.iter().map(|(name, value)| format!("{name}: {value}")).collect(),
            template,
            omit_empty,
            timeout_ms: timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
            notes,
        }
    }
}
