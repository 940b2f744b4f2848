//! Created, re-engaged or duplicate: the decision of one claim, pure. What it is told comes from the outbox, the lead
//! and the uniqueness key; what it answers is written back under that key's lock, so that all daemons agree.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    event::EventKind,
    store::{outbox::Kind, transaction_id::TransactionId, uniqueness::Known},
};

/// A lead's captured time is often its transaction's begin, the queue time is when the trigger ran: so far they may be
/// apart for a lead that is new.
const LONGEST_TRANSACTION: SignedDuration = SignedDuration::from_hours(1);

/// One event as the claim sees it.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The tenant.
    pub tenant_id: &'a str,
    /// The lead.
    pub lead_id: &'a str,
    /// The event.
    pub event_id: Uuid,
    /// What the trigger saw.
    pub kind: Kind,
    /// When the trigger saw it, on the server's clock.
    pub queued_at: Timestamp,
    /// The application's transaction.
    pub transaction_id: TransactionId,
    /// With [`Kind::CameBack`]: the last conversation before the update.
    pub previous_conversation_at: Option<Timestamp>,
    /// When the lead was captured, as it says.
    pub captured_at: Option<Timestamp>,
    /// The lead's last conversation: as it stands now, or with [`Kind::CameBack`] as the update left it.
    pub last_conversation_at: Option<Timestamp>,
    /// An insert of a lead whose id is known already.
    pub is_moved_row: bool,
}

/// What an event turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Fire {
        /// As this.
        event: EventKind,
        /// With [`EventKind::ReEngaged`]: the last conversation before the silence.
        last_conversation_at: Option<Timestamp>,
    },
    /// It is a repeat within the silence.
    Duplicate,
}

/// The first event with its key: it fires, and this is what the key then knows.
pub fn first(observed: &Observed<'_>) -> (Verdict, Known) {
    let came_back = observed.kind == Kind::CameBack;
    let verdict = Verdict::Fire {
        event: observed.kind.presumed(),
        last_conversation_at: observed.previous_conversation_at.filter(|_| came_back),
    };
    let known = Known {
        tenant_id: observed.tenant_id.to_owned(),
        lead_id: observed.lead_id.to_owned(),
        seen_at: observed.queued_at,
        came_back_at: came_back.then(|| observed.last_conversation_at.unwrap_or(observed.queued_at)),
        event_id: Some(observed.event_id),
        transaction_id: Some(observed.transaction_id),
    };
    (verdict, known)
}

/// A further event with a key that is `known`; `named_conversation_at` is the last conversation of the lead that the
/// key names. Fired or not, it moves the key on.
pub fn repeat(
    observed: &Observed<'_>,
    known: &Known,
    named_conversation_at: Option<Timestamp>,
    silence: Duration,
) -> (Verdict, Known) {
    let came_back = match observed.kind {
        Kind::CameBack => by_update(observed, known, silence),
        Kind::Inserted if is_moved(observed, known) => by_move(observed, known, silence),
        Kind::Inserted | Kind::ContactAdded | Kind::Recovered => {
            by_repeat(observed, known, named_conversation_at, silence)
        }
    };
    let mut next = seen(observed, known);
    let Some(came_back) = came_back else { return (Verdict::Duplicate, next) };
    next.seen_at = known.seen_at.max(observed.queued_at);
    next.came_back_at = Some(came_back.at);
    next.event_id = Some(observed.event_id);
    next.transaction_id = Some(observed.transaction_id);
    let verdict = Verdict::Fire { event: EventKind::ReEngaged, last_conversation_at: came_back.last_conversation_at };
    (verdict, next)
}

/// What a key knows after an event that fires nothing. A row that is only moved is no repeat: whoever rearranges partitions
/// would put every visitor's come-back off.
pub fn seen(observed: &Observed<'_>, known: &Known) -> Known {
    let mut next = known.clone();
    if is_known_row(observed, known) {
        return next;
    }
    let is_newer = observed.queued_at >= known.seen_at && observed.kind != Kind::CameBack;
    if is_newer && !is_moved(observed, known) {
        observed.lead_id.clone_into(&mut next.lead_id);
    }
    next.seen_at = known.seen_at.max(observed.queued_at);
    next
}

/// A come-back: when, and after which conversation.
struct CameBack {
    at: Timestamp,
    last_conversation_at: Option<Timestamp>,
}

/// An insert of a lead that is known already is a row that moved between partitions, not a lead that came again. So is one
/// of a lead that was captured before the key was last seen: an older lead of the same visitor.
fn is_moved(observed: &Observed<'_>, known: &Known) -> bool {
    let is_older = |captured_at: Timestamp| {
        let is_long = |until: Timestamp| until.duration_since(captured_at) > LONGEST_TRANSACTION;
        captured_at <= known.seen_at && (is_long(known.seen_at) || is_long(observed.queued_at))
    };
    is_known_row(observed, known) || observed.kind == Kind::Inserted && observed.captured_at.is_some_and(is_older)
}

fn is_known_row(observed: &Observed<'_>, known: &Known) -> bool {
    observed.kind == Kind::Inserted && (observed.is_moved_row || known.lead_id == observed.lead_id)
}

