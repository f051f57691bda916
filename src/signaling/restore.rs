//! Restores calls after a restart of the server: media between two browsers survives it. Both sides claim their call when
//! they reconnect; the second claim restores it under its old id. Start at [`Core::claim`].

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::call::{Reason, State};
use super::message::{Claim, event};
use super::{Call, Core, DeviceKey, Output};
use crate::accounts::calls::CallRecord;
use crate::accounts::permissions::Action;

/// How long after its start the server restores calls of the one before it.
pub const RESTORE: Duration = Duration::from_secs(60);
/// Claims that wait for the other side's: in all, and of one device, which is in one call and has others on hold.
const MAX_WAITING: usize = 10_000;
const MAX_OF_DEVICE: usize = 4;

/// A call, its caller and its callee. Ids can be guessed: somebody else's claim of the same id is another entry, and does
/// not keep the two whose call it is from restoring it.
pub(super) type Claimed = (u64, String, String);

/// A claim that waits for the other side's.
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
        let claimed = (id, caller.clone(), callee.clone());
        match self.restoring.get(&claimed) {
            Some(other) if other.device.user == peer => {
                self.restore(now, device, claim, &claimed);
                Ok(json!({ "call": id, "state": "active" }))
            }
            Some(other) if other.device == *device => Ok(json!({ "call": id, "state": "waiting" })),
            // Another device of the same user.
            Some(_) => Err("call_gone"),
            None => {
                let own = self.restoring.values().filter(|waiting| waiting.device == *device).count();
                if own >= MAX_OF_DEVICE || self.restoring.len() >= MAX_WAITING {
                    return Err("call_gone");
                }
                let claim = Claim { peer, ..*claim };
                self.restoring.insert(claimed, Waiting { device: device.clone(), claim });
                Ok(json!({ "call": id, "state": "waiting" }))
            }
        }
    }

    fn restore(&mut self, now: Instant, device: &DeviceKey, claim: &Claim, claimed: &Claimed) {
        let Some(other) = self.restoring.remove(claimed) else { return };
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
        for ((id, caller, callee), Waiting { device, claim }) in std::mem::take(&mut self.restoring) {
            let body = json!({ "call": id, "reason": Reason::Lost.as_str(), "message": "", "missed": false });
            self.push(now, &device, event("call.ended", &body));
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

    /// A device hangs up before the other side has claimed the call. `false` if it has no such claim.
    pub(super) fn withdraw_claim(&mut self, device: &DeviceKey, call: u64) -> bool {
        let before = self.restoring.len();
        self.restoring.retain(|(id, ..), waiting| *id != call || waiting.device != *device);
        self.restoring.len() < before
    }

    /// The session of a device has ended.
    pub(super) fn drop_claims(&mut self, device: &DeviceKey) {
        self.restoring.retain(|_, waiting| waiting.device != *device);
    }

    pub(super) fn claims_deadline(&self) -> Option<Instant> {
        if self.restoring.is_empty() { None } else { self.restore_until() }
    }
}
