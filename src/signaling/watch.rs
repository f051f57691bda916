//! Watching somebody's camera: asking for consent, and keeping track of who currently watches whom. The media itself
//! uses WHIP and WHEP; permissions are issued as [`Grant`]s and revoked by removing them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::grants::{Direction, Grant};
use super::message::{Refused, event};
use super::{Core, DeviceKey, is_connected};
use crate::accounts::permissions::Action;
use crate::accounts::preferences::Consent;
use crate::names::StreamName;

/// How long a request for consent waits for an answer.
pub const ASK: Duration = Duration::from_secs(30);
/// A watcher whose page is gone has this long to come back.
pub const LINGER: Duration = Duration::from_secs(5);
/// Maximum watchers of one person at a time, including those still asking.
const MAX_WATCHERS: usize = 100;
/// Maximum number of people who may be asking the same person at a time.
const MAX_ASKING: usize = 4;

/// The state of one person's camera.
#[derive(Debug, Default)]
pub(super) struct Camera {
    /// The device that publishes it.
    device: Option<DeviceKey>,
    /// Devices that failed to publish it.
    failed: Vec<DeviceKey>,
    watches: Vec<Watch>,
}

#[derive(Debug)]
struct Watch {
    watcher: DeviceKey,
    granted: bool,
    /// Granted without asking because the watcher is on the person's list; ends when they are removed from it.
    by_list: bool,
    since: Instant,
    /// Since when the watcher's page is gone, or replaced by a new page that has not requested this watch.
    idle_since: Option<Instant>,
    /// The device's current page has requested it, not only a previous page.
    claimed: bool,
    /// Number of active WHEP sessions of this watcher's user.
    pictures: usize,
}

impl Watch {
    fn deadline(&self) -> Option<Instant> {
        if self.granted { self.idle_since.map(|at| at + LINGER) } else { Some(self.since + ASK) }
    }

    /// Updates `idle_since` after the watcher's device or a session has come or gone.
    fn look(&mut self, now: Instant, connected: bool) {
        let there = self.claimed && (connected || self.pictures > 0);
        self.idle_since = if there { None } else { self.idle_since.or(Some(now)) };
    }
}

impl Camera {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watches.iter().filter_map(Watch::deadline).min()
    }

    fn granted(&self) -> impl Iterator<Item = &Watch> {
        self.watches.iter().filter(|watch| watch.granted)
    }
}

impl Core {
    pub(super) fn start_watching(
        &mut self,
        now: Instant,
        watcher: &DeviceKey,
        to: &str,
    ) -> Result<Value, Refused> {
        let user = to.to_lowercase();
        if user == watcher.user || !self.may_see(&watcher.user, &user) {
            return Err("no_such_user".into());
        }
        if !self.may_watch(&watcher.user, &user) {
            return Err("watch_forbidden".into());
        }
        if !self.is_online(&user) {
            return Err("callee_offline".into());
        }
        if let Some(camera) = self.cameras.get_mut(&user) {
            if let Some(watch) = camera.watches.iter_mut().find(|watch| watch.watcher == *watcher) {
                (watch.idle_since, watch.claimed) = (None, true);
                let state = if watch.granted { "granted" } else { "asking" };
                return Ok(json!({ "stream": StreamName::user_camera(&user), "state": state }));
            }
            if camera.watches.len() >= MAX_WATCHERS {
                return Err("too_many_watchers".into());
            }
        }
        let by_list = self.is_listed(&watcher.user, &user);
        if !by_list {
            self.may_ask(&user)?;
            let refused = |wait| Refused { code: "watch_refused_lately", wait: Some(wait) };
            self.limits.ask(now, &watcher.user, &user).map_err(refused)?;
        }
        let watch = Watch {
            watcher: watcher.clone(),
            granted: by_list,
            by_list,
            since: now,
            idle_since: None,
            claimed: true,
            pictures: 0,
        };
        self.cameras.entry(user.clone()).or_default().watches.push(watch);
        if by_list {
            self.changed_watchers(now, &user);
            let camera = self.cameras.get(&user);
            let goes_on =
                camera.is_some_and(|camera| camera.watches.iter().any(|watch| watch.watcher == *watcher));
            if !goes_on {
                return Err("camera_failed".into());
            }
            return Ok(json!({ "stream": StreamName::user_camera(&user), "state": "granted" }));
        }
        let asked = json!({ "watcher": watcher.user, "display": self.display(&watcher.user), "seconds": ASK.as_secs() });
        self.push_all(now, &user, &event("watch.asked", &asked));
        Ok(json!({ "stream": StreamName::user_camera(&user), "state": "asking" }))
    }

