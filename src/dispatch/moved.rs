//! Rows that moved, and other leads under an id that was used before: both are an INSERT of a known id. A row that moves
//! between partitions keeps its captured time. A table that was emptied or restored may give the ids out again: a lead that
//! was captured after the last that is known of its id is another one.

use jiff::{SignedDuration, Timestamp};

use crate::store::{
    Client, Error, Statement,
    leads::{Leads, Loaded},
    outbox::{self, Pending},
};

/// The application's clock may be ahead of the server's by as much.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// Takes those of the moved rows for new that are other leads, as far as their captured times tell.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub(super) async fn tell_apart(
    client: &Client,
    known: &Statement,
    mut events: Vec<Pending>,
    loaded: &Leads,
) -> Result<Vec<Pending>, Error> {
    let captured_at = |event: &Pending| match loaded.of(&event.place.tenant_id, &event.lead_id) {
        Loaded::Found(lead) => lead.captured_at,
        _ => None,
    };
    let doubtful: Vec<_> = events
        .iter()
        .filter(|event| event.is_moved_row)
        .map(|event| (event.place.tenant_id.as_str(), event.lead_id.as_str()))
        .collect();
    if doubtful.is_empty() {
        return Ok(events);
    }
    let known = outbox::known(client, known, &doubtful).await?;
    for event in events.iter_mut().filter(|event| event.is_moved_row) {
        let known_at = known.get(&(event.place.tenant_id.clone(), event.lead_id.clone()));
        if captured_at(event).zip(known_at).is_some_and(|(captured_at, known_at)| is_another(captured_at, *known_at)) {
            event.is_moved_row = false;
        }
    }
    Ok(events)
}

fn is_another(captured_at: Timestamp, known_at: Timestamp) -> bool {
    captured_at.duration_since(known_at) > SLACK
}
