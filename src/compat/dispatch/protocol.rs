//! The protocol with numeric codes, without sockets: rooms with one root (the dispatcher) and guests, who exchange SDP
//! and candidates through the root. Each message gets exactly one reply, after whatever is forwarded. Pure. Start at
//! [`Rooms::receive`].
//!
//! SDP and candidates pass as they are. The wording of the replies is the original server's.

use std::collections::HashMap;

use serde_json::{Value, json};

/// A connection.
pub type Conn = u64;
/// A text for a connection.
pub type Outgoing = (Conn, String);

const OK: i64 = 10_000;
const NO: i64 = -10_000;
/// The name that stands for the dispatcher.
const ROOT: &str = "root";
const OFFER_SENT: &str = "发送Offer SDP成功";
const ANSWER_SENT: &str = "发送Answer SDP成功";
const CANDIDATE_SENT: &str = "发送candidate成功";
const SENT: &str = "发送成功";
const NOT_IN_A_ROOM: &str = "你当前还未加入房间，发送失败";
const NO_SUCH_USER: &str = "用户不存在，发送失败";
const MALFORMED: &str = "消息格式错误";
/// Longest name of a room, in characters.
const LONGEST_ROOM_NAME: usize = 128;
/// Longest user name, in characters.
const LONGEST_USER_NAME: usize = 64;
/// More rooms are refused.
const MAX_ROOMS: usize = 4_096;
/// More guests of a room are refused.
const MAX_GUESTS: usize = 4_096;

#[derive(Debug)]
struct Room {
    root: Conn,
    guests: HashMap<String, Conn>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Seat {
    Root { room: String },
    Guest { room: String, name: String },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: HashMap<String, Room>,
    seats: HashMap<Conn, Seat>,
}

/// A message as it came.
struct Message {
    code: Option<i64>,
    value: Value,
    text: Value,
}

impl Message {
    fn parse(text: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(text).ok()? else { return None };
        // A code that is no whole number is an unknown one.
        let code = fields.get("code").and_then(Value::as_i64);
        let mut take = |name| fields.remove(name).unwrap_or_default();
        Some(Self { code, value: take("value"), text: take("message") })
    }