    fn may_watch(&self, watcher: &str, user: &str) -> bool {
        self.may_to(watcher, |other| Action::WatchPerson(&other.person), user)
    }

    fn is_listed(&self, watcher: &str, user: &str) -> bool {
        let members = &self.directory.members;
        let (Some(watcher), Some(member)) = (members.get(watcher), members.get(user)) else { return false };
        member.preferences.lets_watch(&watcher.person)
    }

    fn may_ask(&self, user: &str) -> Result<(), &'static str> {
        let others = self.directory.members.get(user).map(|member| member.preferences.watched.others);
        if others == Some(Consent::Never) {
            return Err("watch_never");
        }
        if self.dnd.contains(user) {
            return Err("callee_dnd");
        }
        let asking = self.cameras.get(user).map_or(0, |camera| {
            let asking = camera.watches.iter().filter(|watch| !watch.granted);
            asking.map(|watch| &watch.watcher.user).collect::<std::collections::BTreeSet<_>>().len()
        });
        if asking >= MAX_ASKING { Err("callee_busy") } else { Ok(()) }
    }

    /// The watcher stops watching.
    pub(super) fn stop_watching(&mut self, now: Instant, watcher: &DeviceKey, to: &str) {
        let user = to.to_lowercase();
        self.end_watches(now, &user, None, |watch| watch.watcher == *watcher);
    }

    /// The person answers a request to watch.
    pub(super) fn answer_watcher(
        &mut self,
        now: Instant,
        device: &DeviceKey,
        watcher: &str,
        allow: bool,
    ) -> Result<Value, &'static str> {
        let watcher = watcher.to_lowercase();
        let user = device.user.clone();
        let camera = self.cameras.get_mut(&user).ok_or("watch_gone")?;
        let asked = |watch: &Watch| !watch.granted && watch.watcher.user == watcher;
        if !camera.watches.iter().any(asked) {
            return Err("watch_gone");
        }
        if !allow {
            self.limits.refused(now, &watcher, &user);
            self.end_watches(now, &user, Some("refused"), asked);
            return Ok(json!({}));
        }
        self.limits.allowed(&watcher, &user);
        // The one that answers publishes, unless another is at it already.
        let sessions = &self.sessions;
        let at_it = |key: &DeviceKey| is_connected(sessions, key);
        if !camera.device.as_ref().is_some_and(at_it) {
            camera.device = Some(device.clone());
        }
        let mut told = Vec::new();
        for watch in camera.watches.iter_mut().filter(|watch| asked(watch)) {
            (watch.granted, watch.since) = (true, now);
            told.push(watch.watcher.clone());
        }
        let granted = json!({ "to": user, "stream": StreamName::user_camera(&user) });
        for watcher in told {
            self.push(now, &watcher, event("watch.granted", &granted));
        }
        self.close_question(now, &user, &watcher);
        self.changed_watchers(now, &user);
        Ok(json!({}))
    }

    /// The person stops being watched: by one watcher, or by all.
    pub(super) fn stop_being_watched(&mut self, now: Instant, device: &DeviceKey, watcher: Option<&str>) {
        let watcher = watcher.map(str::to_lowercase);
        self.end_watches(now, &device.user.clone(), Some("stopped"), |watch| {
            watcher.as_ref().is_none_or(|watcher| watch.watcher.user == *watcher)
        });
    }

    /// A device cannot publish the camera; another of the person's devices may be able to.
    pub(super) fn camera_failed(&mut self, now: Instant, device: &DeviceKey, code: &str) {
        let user = device.user.clone();
        let Some(camera) = self.cameras.get_mut(&user) else { return };
        if camera.device.as_ref() != Some(device) {
            return;
        }
        camera.failed.push(device.clone());
        camera.device = None;
        let denied = code == "camera_denied";
        let reason = if denied { "camera_denied" } else { "camera_failed" };
        // Consent given on this device does not extend to another device's camera.
        self.end_watches(now, &user, Some(reason), |watch| watch.granted && (denied || !watch.by_list));
        if self.cameras.contains_key(&user) {
            self.changed_watchers(now, &user);
        }
    }

    /// Called when a user's subscription to a person's camera has begun or ended.
    pub(super) fn picture(&mut self, now: Instant, watcher: &str, stream: &StreamName, began: bool) {
        let StreamName::UserCamera(user) = stream else { return };
        let Some(camera) = self.cameras.get_mut(&**user) else { return };
        let watcher = watcher.to_lowercase();
        let sessions = &self.sessions;
        for watch in camera.watches.iter_mut().filter(|watch| watch.watcher.user == watcher) {
            watch.pictures = if began { watch.pictures + 1 } else { watch.pictures.saturating_sub(1) };
            watch.look(now, is_connected(sessions, &watch.watcher));
        }
    }

    /// A device has lost its socket or reconnected.
    pub(super) fn watcher_connected(&mut self, now: Instant, device: &DeviceKey, connected: bool) {
        for watch in self.watches_of(device) {
            watch.look(now, connected);
        }
    }

    /// A new page has replaced the one that was watching: watches it does not request again soon end.
    pub(super) fn watcher_anew(&mut self, now: Instant, device: &DeviceKey) {
        for watch in self.watches_of(device) {
            (watch.claimed, watch.idle_since) = (false, Some(now));
        }
    }

    fn watches_of<'a>(&'a mut self, device: &'a DeviceKey) -> impl Iterator<Item = &'a mut Watch> {
        let watches = self.cameras.values_mut().flat_map(|camera| &mut camera.watches);
        watches.filter(move |watch| watch.watcher == *device)
    }

    /// Ends watches whose deadline has passed.
    pub(super) fn expire_watches(&mut self, now: Instant) {
        let due: Vec<String> = self
            .cameras
            .iter()
            .filter(|(_, camera)| camera.deadline().is_some_and(|at| at <= now))
            .map(|(user, _)| user.clone())
            .collect();
        for user in due {
            let late = |watch: &Watch| watch.deadline().is_some_and(|at| at <= now);
            self.end_watches(now, &user, Some("no_answer"), |watch| late(watch) && !watch.granted);
            self.end_watches(now, &user, None, late);
        }
    }

    /// A device's session has ended.
    pub(super) fn watch_device_gone(&mut self, now: Instant, device: &DeviceKey) {
        let users: Vec<String> = self.cameras.keys().cloned().collect();
        for user in users {
            self.end_watches(now, &user, None, |watch| watch.watcher == *device);
        }
        let user = device.user.clone();
        let Some(camera) = self.cameras.get_mut(&user) else { return };
        camera.failed.retain(|other| other != device);
        let published = camera.device.as_ref() == Some(device);
        if published {
            camera.device = None;
            self.end_watches(now, &user, Some("lost"), |watch| watch.granted && !watch.by_list);
        }
        let connected = |key: &DeviceKey| is_connected(&self.sessions, key);
        if !self.devices_of(&user).any(connected) {
            self.end_watches(now, &user, Some("lost"), |_| true);
        } else if self.cameras.contains_key(&user) {
            self.changed_watchers(now, &user);
        }
    }

    /// A device has been without a socket for a while, or another one has connected: if the publishing device is gone,
    /// another takes over for watchers on the list. All others must ask again.
    pub(super) fn look_for_publisher(&mut self, now: Instant, user: &str) {
        let Some(camera) = self.cameras.get(user) else { return };
        let away = |key: &DeviceKey| self.sessions.get(key).is_none_or(|session| session.away);
        if !camera.device.as_ref().is_some_and(away) {
            return;
        }
        self.end_watches(now, user, Some("lost"), |watch| watch.granted && !watch.by_list);
        let connected = |key: &DeviceKey| is_connected(&self.sessions, key);
        if self.cameras.contains_key(user) && self.devices_of(user).any(connected) {
            self.changed_watchers(now, user);
        }
    }

    /// Preferences have changed: notifies people whose setting for sound is different now.
    pub(super) fn new_preferences(&mut self, now: Instant, before: &super::Directory) {
        let sound = |directory: &super::Directory, user: &str| {
            directory.members.get(user).map(|member| member.preferences.watched.sound)
        };
        let users: Vec<String> = self.cameras.keys().cloned().collect();
        for user in users {
            if sound(before, &user) != sound(&self.directory, &user) {
                self.changed_watchers(now, &user);
            }
        }
    }

    /// Ends watches that are no longer allowed.
    pub(super) fn withdraw_watches(&mut self, now: Instant) {
        let users: Vec<String> = self.cameras.keys().cloned().collect();
        for user in users {
            let Some(camera) = self.cameras.get(&user) else { continue };
            let watches = camera.watches.iter();
            let gone: Vec<DeviceKey> = watches
                .filter(|watch| {
                    let watcher = &watch.watcher.user;
                    let listed = self.is_listed(watcher, &user);
                    let never = self
                        .directory
                        .members
                        .get(&user)
                        .is_none_or(|member| member.preferences.watched.others == Consent::Never);
                    !self.may_watch(watcher, &user) || (!listed && (watch.by_list || never))
                })
                .map(|watch| watch.watcher.clone())
                .collect();
            self.end_watches(now, &user, Some("withdrawn"), |watch| gone.contains(&watch.watcher));
        }
    }

    /// Ends some watches of one camera; `reason` is sent to the watchers, `None` where they already know.
    fn end_watches(
        &mut self,
        now: Instant,
        user: &str,
        reason: Option<&str>,
        which: impl Fn(&Watch) -> bool,
    ) {
        let Some(camera) = self.cameras.get_mut(user) else { return };
        let mut ended = Vec::new();
        camera.watches.retain(|watch| {
            let ends = which(watch);
            if ends {
                ended.push((watch.watcher.clone(), watch.granted));
            }
            !ends
        });
        if ended.is_empty() {
            return;
        }
        for (watcher, granted) in &ended {
            if let Some(reason) = reason {
                let body = json!({ "to": user, "reason": reason });
                self.push(now, watcher, event("watch.ended", &body));
            }
            if !granted {
                self.close_question(now, user, &watcher.user);
            }
        }
        if ended.iter().any(|(_, granted)| *granted) {
            self.changed_watchers(now, user);
        }
        if self.cameras.get(user).is_some_and(|camera| camera.watches.is_empty()) {
            self.cameras.remove(user);
        }
    }

    /// Closes the question about a watcher, unless another of their devices is still asking.
    fn close_question(&mut self, now: Instant, user: &str, watcher: &str) {
        let Some(camera) = self.cameras.get(user) else { return };
        if !camera.watches.iter().any(|watch| !watch.granted && watch.watcher.user == watcher) {
            self.push_all(now, user, &event("watch.answered", &json!({ "watcher": watcher })));
        }
    }

    /// Somebody has started or stopped watching: notifies the person and makes sure one device publishes.
    fn changed_watchers(&mut self, now: Instant, user: &str) {
        self.grants_changed = true;
        let wanted = self.cameras.get(user).is_some_and(|camera| camera.granted().next().is_some());
        if wanted && self.pick_device(user).is_none() {
            return self.end_watches(now, user, Some("camera_failed"), |watch| watch.granted);
        }
        let devices: Vec<DeviceKey> = self.devices_of(user).cloned().collect();
        for device in devices {
            let watched = self.watched_view(&device);
            self.push(now, &device, event("watched", &watched));
        }
    }

    /// Chooses the publishing device: the current one, otherwise the one used last.
    fn pick_device(&mut self, user: &str) -> Option<DeviceKey> {
        let camera = self.cameras.get(user)?;
        if let Some(device) = &camera.device
            && self.sessions.get(device).is_some_and(|session| !session.away)
        {
            return Some(device.clone());
        }
        let connected = |key: &&DeviceKey| is_connected(&self.sessions, key) && !camera.failed.contains(key);
        let devices = self.devices_of(user).filter(connected);
        let device =
            devices.max_by_key(|key| self.sessions.get(*key).map(|session| session.used_at))?.clone();
        self.cameras.get_mut(user)?.device = Some(device.clone());
        Some(device)
    }

    /// Who is watching the device's user, and whether this device should publish.
    pub(super) fn watched_view(&self, device: &DeviceKey) -> Value {
        let camera = self.cameras.get(&device.user);
        let mut watchers: Vec<&str> =
            camera.into_iter().flat_map(Camera::granted).map(|watch| watch.watcher.user.as_str()).collect();
        watchers.sort_unstable();
        watchers.dedup();
        let watchers: Vec<Value> =
            watchers.into_iter().map(|user| json!({ "name": user, "display": self.display(user) })).collect();
        let sound =
            self.directory.members.get(&device.user).is_some_and(|member| member.preferences.watched.sound);
        let here =
            !watchers.is_empty() && camera.is_some_and(|camera| camera.device.as_ref() == Some(device));
        json!({ "stream": StreamName::user_camera(&device.user), "watchers": watchers, "here": here, "sound": sound })
    }

    /// Pending requests to watch a person.
    pub(super) fn questions(&self, user: &str) -> Vec<Value> {
        let camera = self.cameras.get(user);
        let asking = camera.into_iter().flat_map(|camera| &camera.watches).filter(|watch| !watch.granted);
        let asking = asking.map(|watch| {
            json!({ "watcher": watch.watcher.user, "display": self.display(&watch.watcher.user), "seconds": ASK.as_secs() })
        });
        asking.collect()
    }

    pub(super) fn watch_grants(&self, grants: &mut Vec<Grant>) {
        for (user, camera) in &self.cameras {
            let stream = StreamName::user_camera(user);
            for watch in camera.granted() {
                let watcher = watch.watcher.user.clone();
                grants.push(Grant { user: watcher, stream: stream.clone(), direction: Direction::Watch });
            }
            if camera.granted().next().is_some() {
                grants.push(Grant { user: user.clone(), stream, direction: Direction::Publish });
            }
        }
    }
}
