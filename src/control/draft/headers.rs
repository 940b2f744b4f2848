//! A draft's headers over those that are stored.

use crate::{
    delivery::headers::{CustomHeaders, HeaderFault},
    keyring::{Column, Place},
    pipeline::{Pipeline, Unusable},
    secret::Secret,
    store::endpoints::EndpointRow,
};

#[derive(Debug, Default)]
pub(super) struct GivenHeaders {
    pub(super) lines: Vec<Secret<String>>,
    /// Empty where one of the lines is refused.
    pub(super) checked: CustomHeaders,
    pub(super) dropped: Vec<String>,
    pub(super) clear: bool,
}

impl GivenHeaders {
    /// How many headers there are when they are laid over `stored`; refused lines count as well.
    pub(super) fn count_over(&self, stored: &CustomHeaders) -> usize {
        let name = |line: &Secret<String>| line.expose().split(':').next().unwrap_or_default().to_ascii_lowercase();
        let given: Vec<String> = self.lines.iter().map(name).collect();
        let kept = self.kept(stored).filter(|(name, _)| !given.contains(&name.to_ascii_lowercase()));
        kept.count() + given.len()
    }

    /// Whether it names all of those that are stored to be dropped.
    pub(super) fn drop_all(&self, stored: &[String]) -> bool {
        let is_dropped = |name: &String| self.dropped.iter().any(|dropped| dropped.eq_ignore_ascii_case(name));
        !stored.is_empty() && stored.iter().all(is_dropped)
    }

    fn kept<'a>(&'a self, stored: &'a CustomHeaders) -> impl Iterator<Item = (&'a str, &'a Secret<String>)> {
        stored.iter().filter(|(name, _)| !self.dropped.iter().any(|dropped| dropped.eq_ignore_ascii_case(name)))
    }

    pub(super) fn over(&self, stored: &CustomHeaders) -> Vec<Secret<String>> {
        let mut merged: Vec<_> = self.kept(stored).collect();
        for (name, value) in self.checked.iter() {
            match merged.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some(place) => *place = (name, value),
                None => merged.push((name, value)),
            }
        }
        merged.iter().map(|(name, value)| Secret::new(format!("{name}: {}", value.expose()))).collect()
    }
}

/// The stored headers, with those that a new `delivery.header_prefix` forbids: they can be dropped, and are refused where they
/// stay.
pub(super) fn open_headers(
    pipeline: &Pipeline,
    EndpointRow { tenant_id, sealed, .. }: &EndpointRow,
) -> Result<CustomHeaders, Unusable> {
    pipeline.open_headers(tenant_id, sealed).or_else(|unusable| {
        let place = Place { tenant: tenant_id, column: Column::EndpointHeaders };
        let opened = sealed.headers_sealed.as_deref().and_then(|sealed| pipeline.keyring().open(&place, sealed).ok());
        opened.and_then(|opened| CustomHeaders::from_json(opened.expose(), "").ok()).ok_or(unusable)
    })
}

/// Counts the headers as they were given.
pub(super) fn position(fault: &HeaderFault) -> Option<usize> {
    match *fault {
        HeaderFault::TooMany { .. } => None,
        HeaderFault::NoColon { position }
        | HeaderFault::InvalidName { position }
        | HeaderFault::Reserved { position, .. }
        | HeaderFault::Duplicate { position, .. }
        | HeaderFault::EmptyValue { position, .. }
        | HeaderFault::LongValue { position, .. }
        | HeaderFault::InvalidValue { position, .. } => Some(position),
    }
}
