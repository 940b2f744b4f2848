//! The deliveries below a tenant's settings: a filter, and a row each.

use axum::extract::State;

use super::{Api, Fields, delivery, milliseconds, path_of, readable, segment, tone};
use crate::admin::{
    api::{Query, Tenant, deliveries, views::DeliveryView},
    problem::Problem,
};

/// Deliveries of a page.
const LISTED: &str = "25";

/// What the filter offers.
pub(super) const SPANS: [(&str, &str); 4] = [("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("", "all")];

/// The filter over the deliveries, as it stands in the address.
pub(super) struct Filter {
    pub(super) status: String,
    pub(super) since: String,
    pub(super) lead: String,
    pub(super) after: String,
}

impl Filter {
    /// As it stands in the address.
    pub(super) fn of(words: &Fields) -> Self {
        let [status, since, lead, after] =
            ["status", "since", "lead", "after"].map(|name| words.first(name).to_owned());
        Self { status, since, lead, after }
    }
}

impl Default for Filter {
    fn default() -> Self {
        let [status, lead, after] = [const { String::new() }; 3];
        Self { status, since: "7d".to_owned(), lead, after }
    }
}

pub(super) struct Row {
    pub(super) finished: String,
    pub(super) tone: &'static str,
    pub(super) status: String,
    pub(super) detail: String,
    pub(super) event: String,
    pub(super) lead: String,
    pub(super) http: String,
    pub(super) ms: String,
    pub(super) link: String,
}

/// The deliveries that the filter lets through, and where the next ones are.
pub(super) async fn list(api: &Api, tenant: &Tenant, filter: &Filter) -> Result<(Vec<Row>, Option<String>), Problem> {
    let words =
        [("status", &filter.status), ("since", &filter.since), ("lead", &filter.lead), ("after", &filter.after)];
    let given: Vec<_> = words.iter().filter(|(_, value)| !value.is_empty()).collect();
    let query = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone()));
    let query = query.chain([("limit".to_owned(), LISTED.to_owned())]).collect();
    let listed = deliveries::list(State(api.clone()), tenant.clone(), Query(query)).await?.0;
    let next = listed.next.map(|after| {
        let kept = given.iter().filter(|(name, _)| *name != "after");
        let words: String = kept.map(|(name, value)| format!("{name}={}&", segment(value))).collect();
        format!("{}?{words}after={after}#deliveries", path_of(&tenant.id))
    });
    Ok((listed.deliveries.iter().map(|delivery| listed_row(&tenant.id, delivery)).collect(), next))
}

fn listed_row(tenant: &str, delivery: &DeliveryView) -> Row {
    let detail = delivery.failure.as_deref().or(delivery.reason.as_deref()).unwrap_or_default();
    let detail = if delivery.is_test { format!("{detail} (Test)") } else { detail.to_owned() };
    Row {
        finished: readable(&delivery.finished_at),
        tone: tone(&delivery.status),
        status: delivery.status.clone(),
        detail: detail.trim().replace('_', " "),
        event: delivery.event.clone(),
        lead: delivery.lead_id.clone(),
        http: delivery.http_status.map_or_else(|| "–".to_owned(), |status| status.to_string()),
        ms: delivery.total_us.map_or_else(|| "–".to_owned(), |us| milliseconds(us).replace(" ms", "")),
        link: delivery::link(tenant, &delivery.delivery_id),
    }
}
