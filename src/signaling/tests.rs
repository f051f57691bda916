//! Transcripts of calls and sessions, limits, and random walks that check the invariants. `world` plays them, `people`
//! and `watching` contain more of them.

mod people;
mod watching;
mod world;

use proptest::prelude::*;

use super::*;
use crate::accounts::permissions::{Person, Role, Rules};
use crate::accounts::preferences::Preferences;
use people::people_of;
use world::{World, directory};

const ACCEPTED: &str = r#"
    > anna/a call.invite {"to":"BERT","video":true}
    bert/desk < call.incoming {"auto":false,"call":1,"display":"ANNA","from":"anna","video":true,"waiting":false}
    bert/phone < call.incoming {"auto":false,"call":1,"display":"ANNA","from":"anna","video":true,"waiting":false}
    anna/a < ok {"call":1,"waiting":false}
    > bert/phone call.accept {"call":1}
    bert/desk < call.ended {"call":1,"reason":"answered_elsewhere"}
    anna/a < call.accepted {"call":1,"display":"BERT","peer":"bert","polite":false,"video":true}
    bert/phone < call.accepted {"call":1,"display":"ANNA","peer":"anna","polite":true,"video":true}
    bert/phone < ok {"call":1}
"#;

#[test]
fn a_call_rings_everywhere_and_is_answered_once() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    world.play(
        r#"
    > bert/desk call.accept {"call":1}
    bert/desk < error "call_gone"
    > anna/a call.signal {"call":1,"payload":{"sdp":"offer"}}
    bert/phone < call.signal {"call":1,"payload":{"sdp":"offer"}}
    anna/a < ok {}
    > bert/phone call.connected {"call":1}
    anna/a < call.connected {"call":1}
    bert/phone < ok {}
    > anna/a call.connected {"call":1}
    anna/a < ok {}
    > anna/a waits 10
    > anna/a call.hangup {"call":1}
    anna/a < call.ended {"call":1,"message":"","missed":false,"reason":"hangup"}
    bert/phone < call.ended {"call":1,"message":"","missed":false,"reason":"hangup"}
    history anna bert hangup
    anna/a < ok {}
    > bert/phone call.hangup {"call":1}
    bert/phone < error "call_gone"
"#,
    );
    assert_eq!(world.ended[0].talked, Some(Duration::from_secs(10)));
}

#[test]
fn rejected_with_a_word() {
    World::with("anna/a bert/b").play(
        r#"
    > anna/a call.invite {"to":"bert"}
    bert/b < call.incoming {"auto":false,"call":1,"display":"ANNA","from":"anna","video":false,"waiting":false}
    anna/a < ok {"call":1,"waiting":false}
    > anna/a call.signal {"call":1,"payload":{}}
    anna/a < error "call_not_accepted"
    > anna/a call.accept {"call":1}
    anna/a < error "call_is_yours"
    > bert/b call.reject {"call":1,"message":"in a meeting"}
    anna/a < call.ended {"call":1,"message":"in a meeting","missed":false,"reason":"rejected"}
    bert/b < call.ended {"call":1,"message":"in a meeting","missed":false,"reason":"rejected"}
    history anna bert rejected
    bert/b < ok {}
"#,
    );
}

#[test]
fn nobody_answers_or_the_caller_gives_up() {
    World::with("anna/a bert/b").play(
        r#"
    > anna/a call.invite {"to":"bert"}
    bert/b < call.incoming {"auto":false,"call":1,"display":"ANNA","from":"anna","video":false,"waiting":false}
    anna/a < ok {"call":1,"waiting":false}
    > anna/a waits 29
    > anna/a waits 1
    anna/a < call.ended {"call":1,"message":"","missed":true,"reason":"no_answer"}
    bert/b < call.ended {"call":1,"message":"","missed":true,"reason":"no_answer"}
    history anna bert no_answer
    > anna/a call.invite {"to":"bert"}
    bert/b < call.incoming {"auto":false,"call":2,"display":"ANNA","from":"anna","video":false,"waiting":false}
    anna/a < ok {"call":2,"waiting":false}
    > anna/a call.hangup {"call":2}
    anna/a < call.ended {"call":2,"message":"","missed":true,"reason":"cancelled"}
    bert/b < call.ended {"call":2,"message":"","missed":true,"reason":"cancelled"}
    anna/a < ok {}
    > anna/a waits 60
    > anna/a call.invite {"to":"bert"}
    bert/b < call.incoming {"auto":false,"call":3,"display":"ANNA","from":"anna","video":false,"waiting":false}
    anna/a < ok {"call":3,"waiting":false}
    > anna/a call.hangup {"call":3}
    anna/a < call.ended {"call":3,"message":"","missed":true,"reason":"cancelled"}
    bert/b < call.ended {"call":3,"message":"","missed":true,"reason":"cancelled"}
    history anna bert cancelled
    anna/a < ok {}
"#,
    );
}