/// The trigger saw the last conversation move on by the silence. Fires once a come-back, and not beside the event that
/// was fired for the same transaction.
fn by_update(observed: &Observed<'_>, known: &Known, silence: Duration) -> Option<CameBack> {
    let at = observed.last_conversation_at.unwrap_or(observed.queued_at);
    let last_conversation_at = observed.previous_conversation_at;
    (!was_fired(observed, known, at, silence)).then_some(CameBack { at, last_conversation_at })
}

/// A moved row fires only where its last conversation went past the key's time by the silence, and once a come-back as well.
fn by_move(observed: &Observed<'_>, known: &Known, silence: Duration) -> Option<CameBack> {
    let at = observed.last_conversation_at?;
    let came_back = is_silence(known.seen_at, at, silence) && !was_fired(observed, known, at, silence);
    came_back.then_some(CameBack { at, last_conversation_at: Some(known.seen_at) })
}

/// Whether an event was fired for the same transaction, or for the come-back `at` that time.
fn was_fired(observed: &Observed<'_>, known: &Known, at: Timestamp, silence: Duration) -> bool {
    let is_near = |before| !is_silence(before, at, silence) && !is_silence(at, before, silence);
    known.transaction_id == Some(observed.transaction_id) || known.came_back_at.is_some_and(is_near)
}

/// A new row repeats a known visitor and contact: compared with the later of the key's time and the last conversation
/// of the lead that the key names.
fn by_repeat(
    observed: &Observed<'_>,
    known: &Known,
    named_conversation_at: Option<Timestamp>,
    silence: Duration,
) -> Option<CameBack> {
    let before = named_conversation_at.map_or(known.seen_at, |at| at.max(known.seen_at));
    is_silence(before, observed.queued_at, silence)
        .then_some(CameBack { at: observed.queued_at, last_conversation_at: Some(before) })
}

