//! Signaling over real sockets: a call from the invitation to the history, a broken socket, and bad frames. The
//! decisions of the core are tested in its own module.

use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use gatehouse::accounts::permissions::Role;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::{PASSWORD, Server, http, server, server_in, within};

struct Client {
    socket: Socket,
    session: String,
    last: u64,
    next: u64,
}

async fn cookie(server: &Server, name: &str) -> String {
    let body = json!({ "name": name, "password": PASSWORD }).to_string();
    let request = http().post(server.url("/api/login")).header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(server: &Server, cookie: &str) -> Socket {
    try_open(server, cookie).await.unwrap()
}

async fn try_open(server: &Server, cookie: &str) -> Result<Socket, tokio_tungstenite::tungstenite::Error> {
    let mut request = server.url("/api/ws").replace("http:", "ws:").into_client_request().unwrap();
    for (name, value) in
        [("sec-websocket-protocol", "gatehouse.v1"), ("cookie", cookie), ("origin", &server.url(""))]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

impl Client {
    async fn connect(server: &Server, cookie: &str, device: &str, resume: Option<&Self>) -> Self {
        let socket = open(server, cookie).await;
        let mut client = Self { socket, session: String::new(), last: 0, next: 0 };
        let resume = resume.map(|old| json!({ "session": old.session, "last_seq": old.last }));
        let resumes = resume.is_some();
        let hello = json!({ "id": "h", "type": "hello", "body": { "device": device, "resume": resume } });
        client.socket.send(Message::Text(hello.to_string().into())).await.unwrap();
        let welcome = client.frame().await;
        assert_eq!((&welcome["type"], &welcome["body"]["resumed"]), (&json!("welcome"), &json!(resumes)));
        client.session = welcome["body"]["session"].as_str().unwrap().to_owned();
        client
    }

    async fn frame(&mut self) -> Value {
        loop {
            let message = within("a frame", self.socket.next()).await.unwrap().unwrap();
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).unwrap();
                self.last = frame["seq"].as_u64().unwrap_or(self.last);
                return frame;
            }
        }
    }

    async fn error(&mut self) -> Value {
        loop {
            let frame = self.frame().await;
            if !frame["error"].is_null() {
                return frame["error"].clone();
            }
        }
    }

    async fn event(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame["body"].clone();
            }
        }
    }

    async fn request(&mut self, kind: &str, body: Value) -> Value {
        self.next += 1;
        let id = self.next.to_string();
        let text = json!({ "id": id, "type": kind, "body": body }).to_string();
        self.socket.send(Message::Text(text.into())).await.unwrap();
        loop {
            let frame = self.frame().await;
            if frame["re"] == id.as_str() {
                return frame;
            }
        }
    }
}

#[tokio::test]
async fn a_call_from_the_invitation_to_the_history() {
    let server = server("").await;
    let (anna, bert) = (server.user("anna", Role::Member).await, server.user("bert", Role::Member).await);
    let (anna_cookie, bert_cookie) = (cookie(&server, "anna").await, cookie(&server, "bert").await);
    let mut a = Client::connect(&server, &anna_cookie, "a", None).await;
    let mut b = Client::connect(&server, &bert_cookie, "b", None).await;
    let told = a.event("presence").await;
    assert!(told["people"].as_array().unwrap().iter().any(|person| person["name"] == "bert"), "{told}");
    let call = a.request("call.invite", json!({ "to": "bert", "video": true })).await["body"]["call"].clone();
    assert_eq!(b.event("call.incoming").await["from"], "anna");
    b.request("call.accept", json!({ "call": call })).await;
    assert_eq!(a.event("call.accepted").await["polite"], false);
    a.request("call.signal", json!({ "call": call, "payload": { "sdp": "x" } })).await;
    assert_eq!(b.event("call.signal").await["payload"]["sdp"], "x");
    a.request("call.hangup", json!({ "call": call })).await;
    assert_eq!(b.event("call.ended").await["reason"], "hangup");
    // A missed call.
    let call = a.request("call.invite", json!({ "to": "bert" })).await["body"]["call"].clone();
    a.request("call.hangup", json!({ "call": call })).await;
    assert_eq!(b.event("call.ended").await["missed"], true);
    let calls = within("the history", async {
        loop {
            let calls = server.get(&bert, "/api/calls").await["calls"].clone();
            if calls.as_array().unwrap().len() == 2 {
                return calls;
            }
        }
    })
    .await;
    assert_eq!((&calls[0]["missed"], &calls[0]["outgoing"]), (&json!(true), &json!(false)));
    assert_eq!((&calls[1]["missed"], &calls[1]["reason"]), (&json!(false), &json!("hangup")));
    assert_eq!(server.send(&bert, "PUT", "/api/calls/seen", json!(null)).await.0, 204);
    assert_eq!(server.get(&bert, "/api/calls?peer=Anna").await["calls"][0]["missed"], false);
    assert_eq!(server.get(&anna, "/api/calls").await["calls"][0]["outgoing"], true);
    assert_eq!(server.get(&server.log_in("admin").await, "/api/calls").await["calls"], json!([]));
}