#[test]
fn who_cannot_be_called() {
    World::with("anna/a gus/g dora/d").play(
        r#"
    > gus/g call.invite {"to":"nobody"}
    gus/g < error "no_such_user"
    > gus/g call.invite {"to":"carl"}
    gus/g < error "no_such_user"
    > gus/g call.invite {"to":"gus"}
    gus/g < error "no_such_user"
    > anna/a call.invite {"to":"gus"}
    anna/a < error "no_such_user"
    > anna/a call.invite {"to":"carl"}
    history anna carl no_answer
    anna/a < error "callee_offline"
    > dora/d presence.set {"dnd":true}
    dora/d < ok {}
    > gus/g call.invite {"to":"dora"}
    dora/d < call.missed {"call":2,"display":"GUS","from":"gus","video":false}
    history gus dora no_answer
    gus/g < error "callee_dnd"
"#,
    );
}

#[test]
fn glare_becomes_one_call() {
    World::with("anna/a bert/b").play(
        r#"
    > anna/a call.invite {"to":"bert"}
    bert/b < call.incoming {"auto":false,"call":1,"display":"ANNA","from":"anna","video":false,"waiting":false}
    anna/a < ok {"call":1,"waiting":false}
    > bert/b call.invite {"to":"anna"}
    anna/a < call.accepted {"call":1,"display":"BERT","peer":"bert","polite":false,"video":false}
    bert/b < call.accepted {"call":1,"display":"ANNA","peer":"anna","polite":true,"video":false}
    bert/b < ok {"call":1,"merged":true}
"#,
    );
}

#[test]
fn one_call_waits_the_next_finds_the_line_busy() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    world.play(
        r#"
    > carl/c connects
    carl/c < welcome resumed=false
    > dora/d connects
    dora/d < welcome resumed=false
    > carl/c call.invite {"to":"bert"}
    bert/desk < call.incoming {"auto":false,"call":2,"display":"CARL","from":"carl","video":false,"waiting":true}
    bert/phone < call.incoming {"auto":false,"call":2,"display":"CARL","from":"carl","video":false,"waiting":true}
    carl/c < ok {"call":2,"waiting":true}
    > dora/d call.invite {"to":"bert"}
    bert/desk < call.missed {"call":3,"display":"DORA","from":"dora","video":false}
    bert/phone < call.missed {"call":3,"display":"DORA","from":"dora","video":false}
    history dora bert no_answer
    dora/d < error "callee_busy"
    > bert/phone call.accept {"call":2}
    bert/phone < error "already_in_call"
    > bert/phone call.accept {"call":2,"hold":true}
    anna/a < call.held {"call":1,"held":true}
    bert/desk < call.ended {"call":2,"reason":"answered_elsewhere"}
    carl/c < call.accepted {"call":2,"display":"BERT","peer":"bert","polite":false,"video":false}
    bert/phone < call.accepted {"call":2,"display":"CARL","peer":"carl","polite":true,"video":false}
    bert/phone < ok {"call":2}
    > carl/c call.invite {"to":"anna"}
    carl/c < error "already_in_call"
"#,
    );
}

#[test]
fn a_lost_connection_does_not_end_a_call_and_nothing_is_missed() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    world.play(
        r#"
    > bert/phone loses
    > anna/a call.signal {"call":1,"payload":"one"}
    anna/a < ok {}
    > anna/a call.signal {"call":1,"payload":"two"}
    anna/a < ok {}
    > bert/phone waits 20
    > bert/phone resumes
    bert/phone < welcome resumed=true
    bert/phone < call.signal {"call":1,"payload":"one"}
    bert/phone < call.signal {"call":1,"payload":"two"}
    > anna/a call.connected {"call":1}
    bert/phone < call.connected {"call":1}
    anna/a < ok {}
    > bert/phone loses
    > bert/phone waits 59
    > bert/phone waits 1
    anna/a < call.ended {"call":1,"message":"","missed":false,"reason":"lost"}
    history anna bert lost
"#,
    );
}

