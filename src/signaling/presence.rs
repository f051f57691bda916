//! Who is there, and who may know: people as others see them, and telling those others when it changes.

use std::time::Instant;

use serde_json::{Value, json};

use super::message::event;
use super::{Core, DeviceKey, Member};
use crate::accounts::permissions::{Action, Scopes, Who, may};

impl Core {
    /// A user is there as long as one of their devices has a connection, or had one a moment ago.
    pub(super) fn is_online(&self, user: &str) -> bool {
        self.present_devices(user).next().is_some()
    }

    /// The devices at which somebody may be.
    fn present_devices<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a DeviceKey> {
        self.devices_of(user).filter(|key| self.sessions.get(key).is_some_and(|session| !session.away))
    }

    /// The devices of a user.
    pub(super) fn devices_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a DeviceKey> {
        let first = DeviceKey { user: user.to_owned(), device: String::new() };
        self.sessions.range(first..).map(|(key, _)| key).take_while(move |key| key.user == user)
    }

    /// Whether somebody may do something to somebody.
    pub(super) fn may_to(&self, who: &str, action: impl FnOnce(&Member) -> Action<'_>, whom: &str) -> bool {
        let members = &self.directory.members;
        let (Some(who), Some(whom)) = (members.get(who), members.get(whom)) else { return false };
        may(&self.directory.rules, Who::Person(&who.person, Scopes::ALL), action(whom))
    }

    pub(super) fn may_see(&self, who: &str, whom: &str) -> bool {
        self.may_to(who, |other| Action::SeePerson(&other.person), whom)
    }

    fn view(&self, viewer: &str, user: &str) -> Option<Value> {
        let member = self.directory.members.get(user)?;
        let state = if !self.is_online(user) {
            "offline"
        } else if self.is_in_call(user) {
            "in_call"
        } else {
            "free"
        };
        Some(json!({
            "name": member.person.name,
            "display": member.display,
            "role": member.person.role,
            "groups": member.person.groups,
            "state": state,
            "dnd": self.dnd.contains(user),
            "devices": self.present_devices(user).filter_map(|key| Some(&self.sessions.get(key)?.label)).collect::<Vec<_>>(),
            "may_call": self.may_to(viewer, |other| Action::Call(&other.person), user),
            "may_watch": self.may_to(viewer, |other| Action::WatchPerson(&other.person), user),
        }))
    }

    /// Everybody whom a user may see, themselves left out.
    pub(super) fn people_for(&self, viewer: &str) -> Vec<Value> {
        let others =
            self.directory.members.keys().filter(|user| *user != viewer && self.may_see(viewer, user));
        others.filter_map(|user| self.view(viewer, user)).collect()
    }

    /// Tells all who may know how a user is now.
    pub(super) fn tell_presence(&mut self, now: Instant, user: &str) {
        let viewers: Vec<DeviceKey> = self
            .sessions
            .keys()
            .filter(|key| key.user != user && self.may_see(&key.user, user))
            .cloned()
            .collect();
        for viewer in viewers {
            if let Some(view) = self.view(&viewer.user, user) {
                self.push(now, &viewer, event("presence", &view));
            }
        }
    }

    /// Tells everybody anew whom they may see.
    pub(super) fn tell_people(&mut self, now: Instant) {
        let viewers: Vec<DeviceKey> = self.sessions.keys().cloned().collect();
        for viewer in viewers {
            let people = json!({ "people": self.people_for(&viewer.user) });
            self.push(now, &viewer, event("people", &people));
        }
    }
}
