//! The environment in which the transcripts are played: people with their devices, a clock, and a log of sent frames.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::*;
use crate::accounts::calls::CallRecord;

/// People, their devices' sockets, and a clock.
pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: Instant,
    pub(super) sockets: BTreeMap<String, Conn>,
    pub(super) names: HashMap<Conn, String>,
    pub(super) sessions: HashMap<String, (String, u64)>,
    pub(super) next: u64,
    pub(super) requests: u64,
    /// What was sent to whom since the log was last read.
    pub(super) log: String,
    pub(super) ended: Vec<CallRecord>,
}

pub(super) fn directory() -> Arc<Directory> {
    let people = [
        ("anna", Role::Member),
        ("bert", Role::Member),
        ("carl", Role::Member),
        ("dora", Role::Dispatcher),
        ("gus", Role::Guest),
    ];
    let member = |(name, role): (&str, Role)| {
        let person = Person { name: name.into(), role, groups: vec![] };
        (
            name.to_owned(),
            Member { person, display: name.to_uppercase(), preferences: Preferences::default() },
        )
    };
    Arc::new(Directory { members: people.into_iter().map(member).collect(), rules: Rules::default() })
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            core: Core::new(directory(), 0, Value::Null),
            now: Instant::now(),
            sockets: BTreeMap::new(),
            names: HashMap::new(),
            sessions: HashMap::new(),
            next: 0,
            requests: 0,
            log: String::new(),
            ended: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(conn, text) => self.sent(conn, &text),
                Output::SendAll(conn, texts) => texts.iter().for_each(|text| self.sent(conn, text)),
                Output::Close(conn, code, why) => {
                    let name = self.names.get(&conn).cloned().unwrap_or_default();
                    let _ = writeln!(self.log, "{name} closed {code} {why}");
                    if self.sockets.get(&name) == Some(&conn) {
                        self.sockets.remove(&name);
                    }
                }
                Output::Ended(record) => {
                    let _ =
                        writeln!(self.log, "history {} {} {}", record.caller, record.callee, record.reason);
                    self.ended.push(record);
                }
            }
        }
    }

    /// Presence is left out, as it would obscure the rest; it has its own tests.
    pub(super) fn sent(&mut self, conn: Conn, text: &str) {
        let name = self.names[&conn].clone();
        let frame = sorted(&serde_json::from_str(text).unwrap());
        if let Some(seq) = frame["seq"].as_u64() {
            let last = self.sessions.entry(name.clone()).or_default();
            assert_eq!(seq, last.1 + 1, "{name}: in order, without gaps");
            last.1 = seq;
        }
        let kind = frame["type"].as_str().unwrap_or_default();
        if kind == "welcome" {
            let session = frame["body"]["session"].as_str().unwrap().to_owned();
            let seq = if frame["body"]["resumed"] == true { self.sessions[&name].1 } else { 0 };
            self.sessions.insert(name.clone(), (session, seq));
            let _ = writeln!(self.log, "{name} < welcome resumed={}", frame["body"]["resumed"]);
        } else if frame["ok"] == true {
            let _ = writeln!(self.log, "{name} < ok {}", frame["body"]);
        } else if kind != "presence" && kind != "people" {
            let body = if frame["error"].is_null() { &frame["body"] } else { &frame["error"]["code"] };
            let kind = if frame["error"].is_null() { kind } else { "error" };
            let _ = writeln!(self.log, "{name} < {kind} {body}");
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        let outputs = self.core.handle(self.now, input);
        self.take(outputs);
    }

    /// `anna/phone` connects and says hello.
    pub(super) fn connect(&mut self, name: &str, resume: bool) {
        self.next += 1;
        let conn = Conn(self.next);
        let (user, device) = name.split_once('/').unwrap();
        self.sockets.insert(name.to_owned(), conn);
        self.names.insert(conn, name.to_owned());
        self.handle(Input::Connected { conn, user: user.into(), secret: u128::from(self.next) });
        let resume = resume.then(|| self.sessions.get(name)).flatten();
        let resume = resume.map(|(session, seq)| json!({ "session": session, "last_seq": seq }));
        let hello = json!({ "id": "h", "type": "hello", "body": { "device": device, "resume": resume } });
        self.handle(Input::Frame { conn, text: hello.to_string() });
    }

    pub(super) fn disconnect(&mut self, name: &str) {
        if let Some(conn) = self.sockets.remove(name) {
            self.handle(Input::Disconnected { conn, for_good: false });
        }
    }

    pub(super) fn send(&mut self, name: &str, kind: &str, body: &Value) {
        self.requests += 1;
        let text = json!({ "id": self.requests.to_string(), "type": kind, "body": body }).to_string();
        if let Some(conn) = self.sockets.get(name) {
            self.handle(Input::Frame { conn: *conn, text });
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Tick);
            assert!(self.core.next_deadline().is_none_or(|next| next > self.now), "no deadline in the past");
        }
        self.now = end;
    }

    pub(super) fn log(&mut self) -> String {
        std::mem::take(&mut self.log)
    }

    /// A world in which everybody named in the text is connected.
    pub(super) fn with(names: &str) -> Self {
        let mut world = Self::new();
        for name in names.split_whitespace() {
            world.connect(name, false);
        }
        world.log();
        world
    }

    /// Each line is `who kind body`; the rest is compared with what was sent.
    pub(super) fn play(&mut self, script: &str) {
        let mut steps = script.trim().lines().map(str::trim).peekable();
        while let Some(step) = steps.next() {
            let (who, rest) =
                step.strip_prefix("> ").unwrap_or_else(|| panic!("{step}")).split_once(' ').unwrap();
            let (kind, body) = rest.split_once(' ').unwrap_or((rest, "{}"));
            match kind {
                "waits" => self.pass(Duration::from_secs(body.parse().unwrap())),
                "connects" => self.connect(who, false),
                "resumes" => self.connect(who, true),
                "loses" => self.disconnect(who),
                _ => self.send(who, kind, &serde_json::from_str(body).unwrap()),
            }
            let mut expected = String::new();
            while let Some(line) = steps.next_if(|line| !line.starts_with("> ")) {
                let _ = writeln!(expected, "{line}");
            }
            assert_eq!(self.log(), expected, "{step}");
        }
    }
}

/// With the keys of all objects in order, so that transcripts do not depend on it.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: std::collections::BTreeMap<_, _> =
                map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
