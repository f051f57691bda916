//! Every row of the protocol's table, in both directions and in the wrong order, and random walks.

use super::*;

const SDP: &str = r#"{"type":"offer","sdp":"v=0\r\n\"引号\""}"#;
const CANDIDATE: &str = r#"{"candidate":"candidate:1 1 udp 1 127.0.0.1 5 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}"#;

/// What each connection gets, in order.
fn exchange(rooms: &mut Rooms, from: Conn, text: &str) -> Vec<(Conn, Value)> {
    let sent = rooms.receive(from, text);
    sent.into_iter().map(|(to, text)| (to, serde_json::from_str(&text).unwrap())).collect()
}

fn message(code: impl Into<Value>, value: &str, text: &str) -> String {
    format!(r#"{{"code":{},"value":{value},"message":"{text}"}}"#, code.into())
}

fn out(code: i64, value: impl Into<Value>, text: &str) -> Value {
    json!({ "code": code, "value": value.into(), "message": text })
}

/// A room `yard` with root 1 and the guest `boy` 2.
fn yard() -> Rooms {
    let mut rooms = Rooms::default();
    let made = exchange(&mut rooms, 1, &message(2000, r#"{"room_name":"yard"}"#, ""));
    assert_eq!(made, [(1, out(2000, OK, "创建房间yard成功"))]);
    let joined = exchange(&mut rooms, 2, &message(2001, r#"{"room_name":"yard","username":"boy"}"#, ""));
    assert_eq!(joined, [(2, out(2001, OK, "加入成功"))]);
    rooms
}

#[test]
fn what_a_guest_sends_reaches_the_root() {
    let mut rooms = yard();
    for (code, field, content, done) in
        [(2002, "sdp", SDP, "发送Offer SDP成功"), (2004, "candidate", CANDIDATE, "发送candidate成功")]
    {
        let content: Value = serde_json::from_str(content).unwrap();
        let sent = exchange(&mut rooms, 2, &message(code, &json!({ field: content }).to_string(), ""));
        let forwarded = out(code, json!({ "username": "boy", field: content }), "");
        assert_eq!(sent, [(1, forwarded), (2, out(OK, "", done))]);
    }
}

#[test]
fn what_the_root_sends_reaches_the_guest() {
    let mut rooms = yard();
    let table = [
        (2003, Some(("sdp", SDP)), "发送Answer SDP成功"),
        (2005, Some(("candidate", CANDIDATE)), "发送candidate成功"),
        (2022, Some(("sdp", SDP)), "发送Offer SDP成功"),
        (2222, None, "发送Offer SDP成功"),
        (3001, None, "发送Offer SDP成功"),
        (3002, None, "发送成功"),
    ];
    for (code, content, done) in table {
        let mut value = json!({ "username": "boy" });
        let mut arrives = json!({ "username": "boy" });
        if let Some((field, content)) = content {
            value[field] = serde_json::from_str(content).unwrap();
            arrives = json!({ "username": "root", field: value[field] });
        }
        let sent = exchange(&mut rooms, 1, &message(code, &value.to_string(), "words"));
        let words = if content.is_some() { "" } else { "words" };
        assert_eq!(sent, [(2, out(code, arrives, words)), (1, out(OK, "", done))], "{code}");
    }
}

#[test]
fn descriptions_pass_unchanged() {
    let mut rooms = yard();
    let sdp = r#"{"zebra":1.50,"type":"offer","sdp":"x","apple":[1,null]}"#;
    let sent = rooms.receive(2, &message(2002, &format!(r#"{{"sdp":{sdp}}}"#), ""));
    assert!(sent[0].1.contains(&sdp.replace("1.50", "1.5")), "keys keep their order: {}", sent[0].1);
}

#[test]
fn refusals_have_the_form_of_their_code() {
    let mut rooms = yard();
    let refused = |sent: Vec<(Conn, Value)>| {
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.into_iter().next().unwrap().1
    };
    // Somebody in no room, and a guest who acts as the root.
    for from in [9, 2] {
        for (code, value) in [(2022, SDP), (2222, "1"), (3001, "1"), (3002, "1"), (2003, SDP), (2005, "1")] {
            let text = message(code, &format!(r#"{{"username":"boy","sdp":{value}}}"#), "");
            let expected = match code {
                2003 | 2005 => out(NO, "", NOT_IN_A_ROOM),
                _ => out(OK, NO, NOT_IN_A_ROOM),
            };
            assert_eq!(refused(exchange(&mut rooms, from, &text)), expected, "{code} from {from}");
        }
    }
    assert_eq!(
        refused(exchange(&mut rooms, 9, &message(2002, &format!(r#"{{"sdp":{SDP}}}"#), ""))),
        out(OK, NO, NOT_IN_A_ROOM)
    );
    let to_nobody = message(3002, r#"{"username":"girl"}"#, "");
    assert_eq!(refused(exchange(&mut rooms, 1, &to_nobody)), out(OK, NO, NO_SUCH_USER));
    let table = [
        (2000, r#"{"room_name":"yard"}"#, "房间已经存在，创建失败"),
        (2001, r#"{"room_name":"yard","username":"boy"}"#, "用户已经存在，加入失败"),
        (2001, r#"{"room_name":"yard","username":"root"}"#, "用户已经存在，加入失败"),
        (2001, r#"{"room_name":"none","username":"boy"}"#, "房间不存在，加入失败"),
        (2001, r#"{"room_name":"yard","username":"<b>"}"#, "用户名只能包含文字、数字、_和-，加入失败"),
        (2001, r#"{"room_name":"yard","username":""}"#, "用户名只能包含文字、数字、_和-，加入失败"),
    ];
    for (code, value, words) in table {
        assert_eq!(refused(exchange(&mut rooms, 9, &message(code, value, ""))), out(code, NO, words));
    }
    for text in ["", "{", "[]", "1", "null", "\"x\""] {
        assert_eq!(refused(exchange(&mut rooms, 2, text)), out(NO, "", MALFORMED), "{text:?}");
    }
    for code in [json!(1), json!("2000"), Value::Null, json!(99_999_999_999u64), json!(2000.5)] {
        assert_eq!(refused(exchange(&mut rooms, 2, &message(code, "{}", ""))), out(OK, "", ""));
    }
    assert_eq!(
        refused(exchange(&mut rooms, 1, &message(3000, "\"\"", ""))),
        out(OK, "", ""),
        "from the root"
    );
}

#[test]
fn a_guest_hangs_up_and_comes_back() {
    let mut rooms = yard();
    let sent = exchange(&mut rooms, 2, &message(3000, "\"\"", "对方已挂断"));
    assert_eq!(sent, [(1, out(3000, json!({"username": "boy"}), "对方已挂断")), (2, out(OK, "", ""))]);
    assert_eq!(exchange(&mut rooms, 2, &message(3000, "\"\"", "x")), [(2, out(OK, "", ""))]);
    let again = exchange(&mut rooms, 2, &message(2001, r#"{"room_name":"yard","username":"小明"}"#, ""));
    assert_eq!(again, [(2, out(2001, OK, "加入成功"))]);
}

#[test]
fn sockets_that_close() {
    let mut rooms = yard();
    exchange(&mut rooms, 3, &message(2001, r#"{"room_name":"yard","username":"girl"}"#, ""));
    let sent = rooms.closed(3);
    assert_eq!(sent.len(), 1);
    let (to, left) = (sent[0].0, serde_json::from_str::<Value>(&sent[0].1).unwrap());
    assert_eq!((to, left), (1, out(3000, json!({"username": "girl"}), "对方已挂断")));
    let sent = rooms.closed(1);
    let closed: Value = serde_json::from_str(&sent[0].1).unwrap();
    assert_eq!((sent[0].0, closed), (2, out(10_001, "", "房间yard已经删除，请重新加入其他房间")));
    assert!(rooms.closed(2).is_empty() && rooms.rooms.is_empty() && rooms.seats.is_empty());
}

#[test]
fn random_walks_leave_nothing_behind() {
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..200 {
        let mut rooms = Rooms::default();
        for _ in 0..300 {
            let (from, room, user) = (random(6), random(3), random(4));
            let codes = [2000, 2001, 2001, 2002, 2003, 2004, 2005, 2022, 2222, 3000, 3001, 3002, 1];
            let code = codes[random(codes.len() as u64) as usize];
            let value = json!({"room_name": format!("r{room}"), "username": format!("u{user}"), "sdp": {}, "candidate": {}});
            let sent = if random(20) == 0 {
                rooms.closed(from)
            } else {
                let sent = rooms.receive(from, &message(code, &value.to_string(), ""));
                assert_eq!(sent.last().unwrap().0, from, "the reply comes last");
                assert_eq!(sent.iter().filter(|(to, _)| *to == from).count(), 1, "one reply");
                sent
            };
            assert!(sent.len() <= 8);
            for (conn, seat) in &rooms.seats {
                let room = match seat {
                    Seat::Root { room } => &rooms.rooms[room],
                    Seat::Guest { room, name } => {
                        assert_eq!(rooms.rooms[room].guests[name], *conn);
                        &rooms.rooms[room]
                    }
                };
                assert!(rooms.seats.contains_key(&room.root));
            }
        }
        for conn in 0..6 {
            rooms.closed(conn);
        }
        assert!(rooms.rooms.is_empty() && rooms.seats.is_empty());
    }
}
