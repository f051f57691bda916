//! Transcripts of watching somebody's camera, and of calls that are accepted automatically.

use super::*;
use crate::accounts::permissions::Subject;
use crate::accounts::preferences::Consent;

/// The directory with one person's preferences changed.
fn decided(user: &str, decide: impl FnOnce(&mut Preferences)) -> Input {
    let mut changed = Directory::clone(&directory());
    decide(&mut changed.members.get_mut(user).unwrap().preferences);
    Input::Directory(Arc::new(changed))
}

impl World {
    /// The current grants, as `user direction stream`.
    fn grants(&mut self) -> Vec<String> {
        self.core.grants_changed = true;
        let mut grants: Vec<String> = (self.core.new_grants().unwrap())
            .into_iter()
            .map(|grant| format!("{} {:?} {}", grant.user, grant.direction, grant.stream))
            .collect();
        grants.sort();
        grants
    }

    fn picture(&mut self, user: &str, began: bool) {
        let stream = crate::names::StreamName::user_camera("bert");
        self.handle(Input::Picture { user: user.into(), stream, began });
    }
}

const ASKED: &str = r#"
    > anna/a watch.start {"to":"Bert"}
    bert/desk < watch.asked {"display":"ANNA","seconds":30,"watcher":"anna"}
    bert/phone < watch.asked {"display":"ANNA","seconds":30,"watcher":"anna"}
    anna/a < ok {"state":"asking","stream":"user/bert/camera"}
"#;
const GRANTED: &str = r#"
    > bert/phone watch.answer {"watcher":"anna","allow":true}
    anna/a < watch.granted {"stream":"user/bert/camera","to":"bert"}
    bert/desk < watch.answered {"watcher":"anna"}
    bert/phone < watch.answered {"watcher":"anna"}
    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
    bert/phone < watched {"here":true,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
    bert/phone < ok {}
"#;
const NOBODY_WATCHES: &str = r#"    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/phone < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
"#;

#[test]
fn asked_and_granted_until_the_person_stops_it() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ASKED);
    assert!(world.grants().is_empty());
    world.play(GRANTED);
    assert_eq!(world.grants(), ["anna Watch user/bert/camera", "bert Publish user/bert/camera"]);
    world.play(
        r#"
    > anna/a watch.start {"to":"bert"}
    anna/a < ok {"state":"granted","stream":"user/bert/camera"}
    > bert/desk watch.answer {"watcher":"anna","allow":false}
    bert/desk < error "watch_gone"
    > bert/desk watched.stop
    anna/a < watch.ended {"reason":"stopped","to":"bert"}
    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/phone < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/desk < ok {}
"#,
    );
    assert!(world.grants().is_empty() && world.core.cameras.is_empty());
}

#[test]
fn refused_or_not_answered_or_given_up() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ASKED);
    world.play(
        r#"
    > bert/desk watch.answer {"watcher":"anna","allow":false}
    anna/a < watch.ended {"reason":"refused","to":"bert"}
    bert/desk < watch.answered {"watcher":"anna"}
    bert/phone < watch.answered {"watcher":"anna"}
    bert/desk < ok {}
    > anna/a watch.start {"to":"bert"}
    anna/a < error "watch_refused_lately"
    > anna/a waits 10
"#,
    );
    world.play(ASKED);
    world.play(
        r#"
    > anna/a waits 30
    anna/a < watch.ended {"reason":"no_answer","to":"bert"}
    bert/desk < watch.answered {"watcher":"anna"}
    bert/phone < watch.answered {"watcher":"anna"}
"#,
    );
    world.play(ASKED);
    world.play(
        r#"
    > anna/a watch.stop {"to":"bert"}
    bert/desk < watch.answered {"watcher":"anna"}
    bert/phone < watch.answered {"watcher":"anna"}
    anna/a < ok {}
"#,
    );
    assert!(world.core.cameras.is_empty());
}

#[test]
fn who_cannot_be_watched() {
    let mut world = World::with("anna/a bert/b gus/g");
    world.handle(decided("bert", |preferences| preferences.watched.others = Consent::Never));
    world.log();
    world.play(
        r#"
    > anna/a watch.start {"to":"bert"}
    anna/a < error "watch_never"
    > anna/a watch.start {"to":"carl"}
    anna/a < error "callee_offline"
    > anna/a watch.start {"to":"anna"}
    anna/a < error "no_such_user"
    > gus/g watch.start {"to":"anna"}
    gus/g < error "no_such_user"
    > gus/g watch.start {"to":"dora"}
    gus/g < error "watch_forbidden"
    > anna/a watch.start {}
    anna/a < error "bad_body"
"#,
    );
    assert!(world.core.cameras.is_empty());
}

