//! `lead-webhook preset`: what `endpoint set --preset` knows. It needs neither configuration nor database.

use super::{Failure, args::PresetCommand, fields::aligned, output};
use crate::{
    control::preset::PresetView,
    delivery::presets::{ALL, Preset},
};

/// Lists them, or shows one.
pub(super) fn run(command: PresetCommand) -> Result<(), Failure> {
    match command {
        PresetCommand::List { json: false } => {
            output::data(&aligned(&ALL.map(|preset| (preset.name, preset.does.to_owned()))))
        }
        PresetCommand::List { json: true } => ALL.iter().try_for_each(|preset| output::json(&PresetView::from(preset))),
        PresetCommand::Show { name, json } => {
            let preset = Preset::find(&name).ok_or_else(|| Failure::Arguments(unknown(&name)))?;
            if json { output::json(&PresetView::from(preset)) } else { show(preset) }
        }
    }
}

/// What a preset's name must be.
pub(super) fn unknown(name: &str) -> String {
    format!("{name:?} is no preset: it is one of {}", ALL.map(|preset| preset.name).join(", "))
}

fn show(preset: &Preset) -> Result<(), Failure> {
    let Preset { name, does, url, headers, template, omit_empty, timeout, notes, .. } = preset;
    let mut fields = vec![("preset", (*name).to_owned()), ("does", (*does).to_owned()), ("url", (*url).to_owned())];
    fields.extend(headers.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
    if *omit_empty {
        fields.push(("empty members", "left out".to_owned()));
    }
    if let Some(timeout) = timeout {
        fields.push(("timeout", humantime::format_duration(*timeout).to_string()));
    }
    fields.extend(notes.iter().map(|note| ("note", (*note).to_owned())));
    let body = if template.is_some() { "as the template below" } else { "the default one" };
    fields.push(("body", body.to_owned()));
    output::data(&aligned(&fields))?;
    template.map_or(Ok(()), |template| output::data(&format!("\n{}", template.trim_end())))
}
