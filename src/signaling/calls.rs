//! The core's handling of calls: which devices ring, who is notified of what. The state machine itself is in `call`.

use std::time::Instant;

use serde_json::{Value, json};

use super::call::{Event, Reason, Side, State, Verdict, deadline, decide};
use super::grants::{Direction, Grant};
use super::message::{Refused, event};
use super::{Call, Core, DeviceKey, Output, is_connected};
use crate::accounts::calls::CallRecord;
use crate::accounts::permissions::Action;
use crate::names::StreamName;

impl Core {
    /// Whether a user is in an accepted call, held or not, or is calling somebody.
    pub(super) fn is_in_call(&self, user: &str) -> bool {
        self.calls
            .values()
            .any(|call| call.caller.user == user || (call.state != State::Ringing && call.callee == user))
    }

    /// A call the device is in (accepted and not held by it) or is making.
    fn busy_with(&self, device: &DeviceKey) -> Option<u64> {
        let takes_part = |call: &Call| {
            call.caller == *device || (call.state != State::Ringing && call.callee_devices.contains(device))
        };
        let found =
            self.calls.iter().find(|(_, call)| takes_part(call) && !call.held_by.contains(&device.user));
        found.map(|(id, _)| *id)
    }

    pub(super) fn invite(
        &mut self,
        now: Instant,
        device: &DeviceKey,
        to: &str,
        video: bool,
    ) -> Result<Value, Refused> {
        let callee = to.to_lowercase();
        // A user the caller may not see gets the same answer as one that does not exist.
        if callee == device.user || !self.may_see(&device.user, &callee) {
            return Err("no_such_user".into());
        }
        if !self.may_to(&device.user, |other| Action::Call(&other.person), &callee) {
            return Err("call_forbidden".into());
        }
        let too_many = |wait| Refused { code: "too_many_invitations", wait: Some(wait) };
        self.limits.invite(now, &device.user, &callee).map_err(too_many)?;
        // Glare: they are calling us at this moment.
        let opposite = |call: &Call| {
            call.state == State::Ringing && call.caller.user == callee && call.callee_devices.contains(device)
        };
        if let Some((&id, _)) = self.calls.iter().find(|(_, call)| opposite(call)) {
            self.accept(now, device, id, false)?;
            return Ok(json!({ "call": id, "merged": true }));
        }
        if self.busy_with(device).is_some() {
            return Err("already_in_call".into());
        }
        if !self.is_online(&callee) {
            self.note_missed(now, device, &callee, video);
            return Err("callee_offline".into());
        }
        if self.dnd.contains(&callee) {
            self.note_missed(now, device, &callee, video);
            return Err("callee_dnd".into());
        }
        // One call may wait during another; further ones are busy.
        if self.calls.values().any(|call| call.state == State::Ringing && call.callee == callee) {
            self.note_missed(now, device, &callee, video);
            return Err("callee_busy".into());
        }
        let waiting = self.is_in_call(&callee);
        self.next_call += 1;
        let id = self.next_call;
        let callee_devices: Vec<DeviceKey> = self.devices_of(&callee).cloned().collect();
        let answers_itself = if waiting { None } else { self.answers_itself(&device.user, &callee) };
        let call = Call {
            caller: device.clone(),
            callee,
            callee_devices: callee_devices.clone(),
            video,
            state: State::Ringing,
            since: now,
            accepted_at: None,
            held_by: Vec::new(),
        };
        self.calls.insert(id, call);
        for ringing in &callee_devices {
            let incoming = json!({ "call": id, "from": device.user, "display": self.display(&device.user),
                "video": video, "waiting": waiting, "auto": answers_itself.as_ref() == Some(ringing) });
            self.push(now, ringing, event("call.incoming", &incoming));
        }
        self.tell_presence(now, &device.user);
        Ok(json!({ "call": id, "waiting": waiting }))
    }

    pub(super) fn display(&self, user: &str) -> String {
        self.directory.members.get(user).map(|member| member.display.clone()).unwrap_or_default()
    }

    /// The device that accepts a call automatically, if the callee has set that up: the one used last.
    fn answers_itself(&self, caller: &str, callee: &str) -> Option<DeviceKey> {
        let members = &self.directory.members;
        let (caller, member) = (members.get(caller)?, members.get(callee)?);
        if !member.preferences.accepts(&caller.person) {
            return None;
        }
        let connected = |key: &&DeviceKey| is_connected(&self.sessions, key);
        let used_at = |key: &&DeviceKey| self.sessions.get(*key).map(|session| session.used_at);
        self.devices_of(callee).filter(connected).max_by_key(used_at).cloned()
    }

