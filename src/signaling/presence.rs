//! Presence: who is online, who may see it, and notifying others of changes.
//!
//! What one person sees of another depends only on their two roles. So each batch of changes is serialized once per
//! role and sent to everybody of that role: with 1,000 people online, doing it per person would dominate the CPU time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Core, DeviceKey, Member, Output};
use crate::accounts::permissions::{Action, Person, Role, Scopes, Who, may};

/// Coalescing window: changes within it are sent together.
const GATHER: Duration = Duration::from_millis(150);

/// Lists of people are split into frames of about this size: a connection keeps a buffer as large as its largest
/// frame.
const PART: usize = 1_500;

/// Changes not sent yet.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Login names, in lower case.
    users: BTreeSet<String>,
    due: Option<Instant>,
    /// For each role, the serialized frames with everybody it may see; cached until the next changes are sent.
    /// Rebuilding them for every connection would overload the server when thousands reconnect after a power cut.
    snapshots: BTreeMap<Role, Arc<[Arc<str>]>>,
}

impl News {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

impl Core {
    /// A user is online while one of their devices has a connection or lost it only a moment ago.
    pub(super) fn is_online(&self, user: &str) -> bool {
        self.present_devices(user).next().is_some()
    }

    /// The devices of a user that count as online.
    fn present_devices<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a DeviceKey> {
        self.devices_of(user).filter(|key| self.sessions.get(key).is_some_and(|session| !session.away))
    }

    /// The devices of a user.
    pub(super) fn devices_of<'a>(&'a self, user: &'a str) -> impl Iterator<Item = &'a DeviceKey> {
        let first = DeviceKey { user: user.to_owned(), device: String::new() };
        self.sessions.range(first..).map(|(key, _)| key).take_while(move |key| key.user == user)
    }

    /// Whether `who` may perform an action on `whom`.
    pub(super) fn may_to(&self, who: &str, action: impl FnOnce(&Member) -> Action<'_>, whom: &str) -> bool {
        let members = &self.directory.members;
        let (Some(who), Some(whom)) = (members.get(who), members.get(whom)) else { return false };
        may(&self.directory.rules, Who::Person(&who.person, Scopes::ALL), action(whom))
    }

    pub(super) fn may_see(&self, who: &str, whom: &str) -> bool {
        self.may_to(who, |other| Action::SeePerson(&other.person), whom)
    }

    /// A user as seen by a role; `None` if the role may not see them.
    fn view(&self, role: Role, user: &str) -> Option<Value> {
        let member = self.directory.members.get(user)?;
        // No user has an empty name, so the viewer is never taken for the user themselves.
        let viewer = Person { name: String::new(), role, groups: Vec::new() };
        let may = |action| may(&self.directory.rules, Who::Person(&viewer, Scopes::ALL), action);
        if !may(Action::SeePerson(&member.person)) {
            return None;
        }
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
            "may_call": may(Action::Call(&member.person)),
            "may_watch": may(Action::WatchPerson(&member.person)),
        }))
    }

    /// Everybody a role may see, as `people` events in parts.
    pub(super) fn people_for(&mut self, role: Role) -> Arc<[Arc<str>]> {
        if let Some(known) = self.news.snapshots.get(&role) {
            return known.clone();
        }
        let mut parts = in_parts(self.directory.members.keys().filter_map(|user| self.view(role, user)));
        if parts.is_empty() {
            parts.push(String::new());
        }
        let count = parts.len();
        let frames = parts.into_iter().enumerate().map(|(part, people)| -> Arc<str> {
            format!(r#"{{"type":"people","body":{{"part":{part},"parts":{count},"people":[{people}]}}}}"#)
                .into()
        });
        let frames: Arc<[Arc<str>]> = frames.collect();
        self.news.snapshots.insert(role, frames.clone());
        frames
    }

    /// Sends everybody a user may see to one of the user's connections.
    pub(super) fn send_people(&mut self, conn: super::Conn, user: &str) {
        let frames = self.people_for(self.role_of(user));
        self.outputs.push(Output::SendAll(conn, frames));
    }

    /// Schedules an update of a user's presence to everybody who may see it.
    pub(super) fn tell_presence(&mut self, now: Instant, user: &str) {
        self.news.users.insert(user.to_owned());
        self.news.due.get_or_insert(now + GATHER);
    }

    /// Sends the collected changes, if they are due.
    pub(super) fn flush_presence(&mut self, now: Instant) {
        if self.news.due.is_none_or(|due| due > now) {
            return;
        }
        self.news.due = None;
        // Clients that received an outdated snapshot are sent the changes now.
        self.news.snapshots.clear();
        let users = std::mem::take(&mut self.news.users);
        for (role, conns) in self.connected_by_role() {
            let parts = in_parts(users.iter().filter_map(|user| self.view(role, user)));
            if parts.is_empty() {
                continue;
            }
            // Not numbered: a client that misses one gets the full list when it resumes.
            let frames = parts.into_iter().map(|people| -> Arc<str> {
                format!(r#"{{"type":"presence","body":{{"people":[{people}]}}}}"#).into()
            });
            let frames: Arc<[Arc<str>]> = frames.collect();
            self.outputs.extend(conns.into_iter().map(|conn| Output::SendAll(conn, frames.clone())));
        }
    }

    /// Sends everybody the full list of people they may see.
    pub(super) fn tell_people(&mut self) {
        self.news.snapshots.clear();
        for (role, conns) in self.connected_by_role() {
            let frames = self.people_for(role);
            self.outputs.extend(conns.into_iter().map(|conn| Output::SendAll(conn, frames.clone())));
        }
    }

    /// The role of a user in the directory.
    pub(super) fn role_of(&self, user: &str) -> Role {
        self.directory.members.get(user).map_or(Role::Guest, |member| member.person.role)
    }

    fn connected_by_role(&self) -> BTreeMap<Role, Vec<super::Conn>> {
        let mut found: BTreeMap<Role, Vec<super::Conn>> = BTreeMap::new();
        for (key, session) in &self.sessions {
            if let Some(conn) = session.conn {
                found.entry(self.role_of(&key.user)).or_default().push(conn);
            }
        }
        found
    }
}

/// Joins the people into comma-separated lists, each up to about [`PART`] bytes.
fn in_parts(views: impl Iterator<Item = Value>) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for view in views {
        let text = view.to_string();
        match parts.last_mut() {
            Some(part) if part.len() + text.len() < PART => {
                part.push(',');
                part.push_str(&text);
            }
            _ => parts.push(text),
        }
    }
    parts
}