/// Exactly the silence counts as silent.
fn is_silence(before: Timestamp, after: Timestamp, silence: Duration) -> bool {
    SignedDuration::try_from(silence).is_ok_and(|silence| after.duration_since(before) >= silence)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;
    const SILENCE: Duration = Duration::from_secs(30 * DAY);

    fn day(n: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * n)
    }

    fn observed(kind: Kind, at: i64) -> Observed<'static> {
        Observed {
            tenant_id: "t",
            lead_id: "l2",
            event_id: Uuid::from_u128(2),
            kind,
            queued_at: day(at),
            transaction_id: TransactionId(2),
            previous_conversation_at: None,
            captured_at: None,
            last_conversation_at: None,
            is_moved_row: false,
        }
    }

    fn known(seen: i64) -> Known {
        let first_event =
            Observed { lead_id: "l1", transaction_id: TransactionId(1), ..observed(Kind::Inserted, seen) };
        first(&first_event).1
    }

    fn re_engaged(last: i64) -> Verdict {
        Verdict::Fire { event: EventKind::ReEngaged, last_conversation_at: Some(day(last)) }
    }

    #[test]
    fn the_first_insert_is_created() {
        let (verdict, known) = first(&observed(Kind::Inserted, 0));
        assert_eq!(verdict, Verdict::Fire { event: EventKind::Created, last_conversation_at: None });
        assert_eq!(known.came_back_at, None);
    }

    #[test]
    fn a_lead_from_before_the_install_that_comes_back_is_re_engaged() {
        let come_back = Observed { previous_conversation_at: Some(day(-40)), ..observed(Kind::CameBack, 0) };
        assert_eq!(first(&come_back).0, re_engaged(-40));
    }

    #[test]
    fn a_repeat_is_a_duplicate_until_the_silence_is_full() {
        let just_less =
            Observed { queued_at: day(30) - SignedDuration::from_micros(1), ..observed(Kind::Inserted, 30) };
        assert_eq!(repeat(&just_less, &known(0), None, SILENCE).0, Verdict::Duplicate);
        assert_eq!(repeat(&observed(Kind::Inserted, 30), &known(0), None, SILENCE).0, re_engaged(0));
    }

    #[test]
    fn a_repeat_is_compared_with_the_named_leads_last_conversation_too() {
        assert_eq!(repeat(&observed(Kind::Inserted, 40), &known(0), Some(day(20)), SILENCE).0, Verdict::Duplicate);
        assert_eq!(repeat(&observed(Kind::Inserted, 50), &known(0), Some(day(20)), SILENCE).0, re_engaged(20));
        assert_eq!(repeat(&observed(Kind::Inserted, 30), &known(0), Some(day(-5)), SILENCE).0, re_engaged(0));
    }

    #[test]
    fn every_repeat_fired_or_not_moves_the_key_on_and_names_the_newest_lead() {
        let (verdict, next) = repeat(&observed(Kind::Inserted, 10), &known(0), None, SILENCE);
        assert_eq!(verdict, Verdict::Duplicate);
        assert_eq!((next.seen_at, next.lead_id.as_str()), (day(10), "l2"));
        assert_eq!(repeat(&observed(Kind::Inserted, 39), &next, None, SILENCE).0, Verdict::Duplicate);
    }

    #[test]
    fn created_and_re_engaged_in_one_transaction_is_only_created() {
        let come_back = Observed {
            lead_id: "l1",
            transaction_id: TransactionId(1),
            previous_conversation_at: Some(day(-40)),
            last_conversation_at: Some(day(0)),
            ..observed(Kind::CameBack, 0)
        };
        assert_eq!(repeat(&come_back, &known(0), None, SILENCE).0, Verdict::Duplicate);
        let later = Observed { transaction_id: TransactionId(3), ..come_back };
        assert_eq!(repeat(&later, &known(0), None, SILENCE).0, re_engaged(-40));
    }

    #[test]
    fn several_updates_in_one_come_back_fire_once() {
        let come_back = Observed {
            previous_conversation_at: Some(day(0)),
            last_conversation_at: Some(day(40)),
            ..observed(Kind::CameBack, 40)
        };
        let (verdict, next) = repeat(&come_back, &known(0), None, SILENCE);
        assert_eq!(verdict, re_engaged(0));
        let again = Observed { transaction_id: TransactionId(3), last_conversation_at: Some(day(41)), ..come_back };
        let (verdict, next) = repeat(&again, &next, None, SILENCE);
        assert_eq!(verdict, Verdict::Duplicate);
        let next_time = Observed {
            transaction_id: TransactionId(4),
            previous_conversation_at: Some(day(41)),
            last_conversation_at: Some(day(71)),
            ..come_back
        };
        assert_eq!(repeat(&next_time, &next, None, SILENCE).0, re_engaged(41));
    }

    #[test]
    fn a_new_row_and_an_update_in_one_come_back_fire_once_in_either_order() {
        let update = Observed {
            lead_id: "l1",
            previous_conversation_at: Some(day(0)),
            last_conversation_at: Some(day(40)),
            ..observed(Kind::CameBack, 40)
        };
        let insert = observed(Kind::Inserted, 40);
        let (verdict, next) = repeat(&update, &known(0), None, SILENCE);
        assert_eq!(verdict, re_engaged(0));
        assert_eq!(repeat(&insert, &next, Some(day(40)), SILENCE).0, Verdict::Duplicate);

        // The insert is decided when the update is committed already: it is the duplicate, the update fires.
        let (verdict, next) = repeat(&insert, &known(0), Some(day(40)), SILENCE);
        assert_eq!(verdict, Verdict::Duplicate);
        assert_eq!(repeat(&update, &next, None, SILENCE).0, re_engaged(0));

        // The insert is decided before the update: it fires, the update is the duplicate.
        let (verdict, next) = repeat(&insert, &known(0), Some(day(0)), SILENCE);
        assert_eq!(verdict, re_engaged(0));
        let update = Observed { transaction_id: TransactionId(3), ..update };
        assert_eq!(repeat(&update, &next, None, SILENCE).0, Verdict::Duplicate);
    }

    #[test]
    fn a_row_that_moved_between_partitions_fires_nothing_new() {
        let moved = Observed { is_moved_row: true, ..observed(Kind::Inserted, 90) };
        assert_eq!(repeat(&moved, &known(0), None, SILENCE).0, Verdict::Duplicate);
        assert_eq!(repeat(&moved, &known(0), None, SILENCE).1, known(0), "nor does it put a come-back off");
        let talked = Observed { last_conversation_at: Some(day(29)), ..moved };
        assert_eq!(repeat(&talked, &known(0), None, SILENCE).0, Verdict::Duplicate);
        let came_back = Observed { last_conversation_at: Some(day(30)), ..moved };
        let (verdict, next) = repeat(&came_back, &known(0), None, SILENCE);
        assert_eq!(verdict, re_engaged(0));
        assert_eq!(next.lead_id, "l1", "an older lead does not become the newest by moving");
        let ahead = Observed { last_conversation_at: Some(day(130)), ..moved };
        let (verdict, next) = repeat(&ahead, &known(0), None, SILENCE);
        assert_eq!(verdict, re_engaged(0));
        let again = Observed { transaction_id: TransactionId(3), ..ahead };
        assert_eq!(repeat(&again, &next, None, SILENCE).0, Verdict::Duplicate, "it moves again");
    }

    #[test]
    fn an_older_lead_of_the_visitors_that_moves_is_told_by_its_captured_time() {
        let minutes = |n: i64| SignedDuration::from_mins(n);
        let captured =
            |at: Timestamp, queued: i64| Observed { captured_at: Some(at), ..observed(Kind::Inserted, queued) };
        for before in [0, 10, 50, 600] {
            let moved = captured(day(0) - minutes(before), 40);
            assert_eq!(
                repeat(&moved, &known(0), None, SILENCE).0,
                Verdict::Duplicate,
                "{before} min before the newest"
            );
        }
        assert_eq!(repeat(&captured(day(40), 40), &known(0), None, SILENCE).0, re_engaged(0));
        let in_a_transaction = captured(day(40) - minutes(50), 40);
        assert_eq!(repeat(&in_a_transaction, &known(0), None, SILENCE).0, re_engaged(0), "the lead is new");
    }
}
