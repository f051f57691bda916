//! Presence: who is notified about whom, when, and in how many frames.

use super::*;

/// What was sent to a connection, in order.
fn sent_to(outputs: &[Output], conn: Conn) -> Vec<Value> {
    let texts = outputs.iter().flat_map(|output| match output {
        Output::Send(to, text) if *to == conn => vec![text.clone()],
        Output::SendAll(to, texts) if *to == conn => texts.to_vec(),
        _ => vec![],
    });
    texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

#[test]
fn presence_is_told_to_whom_it_may_concern() {
    let mut world = World::with("anna/a gus/g");
    world.pass(Duration::from_secs(1));
    world.next += 1;
    let socket = Conn(world.next);
    world.names.insert(socket, "carl/c".into());
    world.core.handle(world.now, Input::Connected { conn: socket, user: "carl".into(), secret: 9 });
    let hello = json!({ "type": "hello", "body": { "device": "c" } }).to_string();
    world.core.handle(world.now, Input::Frame { conn: socket, text: hello });
    // Together with other changes in the same window.
    world.send("anna/a", "presence.set", &json!({ "dnd": true }));
    world.now = world.core.next_deadline().unwrap();
    let outputs = world.core.handle(world.now, Input::Tick);
    let told = |name: &str| -> Vec<String> {
        let conn = world.sockets[name];
        let texts = sent_to(&outputs, conn).into_iter();
        let people = texts.filter(|frame| frame["type"] == "presence" && frame["seq"].is_null());
        people
            .flat_map(|frame| frame["body"]["people"].as_array().unwrap().clone())
            .map(|person| person["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(told("anna/a"), ["anna", "carl"]);
    assert!(told("gus/g").is_empty(), "a guest sees no members");
    assert_eq!(world.seen_by(Role::Guest), ["dora"]);
}

/// The people a role sees, from all parts.
pub(super) fn people_of(core: &mut Core, role: Role) -> Vec<Value> {
    let frames = core.people_for(role);
    let frames: Vec<Value> = frames.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert!(
        frames
            .iter()
            .enumerate()
            .all(|(part, frame)| frame["body"]["part"] == part && frame["body"]["parts"] == frames.len())
    );
    frames.iter().flat_map(|frame| frame["body"]["people"].as_array().unwrap().clone()).collect()
}

#[test]
fn many_people_are_told_in_parts() {
    let mut changed = Directory::clone(&directory());
    for number in 0..300 {
        let person = Person { name: format!("p{number}"), role: Role::Member, groups: vec!["夜班".into()] };
        let member = Member { person, display: "人".repeat(20), preferences: Preferences::default() };
        changed.members.insert(format!("p{number}"), member);
    }
    let mut core = Core::new(Arc::new(changed), 0, Value::Null);
    assert_eq!(people_of(&mut core, Role::Member).len(), 304, "all but the guest");
    let frames = core.people_for(Role::Member);
    assert!(frames.len() > 10 && frames.iter().all(|text| text.len() < 1_900));
    let mut nobody = Core::new(Arc::default(), 0, Value::Null);
    assert_eq!(nobody.people_for(Role::Guest).len(), 1, "nobody is told, too");
}

#[test]
fn whoever_comes_before_a_change_is_told_is_told_it_too() {
    let mut world = World::with("anna/a bert/b");
    world.pass(Duration::from_secs(1));
    let state = |core: &mut Core| {
        let people = people_of(core, Role::Member);
        people.into_iter().find(|person| person["name"] == "bert").unwrap()["dnd"].clone()
    };
    assert_eq!(state(&mut world.core), false);
    world.send("bert/b", "presence.set", &json!({ "dnd": true }));
    world.connect("carl/c", false);
    let due = world.core.next_deadline().unwrap();
    let told = world.core.handle(due, Input::Tick);
    let told = &sent_to(&told, world.sockets["carl/c"])[0];
    let bert = told["body"]["people"].as_array().unwrap().iter().find(|person| person["name"] == "bert");
    assert_eq!(bert.unwrap()["dnd"], true);
    assert_eq!(state(&mut world.core), true);
}

#[test]
fn a_list_of_people_takes_one_place_in_the_queue_and_comes_again_only_if_somebody_looks_different() {
    let mut changed = Directory::clone(&directory());
    for number in 0..3_000 {
        let person = Person { name: format!("p{number}"), role: Role::Member, groups: vec![] };
        let member = Member { person, display: String::new(), preferences: Preferences::default() };
        changed.members.insert(format!("p{number}"), member);
    }
    let mut core = Core::new(Arc::new(changed.clone()), 0, Value::Null);
    let now = Instant::now();
    core.handle(now, Input::Connected { conn: Conn(1), user: "anna".into(), secret: 1 });
    let hello = r#"{"id":"h","type":"hello","body":{"device":"a"}}"#;
    let outputs = core.handle(now, Input::Frame { conn: Conn(1), text: hello.into() });
    let lists = |outputs: &[Output]| -> Vec<usize> {
        let frames = |output: &Output| match output {
            Output::SendAll(_, texts) => Some(texts.len()),
            _ => None,
        };
        outputs.iter().filter_map(frames).collect()
    };
    assert_eq!(outputs.len(), 2, "the welcome, and everybody");
    assert!(lists(&outputs)[0] > 256);
    changed.members.get_mut("p7").unwrap().preferences.watched.sound = false;
    let outputs = core.handle(now, Input::Directory(Arc::new(changed.clone())));
    assert_eq!(lists(&outputs), [] as [usize; 0], "what p7 decides is nobody else's");
    changed.members.get_mut("p7").unwrap().display = "Seven".into();
    let outputs = core.handle(now, Input::Directory(Arc::new(changed)));
    assert_eq!(lists(&outputs).len(), 1);
}

impl World {
    /// The names of the people a role sees.
    fn seen_by(&mut self, role: Role) -> Vec<String> {
        let people = people_of(&mut self.core, role);
        people.iter().map(|person| person["name"].as_str().unwrap().to_owned()).collect()
    }
}
