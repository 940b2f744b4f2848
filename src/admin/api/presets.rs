//! Ready-made templates.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::views::milliseconds;
use crate::delivery::presets::{ALL, Preset};

/// Templates for known destinations.
#[derive(Serialize, ToSchema)]
pub(super) struct Presets {
    presets: Vec<PresetView>,
}

/// What a preset sets, and what to know of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Preset)]
struct PresetView {
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

/// Lists the presets.
#[utoipa::path(get, path = "/v1/presets", tag = "endpoint", responses((status = 200, body = Presets)))]
pub(super) async fn list() -> Json<Presets> {
    let view = |preset: &Preset| PresetView {
        name: preset.name,
        does: preset.does,
        url: preset.url,
        headers: preset.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect(),
        template: preset.template,
        omit_empty: preset.omit_empty,
        timeout_ms: preset.timeout.map(milliseconds),
        notes: preset.notes,
    };
    Json(Presets { presets: ALL.iter().map(view).collect() })
}