#[tokio::test]
async fn a_broken_socket_loses_nothing() {
    let server = server("").await;
    server.user("anna", Role::Member).await;
    server.user("bert", Role::Member).await;
    let (anna_cookie, bert_cookie) = (cookie(&server, "anna").await, cookie(&server, "bert").await);
    let mut a = Client::connect(&server, &anna_cookie, "a", None).await;
    let mut b = Client::connect(&server, &bert_cookie, "b", None).await;
    let call = a.request("call.invite", json!({ "to": "bert" })).await["body"]["call"].clone();
    b.request("call.accept", json!({ "call": call })).await;
    // The TCP connection breaks without a closing handshake.
    let old = Client { socket: open(&server, &bert_cookie).await, ..b };
    for number in 0..10 {
        a.request("call.signal", json!({ "call": call, "payload": number })).await;
    }
    let mut b = Client::connect(&server, &bert_cookie, "b", Some(&old)).await;
    for number in 0..10 {
        assert_eq!(b.event("call.signal").await["payload"], number, "in order, nothing lost");
    }
    // Request ids continue: a known id would get its old answer.
    b.next = old.next;
    b.request("call.connected", json!({ "call": call })).await;
    a.event("call.connected").await;
}

#[tokio::test]
async fn bad_frames_are_refused() {
    let server = server("").await;
    server.user("anna", Role::Member).await;
    let anna = cookie(&server, "anna").await;
    let mut client = Client::connect(&server, &anna, "a", None).await;
    for (text, code) in [
        ("rubbish", "bad_frame"),
        (r#"{"id":"1","type":"call.accept","body":{}}"#, "bad_body"),
        (r#"{"id":"1","type":"hello","body":{"device":"b"}}"#, "hello_again"),
        (r#"{"id":"1","type":"none"}"#, "unknown_type"),
    ] {
        client.socket.send(Message::Text(text.into())).await.unwrap();
        assert_eq!(client.error().await["code"], code, "{text}");
    }
    let unknown = client.request("call.hangup", json!({ "call": 77 })).await;
    assert_eq!(unknown["error"]["code"], "call_gone");
    client.socket.send(Message::Text("x".repeat(70_000).into())).await.unwrap();
    let end = within("the socket is closed", async {
        while let Some(Ok(message)) = client.socket.next().await {
            if message.is_close() {
                break;
            }
        }
    });
    end.await;
    let mut binary = Client::connect(&server, &anna, "a", None).await;
    binary.socket.send(Message::Binary(vec![1, 2, 3].into())).await.unwrap();
    let closed = within("closed", async {
        loop {
            if let Message::Close(Some(frame)) = binary.socket.next().await.unwrap().unwrap() {
                return u16::from(frame.code);
            }
        }
    });
    assert_eq!(closed.await, 1003);
}

#[tokio::test]
async fn sockets_count_among_an_addresss_connections() {
    let server = server("[limits]\nconnections_per_address = 8\n").await;
    server.user("anna", Role::Member).await;
    let anna = cookie(&server, "anna").await;
    let mut held = Vec::new();
    while held.len() < 9 {
        match within("an answer", try_open(&server, &anna)).await {
            Ok(socket) => held.push(socket),
            Err(_) => break,
        }
    }
    // The connection of the login request may still be open.
    assert!((7..=8).contains(&held.len()), "{} sockets", held.len());
}

#[tokio::test]
async fn a_proxys_connections_are_those_of_many_addresses() {
    let limits = "trusted_proxies = [\"127.0.0.1\"]\n[limits]\nconnections_per_address = 8\n";
    let server = server(limits).await;
    server.user("anna", Role::Member).await;
    let anna = cookie(&server, "anna").await;
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(within("an answer", open(&server, &anna)).await);
    }
}

/// The media between two browsers outlives the server: the call does, too.
#[tokio::test]
async fn a_call_goes_on_after_a_restart_once_both_sides_claim_it() {
    let data = Arc::new(tempfile::tempdir().unwrap());
    let first = server_in(data.clone(), "127.0.0.1:0", "").await;
    first.user("anna", Role::Member).await;
    first.user("bert", Role::Member).await;
    let (anna, bert) = (cookie(&first, "anna").await, cookie(&first, "bert").await);
    let mut a = Client::connect(&first, &anna, "a", None).await;
    let mut b = Client::connect(&first, &bert, "b", None).await;
    let call = a.request("call.invite", json!({ "to": "bert", "video": true })).await["body"]["call"].clone();
    b.event("call.incoming").await;
    b.request("call.accept", json!({ "call": call })).await;
    a.event("call.accepted").await;
    drop((a, b, first));

    // Cookies are named after the port, which another test may take meanwhile.
    let second = server_in(data, "127.0.0.1:0", "").await;
    let renamed = |cookie: &str| {
        format!("gatehouse-{}={}", second.gatehouse.address().port(), cookie.split_once('=').unwrap().1)
    };
    let mut a = Client::connect(&second, &renamed(&anna), "a", None).await;
    let mut b = Client::connect(&second, &renamed(&bert), "b", None).await;
    let claim = |peer: &str, outgoing: bool| json!({ "call": call, "peer": peer, "outgoing": outgoing, "video": true, "talked": 75 });
    let answer = a.request("call.claim", claim("bert", true)).await;
    assert_eq!(answer["body"]["state"], "waiting", "{answer}");
    // An invented call, and somebody else's part of this one.
    let invented = json!({ "call": 999_999, "peer": "anna", "outgoing": false, "video": true, "talked": 1 });
    assert_eq!(b.request("call.claim", invented).await["error"]["code"], "call_gone");
    b.request("call.claim", claim("anna", false)).await;
    assert_eq!(a.event("call.restored").await["call"], call);
    // It is a call like any other: frames pass, and it ends.
    let signal = json!({ "call": call, "payload": { "again": true } });
    assert!(a.request("call.signal", signal).await["error"].is_null());
    assert_eq!(b.event("call.signal").await["payload"]["again"], true);
    assert!(b.request("call.hangup", json!({ "call": call, "failed": false })).await["error"].is_null());
    assert_eq!(a.event("call.ended").await["reason"], "hangup");
}