    fn text_of(&self, field: &str) -> Option<&str> {
        self.value.get(field)?.as_str()
    }
}

fn reply(code: i64, value: impl Into<Value>, message: &str) -> String {
    json!({ "code": code, "value": value.into(), "message": message }).to_string()
}

fn fine(message: &str) -> String {
    reply(OK, "", message)
}

/// An error in the form that the page of this code expects.
fn refusal(code: i64, message: &str) -> String {
    match code {
        2000 | 2001 => reply(code, NO, message),
        2002 | 2022 | 2222 | 3001 | 3002 => reply(OK, NO, message),
        _ => reply(NO, "", message),
    }
}

/// The monitor page puts names into its document and into selectors.
fn is_user_name(name: &str) -> bool {
    let fits = |character: char| character.is_alphanumeric() || character == '_' || character == '-';
    (1..=LONGEST_USER_NAME).contains(&name.chars().count()) && name.chars().all(fits)
}

fn is_room_name(name: &str) -> bool {
    (1..=LONGEST_ROOM_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

impl Rooms {
    /// Handles a message. Returns what to send, in order; the last is the reply to the sender.
    pub fn receive(&mut self, from: Conn, text: &str) -> Vec<Outgoing> {
        let Some(message) = Message::parse(text) else { return vec![(from, reply(NO, "", MALFORMED))] };
        let mut sent = Vec::new();
        let answer = match message.code {
            Some(2000) => self.create(from, &message, &mut sent),
            Some(2001) => self.join(from, &message, &mut sent),
            Some(code @ (2002 | 2004)) => self.pass_to_root(from, code, message, &mut sent),
            Some(code @ (2003 | 2005 | 2022 | 2222 | 3001 | 3002)) => {
                self.pass_to_guest(from, code, message, &mut sent)
            }
            Some(3000) => {
                if let Some(Seat::Guest { .. }) = self.seats.get(&from) {
                    let words = if message.text.is_string() { message.text } else { "".into() };
                    self.leave(from, &words, &mut sent);
                }
                fine("")
            }
            _ => fine(""),
        };
        sent.push((from, answer));
        sent
    }

    /// A connection has closed.
    pub fn closed(&mut self, conn: Conn) -> Vec<Outgoing> {
        let mut sent = Vec::new();
        self.leave(conn, &"对方已挂断".into(), &mut sent);
        sent
    }

    /// What a connection is called in lists, and its room.
    pub fn seat_of(&self, conn: Conn) -> Option<(&str, &str)> {
        match self.seats.get(&conn)? {
            Seat::Root { room } => Some((ROOT, room)),
            Seat::Guest { room, name } => Some((name, room)),
        }
    }

    fn create(&mut self, from: Conn, message: &Message, sent: &mut Vec<Outgoing>) -> String {
        let Some(name) = message.text_of("room_name").filter(|name| is_room_name(name)) else {
            return refusal(2000, "房间名无效，创建失败");
        };
        if self.rooms.contains_key(name) {
            return refusal(2000, "房间已经存在，创建失败");
        }
        if self.rooms.len() >= MAX_ROOMS {
            return refusal(2000, "房间太多，创建失败");
        }
        // A connection is in one room.
        self.leave(from, &"对方已挂断".into(), sent);
        self.rooms.insert(name.to_owned(), Room { root: from, guests: HashMap::new() });
        self.seats.insert(from, Seat::Root { room: name.to_owned() });
        reply(2000, OK, &format!("创建房间{name}成功"))
    }

    fn join(&mut self, from: Conn, message: &Message, sent: &mut Vec<Outgoing>) -> String {
        let (Some(room), Some(name)) = (message.text_of("room_name"), message.text_of("username")) else {
            return refusal(2001, "用户名或房间名无效，加入失败");
        };
        let Some(found) = self.rooms.get(room) else {
            return refusal(2001, "房间不存在，加入失败");
        };
        if !is_user_name(name) {
            return refusal(2001, "用户名只能包含文字、数字、_和-，加入失败");
        }
        if name == ROOT || found.guests.contains_key(name) {
            return refusal(2001, "用户已经存在，加入失败");
        }
        if found.root == from || found.guests.len() >= MAX_GUESTS {
            return refusal(2001, "无法加入该房间，加入失败");
        }
        self.leave(from, &"对方已挂断".into(), sent);
        if let Some(found) = self.rooms.get_mut(room) {
            found.guests.insert(name.to_owned(), from);
            self.seats.insert(from, Seat::Guest { room: room.to_owned(), name: name.to_owned() });
        }
        reply(2001, OK, "加入成功")
    }

    /// An offer or candidate for the root.
    fn pass_to_root(&self, from: Conn, code: i64, message: Message, sent: &mut Vec<Outgoing>) -> String {
        let Some(Seat::Guest { room, name }) = self.seats.get(&from) else {
            return refusal(code, NOT_IN_A_ROOM);
        };
        let (field, done) = if code == 2002 { ("sdp", OFFER_SENT) } else { ("candidate", CANDIDATE_SENT) };
        let (Some(root), Some(content)) =
            (self.rooms.get(room).map(|room| room.root), payload(message, field))
        else {
            return refusal(code, MALFORMED);
        };
        sent.push((root, forwarded(code, name, field, content)));
        fine(done)
    }

    /// Whatever a root sends to one of its guests.
    fn pass_to_guest(&self, from: Conn, code: i64, message: Message, sent: &mut Vec<Outgoing>) -> String {
        let Some(Seat::Root { room }) = self.seats.get(&from) else { return refusal(code, NOT_IN_A_ROOM) };
        let Some(name) = message.text_of("username") else { return refusal(code, MALFORMED) };
        let guest = self.rooms.get(room).and_then(|room| room.guests.get(name));
        let Some(guest) = guest.copied() else { return refusal(code, NO_SUCH_USER) };
        let (field, done) = match code {
            2003 => ("sdp", ANSWER_SENT),
            2005 => ("candidate", CANDIDATE_SENT),
            2022 => ("sdp", OFFER_SENT),
            2222 | 3001 => ("", OFFER_SENT),
            _ => ("", SENT),
        };
        let text = if field.is_empty() {
            json!({ "code": code, "value": message.value, "message": message.text }).to_string()
        } else {
            let Some(content) = payload(message, field) else { return refusal(code, MALFORMED) };
            forwarded(code, ROOT, field, content)
        };
        sent.push((guest, text));
        fine(done)
    }

    /// Takes a connection out of its room. A guest's root learns of it; a root's room is closed.
    fn leave(&mut self, conn: Conn, words: &Value, sent: &mut Vec<Outgoing>) {
        match self.seats.remove(&conn) {
            Some(Seat::Guest { room, name }) => {
                let Some(room) = self.rooms.get_mut(&room) else { return };
                room.guests.remove(&name);
                let left = json!({ "code": 3000, "value": { "username": name }, "message": words });
                sent.push((room.root, left.to_string()));
            }
            Some(Seat::Root { room: name }) => {
                let Some(room) = self.rooms.remove(&name) else { return };
                let closed = reply(10_001, "", &format!("房间{name}已经删除，请重新加入其他房间"));
                for guest in room.guests.into_values() {
                    self.seats.remove(&guest);
                    sent.push((guest, closed.clone()));
                }
            }
            None => {}
        }
    }
}

/// SDP or a candidate: an object, as browsers serialize it.
fn payload(mut message: Message, field: &str) -> Option<Value> {
    message.value.get_mut(field).map(Value::take).filter(Value::is_object)
}

fn forwarded(code: i64, from: &str, field: &str, content: Value) -> String {
    let mut value = serde_json::Map::new();
    value.insert("username".into(), from.into());
    value.insert(field.into(), content);
    json!({ "code": code, "value": value, "message": "" }).to_string()
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