#[test]
fn those_on_the_list_need_not_ask_until_they_are_taken_off_it() {
    let mut world = World::with("anna/a bert/b dora/d");
    let list = |preferences: &mut Preferences| {
        preferences.watched.others = Consent::Never;
        preferences.watched.allow = vec![Subject::Role(Role::Dispatcher)];
        preferences.watched.sound = false;
    };
    world.handle(decided("bert", list));
    world.log();
    world.play(
        r#"
    > dora/d watch.start {"to":"bert"}
    bert/b < watched {"here":true,"sound":false,"stream":"user/bert/camera","watchers":[{"display":"DORA","name":"dora"}]}
    dora/d < ok {"state":"granted","stream":"user/bert/camera"}
    > anna/a watch.start {"to":"bert"}
    anna/a < error "watch_never"
"#,
    );
    world.handle(decided("bert", |_| ()));
    let log = world.log();
    assert!(log.contains(r#"dora/d < watch.ended {"reason":"withdrawn","to":"bert"}"#), "{log}");
    assert!(world.grants().is_empty());
}

#[test]
fn a_watcher_who_is_gone_is_missed_for_seconds_only() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ASKED);
    world.play(GRANTED);
    world.picture("anna", true);
    // A reload: video and socket both end and come back.
    world.picture("anna", false);
    world.play("> anna/a loses\n> anna/a waits 3\n> anna/a connects\nanna/a < welcome resumed=false");
    world.send("anna/a", "watch.start", &json!({ "to": "bert" }));
    assert_eq!(world.log(), "anna/a < ok {\"state\":\"granted\",\"stream\":\"user/bert/camera\"}\n");
    world.picture("anna", true);
    world.play("> anna/a waits 30");
    // Only signaling is lost: the video continues.
    world.play("> anna/a loses\n> anna/a waits 30");
    world.picture("anna", false);
    world.play(&format!("> anna/a waits 4\n> anna/a waits 1\n{NOBODY_WATCHES}"));
    assert!(world.core.cameras.is_empty());
}

const LISTED: &str = r#"
    > anna/a watch.start {"to":"bert"}
    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
    bert/phone < watched {"here":true,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
    anna/a < ok {"state":"granted","stream":"user/bert/camera"}
"#;

fn listed() -> World {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.handle(decided("bert", |preferences| preferences.watched.allow = vec![Subject::Everyone]));
    world.log();
    world
}

#[test]
fn another_device_publishes_where_the_first_one_cannot_for_those_who_need_not_ask() {
    let mut world = listed();
    world.play(LISTED);
    world.play(
        r#"
    > bert/desk watched.failed {"code":"camera_none"}
    bert/desk < ok {}
    > bert/phone watched.failed {"code":"camera_none"}
    bert/desk < watched {"here":true,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
    bert/phone < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
    bert/phone < ok {}
    > bert/desk watched.failed {"code":"camera_denied"}
    anna/a < watch.ended {"reason":"camera_denied","to":"bert"}
    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/phone < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/desk < ok {}
"#,
    );
    let mut world = listed();
    world.play(LISTED);
    world.disconnect("bert/phone");
    world.play(
        r#"
    > anna/a waits 4
    > anna/a waits 1
    bert/desk < watched {"here":true,"sound":true,"stream":"user/bert/camera","watchers":[{"display":"ANNA","name":"anna"}]}
"#,
    );
}

#[test]
fn consent_is_for_the_camera_of_the_device_where_it_was_given() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ASKED);
    world.play(GRANTED);
    world.play(
        r#"
    > bert/phone watched.failed {"code":"camera_none"}
    anna/a < watch.ended {"reason":"camera_failed","to":"bert"}
    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/phone < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
    bert/phone < ok {}
"#,
    );
    world.play(ASKED);
    world.play(GRANTED);
    world.disconnect("bert/phone");
    world.play(
        r#"
    > anna/a waits 5
    anna/a < watch.ended {"reason":"lost","to":"bert"}
    bert/desk < watched {"here":false,"sound":true,"stream":"user/bert/camera","watchers":[]}
"#,
    );
    assert!(world.core.cameras.is_empty());
}

