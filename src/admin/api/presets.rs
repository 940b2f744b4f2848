//! Ready-made templates.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{control::preset::PresetView, delivery::presets::ALL};

/// Templates for known destinations.
#[derive(Serialize, ToSchema)]
pub(super) struct Presets {
    presets: Vec<PresetView>,
}

/// Lists the presets.
#[utoipa::path(get, path = "/v1/presets", operation_id = "listPresets", tag = "endpoint", responses((status = 200, body = Presets)))]
pub(super) async fn list() -> Json<Presets> {
    Json(Presets { presets: ALL.iter().map(PresetView::from).collect() })
}