#[test]
fn a_reloaded_page_takes_its_own_place_and_learns_of_its_call() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    let before = world.sockets["anna/a"];
    world.connect("anna/a", false);
    assert_eq!(world.log(), "anna/a closed 4409 replaced\nanna/a < welcome resumed=false\n");
    assert_ne!(world.sockets["anna/a"], before);
    let key = DeviceKey { user: "anna".into(), device: "a".into() };
    let calls = world.core.calls_of(&key);
    assert_eq!(
        (&calls[0]["call"], &calls[0]["state"], &calls[0]["outgoing"]),
        (&json!(1), &json!("connecting"), &json!(true))
    );
}

#[test]
fn a_request_that_is_sent_twice_is_done_once() {
    let mut world = World::with("anna/a bert/b");
    let text = json!({ "id": "same", "type": "call.invite", "body": { "to": "bert" } }).to_string();
    let conn = world.sockets["anna/a"];
    for _ in 0..2 {
        world.handle(Input::Frame { conn, text: text.clone() });
    }
    let log = world.log();
    assert_eq!(log.matches("call.incoming").count(), 1, "{log}");
    assert_eq!(log.matches(r#"anna/a < ok {"call":1,"waiting":false}"#).count(), 2, "{log}");
}

#[test]
fn rights_that_end_end_calls_and_sockets() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    let mut changed = Directory::clone(&directory());
    changed.members.remove("bert");
    world.handle(Input::Directory(Arc::new(changed)));
    let log = world.log();
    assert!(log.contains("bert/phone closed") && log.contains("bert/desk closed"), "{log}");
    assert!(
        log.contains(r#"anna/a < call.ended {"call":1,"message":"","missed":false,"reason":"withdrawn"}"#),
        "{log}"
    );
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    let mut changed = Directory::clone(&directory());
    changed.rules.call.member.clear();
    world.handle(Input::Directory(Arc::new(changed)));
    assert!(world.log().contains("withdrawn"));
}

#[test]
fn what_was_missed_takes_one_place_in_the_queue() {
    let mut world = World::with("anna/a bert/b");
    world.send("anna/a", "call.invite", &json!({ "to": "bert" }));
    world.send("bert/b", "call.accept", &json!({ "call": 1 }));
    world.log();
    let conn = world.sockets["bert/b"];
    world.core.handle(world.now, Input::Disconnected { conn, for_good: false });
    for number in 0..400 {
        world.send("anna/a", "call.signal", &json!({ "call": 1, "payload": number }));
        world.now += Duration::from_millis(50);
    }
    world.log();
    let conn = Conn(99);
    let (session, seq) = world.sessions["bert/b"].clone();
    let resume = json!({ "session": session, "last_seq": seq });
    let hello = json!({ "id": "h", "type": "hello", "body": { "device": "b", "resume": resume } });
    world.core.handle(world.now, Input::Connected { conn, user: "bert".into(), secret: 9 });
    let outputs = world.core.handle(world.now, Input::Frame { conn, text: hello.to_string() });
    let missed = outputs.iter().map(|output| match output {
        Output::SendAll(to, texts) if *to == conn => texts.len(),
        _ => 0,
    });
    assert!(missed.max() >= Some(400), "all of it");
    assert!(outputs.len() < 5, "{} places", outputs.len());
}

#[test]
fn invitations_without_end_are_refused_and_are_one_entry() {
    let mut world = World::with("anna/a");
    for _ in 0..14 {
        world.send("anna/a", "call.invite", &json!({ "to": "carl" }));
    }
    let log = world.log();
    assert_eq!(log.matches("callee_offline").count(), 12, "{log}");
    assert_eq!(log.matches("too_many_invitations").count(), 2, "{log}");
    assert_eq!(world.ended.len(), 1, "one missed call");
    world.pass(Duration::from_secs(5));
    world.play("> anna/a call.invite {\"to\":\"carl\"}\nanna/a < error \"callee_offline\"\n");
}

#[test]
fn hold_without_a_word_resumes_nothing() {
    let mut world = World::with("anna/a bert/desk bert/phone");
    world.play(ACCEPTED);
    world.play(
        r#"
    > anna/a call.hold {"call":1,"held":true}
    bert/phone < call.held {"call":1,"held":true}
    anna/a < ok {}
    > anna/a call.hold {"call":1}
    anna/a < error "bad_body"
"#,
    );
}

/// A world just after a server restart: ids up to 100 may belong to the previous process.
fn restarted(names: &str) -> World {
    let mut world = World::new();
    world.core = Core::new(directory(), 100, Value::Null);
    for name in names.split_whitespace() {
        world.connect(name, false);
    }
    world.log();
    world
}

#[test]
fn a_call_outlives_a_restart_of_the_server() {
    let mut world = restarted("anna/a bert/phone");
    world.play(
        r#"
    > bert/phone call.claim {"call":17,"peer":"Anna","outgoing":false,"video":true,"talked":100}
    bert/phone < ok {"call":17,"state":"waiting"}
    > anna/a call.claim {"call":17,"peer":"bert","outgoing":true,"video":true,"talked":90}
    anna/a < call.restored {"call":17}
    bert/phone < call.restored {"call":17}
    anna/a < ok {"call":17,"state":"active"}
    > anna/a call.signal {"call":17,"payload":"x"}
    bert/phone < call.signal {"call":17,"payload":"x"}
    anna/a < ok {}
    > bert/phone call.hangup {"call":17}
    anna/a < call.ended {"call":17,"message":"","missed":false,"reason":"hangup"}
    bert/phone < call.ended {"call":17,"message":"","missed":false,"reason":"hangup"}
    history anna bert hangup
    bert/phone < ok {}
"#,
    );
    assert_eq!(world.ended[0].talked, Some(Duration::from_secs(100)));
}

#[test]
fn a_call_whose_other_side_does_not_come_back_is_lost() {
    let mut world = restarted("anna/a carl/c");
    world.play(
        r#"
    > anna/a call.claim {"call":17,"peer":"bert","outgoing":true}
    anna/a < ok {"call":17,"state":"waiting"}
    > carl/c call.claim {"call":17,"peer":"anna","outgoing":false}
    carl/c < ok {"call":17,"state":"waiting"}
    > carl/c call.hangup {"call":17}
    carl/c < ok {}
    > anna/a call.claim {"call":101,"peer":"bert","outgoing":true}
    anna/a < error "call_gone"
    > anna/a waits 60
    anna/a < call.ended {"call":17,"message":"","missed":false,"reason":"lost"}
    history anna bert lost
    > anna/a call.claim {"call":18,"peer":"bert","outgoing":true}
    anna/a < error "call_gone"
"#,
    );
}

#[test]
fn somebody_elses_claim_keeps_nobody_from_a_call() {
    let mut world = restarted("anna/a bert/phone carl/c");
    for call in 14..18 {
        world.send("carl/c", "call.claim", &json!({ "call": call, "peer": "anna", "outgoing": true }));
    }
    world.log();
    world.play(
        r#"
    > carl/c call.claim {"call":18,"peer":"anna","outgoing":true}
    carl/c < error "call_gone"
    > anna/a call.claim {"call":17,"peer":"bert","outgoing":true}
    anna/a < ok {"call":17,"state":"waiting"}
    > bert/phone call.claim {"call":17,"peer":"anna","outgoing":false}
    anna/a < call.restored {"call":17}
    bert/phone < call.restored {"call":17}
    bert/phone < ok {"call":17,"state":"active"}
"#,
    );
}

#[test]
fn abuse_ends_that_socket_alone() {
    let mut world = World::with("anna/a bert/b");
    let conn = world.sockets["anna/a"];
    for _ in 0..21 {
        world.handle(Input::Frame { conn, text: "rubbish".into() });
    }
    assert!(world.log().ends_with("anna/a closed 4429 abuse\n"));
    assert!(world.sockets.contains_key("bert/b"));
    let mut world = World::with("anna/a");
    for _ in 0..60 {
        world.send("anna/a", "ping", &json!({}));
    }
    assert!(world.log().contains("too_many_frames"));
    world.now += Duration::from_secs(1);
    world.send("anna/a", "ping", &json!({}));
    assert_eq!(world.log(), "anna/a < ok {}\n", "a second later there is room again");
}

#[test]
fn hello_comes_first_and_in_time() {
    let mut world = World::new();
    world.names.insert(Conn(1), "anna/a".into());
    world.handle(Input::Connected { conn: Conn(1), user: "anna".into(), secret: 1 });
    world.handle(Input::Frame { conn: Conn(1), text: r#"{"id":"1","type":"ping"}"#.into() });
    assert_eq!(world.log(), "anna/a < error \"hello_first\"\n");
    world.pass(HELLO_LIMIT);
    assert_eq!(world.log(), "anna/a closed 4408 no_hello\n");
}

#[test]
fn devices_are_limited_in_number() {
    let mut world = World::with("anna/1 anna/2 anna/3 anna/4 anna/5 anna/6 anna/7 anna/8");
    world.connect("anna/9", false);
    assert_eq!(world.log(), "anna/9 < error \"too_many_devices\"\n");
    world.connect("anna/8", false);
    assert!(world.log().contains("welcome"), "one that was here may come back");
    world.disconnect("anna/3");
    world.connect("anna/9", false);
    assert!(world.log().contains("anna/9 < welcome"), "a tab that was closed makes room");
}

/// Invariants that must hold at any time.
fn check(core: &Core, now: Instant) {
    for key in core.sessions.keys() {
        let takes_part = |call: &&Call| {
            (call.caller == *key || (call.state != State::Ringing && call.callee_devices.contains(key)))
                && !call.held_by.contains(&key.user)
        };
        assert!(
            core.calls.values().filter(takes_part).count() <= 1,
            "{key:?} is in two calls that are not held"
        );
    }
    for call in core.calls.values() {
        assert!(core.sessions.contains_key(&call.caller), "no call without its caller");
        assert!(
            !call.callee_devices.is_empty()
                && call.callee_devices.iter().all(|device| core.sessions.contains_key(device))
        );
        assert!(call.state == State::Ringing || call.callee_devices.len() == 1);
        assert!(call::deadline(call.state, call.since).is_none_or(|at| at > now), "no deadline in the past");
    }
}

proptest! {
    #[test]
    fn random_walks_keep_the_invariants(steps in proptest::collection::vec((0usize..6, 0usize..18, 0u64..8, 0u64..40), 1..120)) {
        let names = ["anna/1", "anna/2", "bert/1", "carl/1", "dora/1", "gus/1"];
        let mut world = World::new();
        for (who, what, number, seconds) in steps {
            let name = names[who];
            let to = names[(number as usize) % names.len()].split('/').next().unwrap();
            match what {
                0 => world.connect(name, true),
                1 => world.connect(name, false),
                2 => world.disconnect(name),
                3 | 4 => world.send(name, "call.invite", &json!({ "to": to })),
                5 => world.send(name, "call.accept", &json!({ "call": number, "hold": seconds % 2 == 0 })),
                6 => world.send(name, "call.reject", &json!({ "call": number })),
                7 => world.send(name, "call.hangup", &json!({ "call": number, "failed": seconds % 2 == 0 })),
                8 => world.send(name, "call.hold", &json!({ "call": number, "held": seconds % 2 == 0 })),
                9 => world.send(name, "call.connected", &json!({ "call": number })),
                10 => world.send(name, "presence.set", &json!({ "dnd": seconds % 3 == 0 })),
                11 | 12 => world.send(name, "watch.start", &json!({ "to": to })),
                13 => world.send(name, "watch.answer", &json!({ "watcher": to, "allow": seconds % 4 != 0 })),
                14 => world.send(name, "watch.stop", &json!({ "to": to })),
                15 if number % 2 == 0 => world.send(
                    name,
                    "call.claim",
                    &json!({ "call": number, "peer": to, "outgoing": seconds % 2 == 0 }),
                ),
                15 => world.send(name, "watched.failed", &json!({ "code": "camera_none" })),
                16 => world.send(name, "watched.stop", &json!({})),
                _ => world.pass(Duration::from_secs(seconds)),
            }
            check(&world.core, world.now);
        }
        // Everybody disconnects: all ringing stops, all calls end, nothing is left.
        for name in names {
            world.disconnect(name);
        }
        world.pass(Duration::from_secs(200));
        prop_assert!(world.core.calls.is_empty() && world.core.sessions.is_empty() && world.core.sockets.is_empty());
        prop_assert!(world.core.cameras.is_empty());
        world.core.grants_changed = true;
        prop_assert_eq!(world.core.new_grants(), Some(vec![]));
        prop_assert_eq!(world.core.next_deadline(), None);
    }
}