    /// During a call each side may publish its own streams and watch the other's, for media that is relayed by the
    /// server.
    pub(super) fn call_grants(&self, grants: &mut Vec<Grant>) {
        for (id, call) in self.calls.iter().filter(|(_, call)| call.state != State::Ringing) {
            for (user, other) in [(&call.caller.user, &call.callee), (&call.callee, &call.caller.user)] {
                let grant = |stream, direction| Grant { user: user.clone(), stream, direction };
                for name in [StreamName::call, StreamName::screen] {
                    grants.push(grant(name(*id, user), Direction::Publish));
                    grants.push(grant(name(*id, other), Direction::Watch));
                }
            }
        }
    }

    /// Records an invitation that was refused right away as a missed call.
    fn note_missed(&mut self, now: Instant, device: &DeviceKey, callee: &str, video: bool) {
        if !self.limits.is_new_missed(now, &device.user, callee) {
            return;
        }
        self.next_call += 1;
        let missed = json!({ "call": self.next_call, "from": device.user, "display": self.display(&device.user), "video": video });
        self.push_all(now, callee, &event("call.missed", &missed));
        self.outputs.push(Output::Ended(CallRecord {
            call: self.next_call,
            caller: device.user.clone(),
            callee: callee.to_owned(),
            video,
            talked: None,
            reason: Reason::NoAnswer.as_str(),
            message: String::new(),
        }));
    }

    /// Which side of a call a device is on.
    fn side(&self, device: &DeviceKey, id: u64) -> Option<Side> {
        let call = self.calls.get(&id)?;
        match device {
            device if call.caller == *device => Some(Side::Caller),
            device if call.callee_devices.contains(device) => Some(Side::Callee),
            _ => None,
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Instant,
        device: &DeviceKey,
        id: u64,
        hold: bool,
    ) -> Result<Value, &'static str> {
        let side = self.side(device, id).ok_or("call_gone")?;
        let state = self.calls.get(&id).map(|call| call.state).ok_or("call_gone")?;
        match decide(state, side, Event::Accept) {
            Verdict::Become(next) => {
                if let Some(other) = self.busy_with(device) {
                    if !hold {
                        return Err("already_in_call");
                    }
                    self.on_call(now, device, other, Event::Hold, &json!(true))?;
                }
                self.accepted(now, device, id, next);
                Ok(json!({ "call": id }))
            }
            Verdict::Refuse(code) => Err(code),
            _ => Ok(json!({ "call": id })),
        }
    }