#[test]
fn a_new_page_of_the_watcher_that_does_not_ask_ends_it() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ASKED);
    world.play(GRANTED);
    world.picture("anna", true);
    // The watcher moves from the wall to another page in the same tab.
    world.play("> anna/a loses\n> anna/a connects\nanna/a < welcome resumed=false");
    world.picture("anna", false);
    world.play(&format!("> anna/a waits 4\n> anna/a waits 1\n{NOBODY_WATCHES}"));
}

#[test]
fn sound_that_is_taken_back_is_told_to_the_device_that_publishes() {
    let mut world = listed();
    world.play(LISTED);
    world.handle(decided("bert", |preferences| {
        preferences.watched.allow = vec![Subject::Everyone];
        preferences.watched.sound = false;
    }));
    assert!(world.log().contains(r#"bert/phone < watched {"here":true,"sound":false"#));
}

#[test]
fn a_logout_ends_it_at_once() {
    let mut world = World::with("anna/a bert/b");
    world.handle(decided("bert", |preferences| preferences.watched.allow = vec![Subject::Everyone]));
    world.send("anna/a", "watch.start", &json!({ "to": "bert" }));
    world.log();
    let conn = world.sockets["bert/b"];
    world.handle(Input::Disconnected { conn, for_good: true });
    assert_eq!(world.log(), "anna/a < watch.ended {\"reason\":\"lost\",\"to\":\"bert\"}\n");
    world.pass(Duration::from_millis(150));
    let view = people_of(&mut world.core, Role::Member);
    let bert = view.iter().find(|person| person["name"] == "bert").unwrap();
    assert_eq!(bert["state"], "offline", "no ghost");
}

#[test]
fn only_so_many_ask_at_once() {
    let mut world = World::with("bert/b");
    let mut changed = Directory::clone(&directory());
    for name in ["eva", "fred", "hugo", "ida", "jan"] {
        let person = Person { name: name.into(), role: Role::Member, groups: vec![] };
        let member = Member { person, display: name.into(), preferences: Preferences::default() };
        changed.members.insert(name.into(), member);
    }
    world.handle(Input::Directory(Arc::new(changed)));
    for name in ["eva/1", "fred/1", "hugo/1", "ida/1", "jan/1"] {
        world.connect(name, false);
        world.send(name, "watch.start", &json!({ "to": "bert" }));
    }
    let log = world.log();
    assert_eq!(log.matches("watch.asked").count(), 4, "{log}");
    assert!(log.ends_with("jan/1 < error \"callee_busy\"\n"), "{log}");
}

#[test]
fn calls_of_those_on_the_list_are_accepted_by_one_device() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.handle(decided("bert", |preferences| preferences.auto_accept = vec![Subject::User("anna".into())]));
    world.log();
    world.now += Duration::from_secs(1);
    world.send("bert/desk", "presence.set", &json!({ "dnd": false }));
    world.log();
    world.play(
        r#"
    > anna/a call.invite {"to":"bert"}
    bert/desk < call.incoming {"auto":true,"call":1,"display":"ANNA","from":"anna","video":false,"waiting":false}
    bert/phone < call.incoming {"auto":false,"call":1,"display":"ANNA","from":"anna","video":false,"waiting":false}
    anna/a < ok {"call":1,"waiting":false}
"#,
    );
}

#[test]
fn both_sides_of_a_call_may_go_through_the_server_while_it_lasts() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.send("anna/a", "call.invite", &json!({ "to": "bert" }));
    assert!(world.grants().is_empty(), "not before it is accepted");
    world.send("bert/desk", "call.accept", &json!({ "call": 1 }));
    let expected = [
        "anna Publish call/1/anna",
        "anna Publish screen/1/anna",
        "anna Watch call/1/bert",
        "anna Watch screen/1/bert",
        "bert Publish call/1/bert",
        "bert Publish screen/1/bert",
        "bert Watch call/1/anna",
        "bert Watch screen/1/anna",
    ];
    assert_eq!(world.grants(), expected);
    world.send("anna/a", "call.hangup", &json!({ "call": 1 }));
    assert!(world.grants().is_empty());
}
