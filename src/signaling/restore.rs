//! Calls that outlive a restart of the server: media between two browsers does not need it. Both sides say which call
//! they are in when they come back; once the second one has said it, the call goes on under its number.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::call::{Reason, State};
use super::message::{Claim, event};
use super::{Call, Core, DeviceKey, Output};
use crate::accounts::calls::CallRecord;
use crate::accounts::permissions::Action;

/// How long after its start the server takes up calls of the one before it.
pub const RESTORE: Duration = Duration::from_secs(60);
/// Calls that wait for their other side.
const MAX_WAITING: usize = 10_000;

/// A side of a call that has come back, and waits for the other.
#[derive(Debug)]
pub(super) struct Waiting {
    device: DeviceKey,
    claim: Claim,
}

impl Core {
    /// When calls of the server before this one are no longer taken up.
    fn restore_until(&self) -> Option<Instant> {
        self.started.map(|started| started + RESTORE)
    }

    /// A device says that it is in a call.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        device: &DeviceKey,
        claim: &Claim,
    ) -> Result<Value, &'static str> {
        let id = claim.call;
        if self.calls.get(&id).is_some_and(|call| call.has(device)) {
            return Ok(json!({ "call": id, "state": "active" }));
        }
        let peer = claim.peer.to_lowercase();
        let (caller, callee) = if claim.outgoing { (&device.user, &peer) } else { (&peer, &device.user) };
        let in_time = self.restore_until().is_some_and(|until| now < until);
        // Numbers from here on are this server's own: it knows all of its calls.
        let ours = id > self.first_call || self.calls.contains_key(&id);
        if ours || !in_time || !self.may_to(caller, |other| Action::Call(&other.person), callee) {
            return Err("call_gone");
        }
        let Some(other) = self.restoring.get(&id) else {
            if self.restoring.len() >= MAX_WAITING {
                return Err("call_gone");
            }
            self.restoring.insert(id, Waiting { device: device.clone(), claim: Claim { peer, ..*claim } });
            return Ok(json!({ "call": id, "state": "waiting" }));
        };
        if other.device == *device {
            return Ok(json!({ "call": id, "state": "waiting" }));
        }
        let fits = other.device.user == peer
            && other.claim.peer == device.user
            && other.claim.outgoing != claim.outgoing;
        if !fits {
            return Err("call_gone");
        }
        self.restored(now, device, claim);
        Ok(json!({ "call": id, "state": "active" }))
    }

    fn restored(&mut self, now: Instant, device: &DeviceKey, claim: &Claim) {
        let Some(other) = self.restoring.remove(&claim.call) else { return };
        let (caller, callee) =
            if claim.outgoing { (device.clone(), other.device) } else { (other.device, device.clone()) };
        let talked = Duration::from_secs(claim.talked.max(other.claim.talked));
        let call = Call {
            caller: caller.clone(),
            callee: callee.user.clone(),
            callee_devices: vec![callee.clone()],
            video: claim.video,
            state: State::Active,
            since: now,
            accepted_at: Some(now.checked_sub(talked).unwrap_or(now)),
            held_by: Vec::new(),
        };
        self.calls.insert(claim.call, call);
        self.grants_changed = true;
        for side in [&caller, &callee] {
            self.push(now, side, event("call.restored", &json!({ "call": claim.call })));
            self.tell_presence(now, &side.user);
        }
    }

    /// Sides that have waited in vain.
    pub(super) fn expire_claims(&mut self, now: Instant) {
        if self.restoring.is_empty() || self.restore_until().is_some_and(|until| now < until) {
            return;
        }
        for (id, Waiting { device, claim }) in std::mem::take(&mut self.restoring) {
            let body = json!({ "call": id, "reason": Reason::Lost.as_str(), "message": "", "missed": false });
            self.push(now, &device, event("call.ended", &body));
            let (caller, callee) =
                if claim.outgoing { (device.user, claim.peer) } else { (claim.peer, device.user) };
            self.outputs.push(Output::Ended(CallRecord {
                call: id,
                caller,
                callee,
                video: claim.video,
                talked: Some(Duration::from_secs(claim.talked)),
                reason: Reason::Lost.as_str(),
                message: String::new(),
            }));
        }
    }

    /// A device is gone for good, or has hung up.
    pub(super) fn drop_claims(&mut self, device: &DeviceKey) {
        self.restoring.retain(|_, waiting| waiting.device != *device);
    }

    pub(super) fn claims_deadline(&self) -> Option<Instant> {
        if self.restoring.is_empty() { None } else { self.restore_until() }
    }
}