    fn accepted(&mut self, now: Instant, device: &DeviceKey, id: u64, state: State) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        self.grants_changed = true;
        (call.state, call.since, call.accepted_at) = (state, now, Some(now));
        let others: Vec<DeviceKey> = std::mem::replace(&mut call.callee_devices, vec![device.clone()])
            .into_iter()
            .filter(|other| other != device)
            .collect();
        let (caller, callee, video) = (call.caller.clone(), call.callee.clone(), call.video);
        for other in others {
            let body = json!({ "call": id, "reason": "answered_elsewhere" });
            self.push(now, &other, event("call.ended", &body));
        }
        // The caller sends the offer; `polite` decides who backs down if both offer at once.
        let of = |core: &Self, peer: &str, polite: bool| json!({ "call": id, "peer": peer, "display": core.display(peer), "video": video, "polite": polite });
        let to_caller = of(self, &callee, false);
        let to_callee = of(self, &caller.user, true);
        self.push(now, &caller, event("call.accepted", &to_caller));
        self.push(now, device, event("call.accepted", &to_callee));
        self.tell_presence(now, &callee);
    }

    /// Applies an event to a call.
    pub(super) fn on_call(
        &mut self,
        now: Instant,
        device: &DeviceKey,
        id: u64,
        what: Event,
        detail: &Value,
    ) -> Result<Value, &'static str> {
        // Devices outside the call learn nothing, not even that it exists.
        let side = self.side(device, id).ok_or("call_gone")?;
        let state = self.calls.get(&id).map(|call| call.state).ok_or("call_gone")?;
        // A call can only be resumed if the device is not in another one.
        let takes_up = what == Event::Hold && *detail == json!(false);
        if takes_up && self.busy_with(device).is_some_and(|other| other != id) {
            return Err("already_in_call");
        }
        match decide(state, side, what) {
            Verdict::Become(next) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    (call.state, call.since) = (next, now);
                }
                self.tell_other(now, device, id, "call.connected", &json!({ "call": id }));
            }
            Verdict::Tell => self.tell(now, device, id, what, detail),
            Verdict::End(reason) => {
                let message = detail.as_str().unwrap_or_default().to_owned();
                self.end(now, id, reason, message);
            }
            Verdict::Refuse(code) => return Err(code),
            Verdict::Ignore => {}
        }
        Ok(json!({}))
    }

    fn tell(&mut self, now: Instant, device: &DeviceKey, id: u64, what: Event, detail: &Value) {
        if what == Event::Signal {
            return self.tell_other(
                now,
                device,
                id,
                "call.signal",
                &json!({ "call": id, "payload": detail }),
            );
        }
        let held = detail.as_bool().unwrap_or_default();
        if let Some(call) = self.calls.get_mut(&id) {
            call.held_by.retain(|user| *user != device.user);
            if held {
                call.held_by.push(device.user.clone());
            }
        }
        self.tell_other(now, device, id, "call.held", &json!({ "call": id, "held": held }));
    }

    fn tell_other(&mut self, now: Instant, device: &DeviceKey, id: u64, kind: &str, body: &Value) {
        let Some(call) = self.calls.get(&id) else { return };
        let other = if call.caller == *device {
            call.callee_devices.first().cloned()
        } else {
            Some(call.caller.clone())
        };
        if let Some(other) = other {
            self.push(now, &other, event(kind, body));
        }
    }

    fn end(&mut self, now: Instant, id: u64, reason: Reason, message: String) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.grants_changed = true;
        let body = json!({ "call": id, "reason": reason.as_str(), "message": message, "missed": reason.is_missed() });
        for device in std::iter::once(&call.caller).chain(&call.callee_devices) {
            self.push(now, device, event("call.ended", &body));
        }
        let repeated = reason.is_missed() && !self.limits.is_new_missed(now, &call.caller.user, &call.callee);
        self.tell_presence(now, &call.caller.user);
        if call.accepted_at.is_some() {
            self.tell_presence(now, &call.callee);
        }
        if repeated {
            return;
        }
        self.outputs.push(Output::Ended(CallRecord {
            call: id,
            caller: call.caller.user.clone(),
            callee: call.callee.clone(),
            video: call.video,
            talked: call.accepted_at.map(|at| now.saturating_duration_since(at)),
            reason: reason.as_str(),
            message,
        }));
    }

    /// Ends calls whose deadline has passed.
    pub(super) fn expire_calls(&mut self, now: Instant) {
        let due = |call: &Call| deadline(call.state, call.since).is_some_and(|at| now >= at);
        let late: Vec<(u64, State)> =
            self.calls.iter().filter(|(_, call)| due(call)).map(|(id, call)| (*id, call.state)).collect();
        for (id, state) in late {
            if let Verdict::End(reason) = decide(state, Side::Caller, Event::Deadline) {
                self.end(now, id, reason, String::new());
            }
        }
    }

    /// A device's session has ended: ends its calls.
    pub(super) fn device_gone(&mut self, now: Instant, device: &DeviceKey, why: Reason) {
        let concerned: Vec<u64> =
            self.calls.keys().copied().filter(|id| self.side(device, *id).is_some()).collect();
        for id in concerned {
            let (Some(side), Some(call)) = (self.side(device, id), self.calls.get_mut(&id)) else { continue };
            match decide(call.state, side, Event::Lost) {
                Verdict::End(Reason::Lost) => self.end(now, id, why, String::new()),
                Verdict::End(reason) => self.end(now, id, reason, String::new()),
                _ => {
                    call.callee_devices.retain(|other| other != device);
                    if call.callee_devices.is_empty() {
                        self.end(now, id, Reason::NoAnswer, String::new());
                    }
                }
            }
        }
    }

    /// Ends calls that are no longer allowed.
    pub(super) fn withdraw_calls(&mut self, now: Instant) {
        let allowed =
            |call: &Call| self.may_to(&call.caller.user, |other| Action::Call(&other.person), &call.callee);
        let gone: Vec<u64> =
            self.calls.iter().filter(|(_, call)| !allowed(call)).map(|(id, _)| *id).collect();
        for id in gone {
            self.end(now, id, Reason::Withdrawn, String::new());
        }
    }

    /// The calls of a device, for a page that reconnects without knowing them.
    pub(super) fn calls_of(&self, device: &DeviceKey) -> Vec<Value> {
        let mut calls = Vec::new();
        for (id, call) in &self.calls {
            let Some(side) = self.side(device, *id) else { continue };
            let peer = if side == Side::Caller { &call.callee } else { &call.caller.user };
            let state = match call.state {
                State::Ringing => "ringing",
                State::Connecting => "connecting",
                State::Active => "active",
            };
            calls.push(json!({ "call": id, "peer": peer, "display": self.display(peer), "video": call.video,
                "state": state, "outgoing": side == Side::Caller, "polite": side == Side::Callee,
                "held": call.held_by.contains(&device.user) }));
        }
        calls
    }
}
