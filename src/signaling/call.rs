//! The state machine of one call between two people: it decides the outcome of every event in every state; the table
//! in the tests is the specification. It sends nothing and knows nothing about connections.

use std::time::{Duration, Instant};

/// How long a call rings.
pub const RING: Duration = Duration::from_secs(30);
/// Maximum time from acceptance to connected media.
pub const CONNECT: Duration = Duration::from_secs(30);

/// The state of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The callee's devices ring.
    Ringing,
    /// Accepted; media is not connected yet.
    Connecting,
    /// Media is connected.
    Active,
}

/// Which side an event comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The calling device.
    Caller,
    /// A ringing device, or the one that accepted.
    Callee,
}

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The callee accepts it.
    Accept,
    /// The callee rejects it.
    Reject,
    /// Either side ends it.
    HangUp,
    /// Either side reports that media could not be connected.
    Fail,
    /// Either side reports that media is connected.
    Connected,
    /// Either side sends signaling data (SDP, candidates) to the other's browser.
    Signal,
    /// Either side holds or resumes it.
    Hold,
    /// The state's deadline has passed.
    Deadline,
    /// A device's session has ended.
    Lost,
}

/// Why a call has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Either side ended it.
    HangUp,
    /// The caller hung up before it was accepted.
    Cancelled,
    /// The callee rejected it.
    Rejected,
    /// Nobody accepted in time.
    NoAnswer,
    /// Media could not be connected.
    Failed,
    /// A device's session has ended.
    Lost,
    /// The permission was revoked, or one of the two was logged out.
    Withdrawn,
}

impl Reason {
    /// Stable, for clients and the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HangUp => "hangup",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::NoAnswer => "no_answer",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether the callee missed it.
    pub fn is_missed(self) -> bool {
        matches!(self, Self::Cancelled | Self::NoAnswer)
    }
}

/// The outcome of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The call enters another state.
    Become(State),
    /// The state stays the same; the other side is notified.
    Tell,
    /// No effect: a duplicate, or irrelevant in this state.
    Ignore,
    /// The call ends.
    End(Reason),
    /// The event is not allowed; the code says why.
    Refuse(&'static str),
}

/// Decides what an event means in a state.
pub fn decide(state: State, side: Side, event: Event) -> Verdict {
    use {Event as E, Side as S, State as T, Verdict as V};
    match (state, event, side) {
        (T::Ringing, E::Accept, S::Callee) => V::Become(T::Connecting),
        (T::Ringing, E::Reject, S::Callee) => V::End(Reason::Rejected),
        (T::Ringing, E::HangUp | E::Fail, S::Caller) => V::End(Reason::Cancelled),
        (T::Ringing, E::HangUp | E::Fail, S::Callee) => V::End(Reason::Rejected),
        (T::Ringing, E::Lost, S::Caller) => V::End(Reason::Cancelled),
        // Other devices of the callee may still be ringing.
        (T::Ringing, E::Lost, S::Callee) => V::Ignore,
        (T::Ringing, E::Deadline, _) => V::End(Reason::NoAnswer),
        (T::Ringing, E::Connected | E::Signal | E::Hold, _) => V::Refuse("call_not_accepted"),
        (_, E::Accept | E::Reject, S::Caller) => V::Refuse("call_is_yours"),
        (T::Connecting | T::Active, E::Accept, S::Callee) => V::Ignore,
        (T::Connecting | T::Active, E::Reject | E::HangUp, _) => V::End(Reason::HangUp),
        (T::Connecting | T::Active, E::Fail, _) => V::End(Reason::Failed),
        (T::Connecting, E::Connected, _) => V::Become(T::Active),
        (T::Active, E::Connected, _) => V::Ignore,
        (T::Connecting | T::Active, E::Signal | E::Hold, _) => V::Tell,
        (T::Connecting, E::Deadline, _) => V::End(Reason::Failed),
        (T::Active, E::Deadline, _) => V::Ignore,
        (T::Connecting | T::Active, E::Lost, _) => V::End(Reason::Lost),
    }
}

/// The deadline of a state, if it has one.
pub fn deadline(state: State, since: Instant) -> Option<Instant> {
    match state {
        State::Ringing => Some(since + RING),
        State::Connecting => Some(since + CONNECT),
        State::Active => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state, side and event.
    const TABLE: &str = "
                       Ringing                 Connecting        Active
Caller Accept          refuse call_is_yours    refuse call_is_yours refuse call_is_yours
Caller Reject          refuse call_is_yours    refuse call_is_yours refuse call_is_yours
Caller HangUp          end cancelled           end hangup        end hangup
Caller Fail            end cancelled           end failed        end failed
Caller Connected       refuse call_not_accepted become Active    ignore
Caller Signal          refuse call_not_accepted tell             tell
Caller Hold            refuse call_not_accepted tell             tell
Caller Deadline        end no_answer           end failed        ignore
Caller Lost            end cancelled           end lost          end lost
Callee Accept          become Connecting       ignore            ignore
Callee Reject          end rejected            end hangup        end hangup
Callee HangUp          end rejected            end hangup        end hangup
Callee Fail            end rejected            end failed        end failed
Callee Connected       refuse call_not_accepted become Active    ignore
Callee Signal          refuse call_not_accepted tell             tell
Callee Hold            refuse call_not_accepted tell             tell
Callee Deadline        end no_answer           end failed        ignore
Callee Lost            ignore                  end lost          end lost
";

    fn words(verdict: Verdict) -> String {
        match verdict {
            Verdict::Become(state) => format!("become {state:?}"),
            Verdict::Tell => "tell".into(),
            Verdict::Ignore => "ignore".into(),
            Verdict::End(reason) => format!("end {}", reason.as_str()),
            Verdict::Refuse(code) => format!("refuse {code}"),
        }
    }

    #[test]
    fn every_event_in_every_state() {
        let events = [
            Event::Accept,
            Event::Reject,
            Event::HangUp,
            Event::Fail,
            Event::Connected,
            Event::Signal,
            Event::Hold,
            Event::Deadline,
            Event::Lost,
        ];
        let mut found = String::from("\n");
        let mut expected = String::from("\n");
        for line in TABLE.trim().lines().skip(1) {
            expected += &line.split_whitespace().collect::<Vec<_>>().join(" ");
            expected.push('\n');
        }
        for side in [Side::Caller, Side::Callee] {
            for event in events {
                let states = [State::Ringing, State::Connecting, State::Active];
                let row = states.map(|state| words(decide(state, side, event))).join(" ");
                found += &format!("{side:?} {event:?} {row}\n");
            }
        }
        assert_eq!(found, expected);
    }
}
