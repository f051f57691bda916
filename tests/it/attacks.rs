//! Attacks from outside, against the running program: nobody else notices anything.

use std::time::{Duration, Instant};

use gatehouse::accounts::permissions::{Role, Scopes};
use gatehouse::demo::DemoOptions;
use gatehouse::names::StreamName;
use gatehouse::streams::status::State;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::attacker::{self, Dtls, Session, fragment, offer};
use crate::support::{
    H264, Server, Viewer, bearer, camera, camera_toml, http, is_key_start, server, until, within,
};

/// A stranger's offer, to be answered by us as the DTLS server.
async fn session(server: &Server, more: &str) -> Session {
    let offer = offer("active", &["AB"; 32].join(":"), more);
    attacker::post(&server.url(""), &server.http(), "camera/demo", offer).await.unwrap()
}

/// A picture goes on for a second, without a gap.
async fn goes_on(viewer: &mut Viewer) {
    for _ in 0..25 {
        assert_eq!(viewer.video_where(|packet| packet.marker).await.lost, 0);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dtls_fragments_neither_kill_nor_slow_anybody() {
    let server = server("").await;
    let mut neighbour = server.watch("demo").await;
    neighbour.video().await;
    let session = session(&server, "").await;
    blocking(move || {
        let socket = attacker::socket();
        assert!(session.prove(&socket));
        // Message 0 in 910 fragments of one byte, the first one last; then with the first one first.
        for round in 0..2u64 {
            let offsets = (1..910).chain([0]).map(|offset| if round == 0 { offset } else { 909 - offset });
            for (sequence, offset) in (round * 1000..).zip(offsets) {
                let body = [0u8; 1];
                socket.send_to(&fragment(sequence, 910, offset, &body), session.server).unwrap();
            }
        }
        // Records of the next epoch, before the end of the handshake.
        for sequence in 0..5000u64 {
            let mut record = fragment(sequence, 30, 0, &[7; 30]);
            record[4] = 1;
            socket.send_to(&record, session.server).unwrap();
        }
    })
    .await;
    goes_on(&mut neighbour).await;
    assert!(server.gatehouse.engine().sessions() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_handshake_by_hand_still_works() {
    let server = server("").await;
    let dtls = Dtls::new();
    let offer = offer("active", dtls.fingerprint(), "");
    let session = attacker::post(&server.url(""), &server.http(), "camera/demo", offer).await.unwrap();
    let done = blocking(move || {
        let socket = attacker::socket();
        assert!(session.prove(&socket));
        dtls.handshake(&session, &socket)
    });
    assert!(done.await);
    assert_eq!(server.gatehouse.engine().known_addresses(), 1);
}

/// A session's check from another peer's address, as if it were forged: the answer to our check goes to that peer, and
/// nobody answers it in the attacker's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_cannot_be_taken_over_with_a_forged_check() {
    let server = server("").await;
    let dtls = Dtls::new();
    let offer = offer("active", dtls.fingerprint(), "");
    let victim = attacker::post(&server.url(""), &server.http(), "camera/demo", offer).await.unwrap();
    let thief = session(&server, "").await;
    let engine = server.gatehouse.engine().clone();
    let done = blocking(move || {
        let socket = attacker::socket();
        assert!(victim.prove(&socket));
        while engine.known_addresses() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        for nominate in [true, false, true] {
            socket.send_to(&thief.check(nominate), thief.server).unwrap();
        }
        // Its datagrams are still the victim's.
        dtls.handshake(&victim, &socket)
    });
    assert!(done.await);
    assert_eq!(server.gatehouse.engine().known_addresses(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_from_a_thousand_ports_leave_nothing_behind() {
    let server = server("").await;
    let flooded = session(&server, "").await;
    blocking(move || {
        for _ in 0..1000 {
            attacker::socket().send_to(&flooded.check(true), flooded.server).unwrap();
        }
    })
    .await;
    // A second session's addresses are proven: the engine has worked through the checks before them.
    let roaming = session(&server, "").await;
    blocking(move || {
        for _ in 0..30 {
            assert!(roaming.prove(&attacker::socket()));
        }
    })
    .await;
    let engine = server.gatehouse.engine();
    until("the last ones are proven", || (engine.known_addresses() >= 20).then_some(())).await;
    assert!(engine.known_addresses() <= 24, "{}", engine.known_addresses());
}

/// Somebody else's hosts as candidates: each gets a few packets, whatever restarts come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_candidates_get_few_packets() {
    let server = server("").await;
    let victims: Vec<_> = (0..8).map(|_| attacker::socket()).collect();
    let lines: String = victims
        .iter()
        .map(|victim| {
            let port = victim.local_addr().unwrap().port();
            format!("a=candidate:1 1 udp 1 127.0.0.1 {port} typ host\r\n")
        })
        .collect();
    let mut session = session(&server, &lines).await;
    for restart in 0..10 {
        let fragment = format!("a=ice-ufrag:evil{restart}\r\na=ice-pwd:{}\r\n{lines}", attacker::PWD);
        let request = http().patch(&session.location).header("if-match", session.etag.as_str());
        let request = request.header("content-type", "application/trickle-ice-sdpfrag").body(fragment);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        session.etag = response.headers()["etag"].to_str().unwrap().to_owned();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let count: usize = victims
        .iter()
        .map(|victim| {
            victim.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| victim.recv(&mut [0; 2000]).ok()).count()
        })
        .sum();
    // 40 at once and 40 a minute for a session; each packet was one of them.
    assert!((8..=45).contains(&count), "{count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_never_connects_loses_the_place_whatever_patches_come() {
    let server = server("").await;
    let session = session(&server, "").await;
    assert_eq!(server.gatehouse.engine().sessions(), 1);
    let begun = Instant::now();
    let mut etag = session.etag;
    let mut restart = 0;
    let ended = loop {
        restart += 1;
        let fragment = format!("a=ice-ufrag:evil{restart}\r\na=ice-pwd:{}\r\n", attacker::PWD);
        let request = http().patch(&session.location).header("if-match", etag.as_str());
        let request = request.header("content-type", "application/trickle-ice-sdpfrag").body(fragment);
        let response = request.send().await.unwrap();
        if response.status() == 404 {
            break begun.elapsed();
        }
        etag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert!(begun.elapsed() < Duration::from_secs(30), "still there");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(ended >= Duration::from_secs(14), "{ended:?}: a slow path has its time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_ice_over_tcp_is_closed_and_leaves_room() {
    let server = server("").await;
    let address = server.gatehouse.address();
    // A framed check with an invented name: the first character is that of a shard.
    let check = attacker::stun(1, &[7; 12], &[[&[0, 6, 0, 8][..], b"Abcd:efg"].concat()], "no-password");
    let frame = [&(check.len() as u16).to_be_bytes()[..], &check].concat();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(&frame).await.unwrap();
        connections.push(connection);
    }
    assert_eq!(http().get(server.url("/health")).send().await.unwrap().status(), 200);
    // All of them are closed although each goes on saying something.
    let closing = connections.into_iter().map(|mut connection| async move {
        let mut byte = [0; 1];
        loop {
            tokio::select! {
                read = connection.read(&mut byte) => if matches!(read, Ok(0) | Err(_)) { return },
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    if connection.write_all(&[0, 0]).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    within("all are closed", futures::future::join_all(closing)).await;
    server.watch("demo").await.video().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_guest_does_not_take_all_places() {
    let limits = "[limits]\nsessions_per_account = 5\n[media]\nmax_viewers = 20\n[[camera]]\nid = \"demo\"\nallow = [\"everyone\"]\n";
    let camera = camera(DemoOptions::default()).await;
    let server = server(&format!("{limits}url = \"{}\"\n", camera.url())).await;
    server.user("gus", Role::Guest).await;
    server.user("mia", Role::Member).await;
    let watch = Scopes { watch: true, ..Scopes::default() };
    let token = async |name: &str| {
        bearer(server.gatehouse.accounts().add_token(name, "t", watch, None).await.unwrap().expose())
    };
    let guest = token("gus").await;
    let post = async |client: &reqwest::Client| {
        let offer = offer("active", &["AB"; 32].join(":"), "");
        attacker::post(&server.url(""), client, "camera/demo", offer).await.map(drop)
    };
    for _ in 0..5 {
        post(&guest).await.unwrap();
    }
    assert_eq!(post(&guest).await, Err((503, json!("too_many_of_account"))));
    // A second token is the same account.
    assert_eq!(post(&token("gus").await).await, Err((503, json!("too_many_of_account"))));
    post(&token("mia").await).await.unwrap();
    let admin = server.http();
    for _ in 0..14 {
        post(&admin).await.unwrap();
    }
    assert_eq!(post(&admin).await, Err((503, json!("too_many_viewers"))), "in all there are 20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_publishers_at_once_one_is_taken() {
    let server = server("[[camera]]\nid = \"stage\"\nurl = \"whip:\"\n").await;
    let publish = Scopes { publish: true, ..Scopes::default() };
    let mut clients = Vec::new();
    for _ in 0..40 {
        let token = server.gatehouse.accounts().add_token("admin", "t", publish, None).await.unwrap();
        clients.push(bearer(token.expose()));
    }
    let offer = offer("active", &["AB"; 32].join(":"), "").replace("recvonly", "sendonly");
    let posting = clients.iter().map(|client| {
        let request = client.post(server.url("/whip/camera/stage")).header("content-type", "application/sdp");
        let request = request.body(offer.clone());
        async move { request.send().await.unwrap().status().as_u16() }
    });
    let mut found = futures::future::join_all(posting).await;
    found.sort_unstable();
    assert_eq!((found[0], found[1], found[39]), (201, 409, 409), "{found:?}");
}

/// A server that answers every request with this, and counts the requests that have a token.
async fn hostile(answer: Vec<u8>) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heads = seen.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut connection, _)) = listener.accept().await else { return };
            let (answer, heads) = (answer.clone(), heads.clone());
            tokio::spawn(async move {
                let mut head = vec![0; 16 * 1024];
                let length = connection.read(&mut head).await.unwrap_or_default();
                heads.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).into_owned());
                let _ = connection.write_all(&answer).await;
                // As much as anybody takes.
                while connection.write_all(&[b'x'; 65_536]).await.is_ok() {}
            });
        }
    });
    (format!("whep://{address}/whep/x"), seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whep_server_that_never_stops_answering_is_cut_off() {
    let endless =
        "HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nContent-Length: 3000000000\r\n\r\nv=0\r\n";
    let (url, _) = hostile(endless.into()).await;
    let server = server(&camera_toml("evil", &url, "token = \"secret\"")).await;
    let status = server.wait_for("evil", "cut off", |status| status.state == State::Failed).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "camera_protocol");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_goes_to_no_other_origin() {
    let (thief, stolen) = hostile(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let thief = thief.replace("whep:", "http:");
    for answer in [
        format!(
            "HTTP/1.1 201 Created\r\nLocation: {thief}\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        ),
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {thief}\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (url, seen) = hostile(answer.into_bytes()).await;
        let server = server(&camera_toml("evil", &url, "token = \"secret\"")).await;
        server
            .wait_for("evil", "given up", |status| matches!(status.state, State::Failed | State::Retrying))
            .await;
        assert!(seen.lock().unwrap()[0].to_lowercase().contains("bearer secret"));
        drop(server);
    }
    // A DELETE would have come by now: it leaves before the failure is told.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*stolen.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_panics_is_closed_alone() {
    let server = server("").await;
    let mut neighbour = server.watch("demo").await;
    neighbour.video().await;
    // As many that the neighbour's shard has some of them, too.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(session(&server, "").await);
    }
    let engine = server.gatehouse.engine();
    for other in &others {
        let id = other.location.rsplit('/').next().unwrap();
        engine.sink(gatehouse::ids::SessionId::parse(id).unwrap());
    }
    until("those that panicked are gone", || (engine.sessions() == 1).then_some(())).await;
    goes_on(&mut neighbour).await;
    let mut another = server.watch("demo").await;
    another.video_where(|packet| is_key_start(&packet.payload)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_panics_is_closed_alone() {
    let camera = camera(DemoOptions::default()).await;
    let both = camera_toml("one", &camera.url(), "") + &camera_toml("two", &camera.url(), "");
    let server = server(&both).await;
    let (mut one, mut two) = (server.watch("one").await, server.watch("two").await);
    one.video().await;
    two.video().await;
    let stream = server.gatehouse.cameras().stream(&StreamName::camera("one").unwrap()).unwrap();
    stream.sink().await;
    let failed = server.wait_for("one", "failed", |status| status.state == State::Failed).await;
    assert_eq!(failed.reason.as_ref().unwrap().code, "internal");
    goes_on(&mut two).await;
    assert_eq!(server.gatehouse.engine().sessions(), 2, "its viewers wait for it");
}

/// An admin changes a camera's address while somebody waits for its picture.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_camera_that_is_changed_is_told_to_come_again() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://{}/x", silent.local_addr().unwrap());
    let server = server(&camera_toml("c", &url, "")).await;
    let client = server.http();
    let post = async {
        let request = client.post(server.url("/whep/camera/c")).header("content-type", "application/sdp");
        let response = request.body(crate::support::offer(H264)).send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        (status, body["error"]["code"].clone())
    };
    let camera = camera(DemoOptions::default()).await;
    let change = async {
        silent.accept().await.unwrap();
        let text = camera_toml("c", &camera.url(), "");
        let overrides = gatehouse::config::Overrides::default();
        let path = std::path::Path::new(".");
        let config = gatehouse::config::Config::parse(&text, "test", path, &overrides).unwrap();
        server.gatehouse.cameras().apply(&config).await.unwrap();
    };
    let (answer, ()) = within("an answer", async { tokio::join!(post, change) }).await;
    assert_eq!(answer, (409, json!("camera_removed")));
    server.watch("c").await.video().await;
}

#[tokio::test]
async fn tickets_end_with_the_token_that_made_them_and_all_at_once() {
    let server = server("").await;
    let ada = server.user("ada", Role::Admin).await;
    let accounts = server.gatehouse.accounts();
    let share = Scopes { watch: true, share: true, ..Scopes::default() };
    let token = bearer(accounts.add_token("ada", "shop", share, None).await.unwrap().expose());
    let ticket = async |client: &reqwest::Client| {
        let (status, body) = server.send(client, "POST", "/api/tickets", json!({ "camera": "demo" })).await;
        assert_eq!(status, 201, "{body}");
        bearer(body["token"].as_str().unwrap())
    };
    let (by_token, by_login) = (ticket(&token).await, ticket(&ada).await);
    let works = async |client: &reqwest::Client| {
        client.get(server.url("/whep/camera/demo")).send().await.unwrap().status() == 200
    };
    assert!(works(&by_token).await && works(&by_login).await);
    let list = server.get(&ada, "/api/me/tickets").await;
    let names: Vec<_> = list["tickets"].as_array().unwrap().iter().map(|ticket| &ticket["token"]).collect();
    assert_eq!(names, [&Value::Null, &json!("shop")]);
    let id = accounts.tokens("ada").await.unwrap()[0].id;
    accounts.end_token("ada", id).await.unwrap();
    assert!(!works(&by_token).await && works(&by_login).await, "it ended with its token");
    let another = ticket(&ada).await;
    let (status, _) = server.send(&ada, "DELETE", "/api/me/credentials", Value::Null).await;
    assert_eq!(status, 204);
    assert!(!works(&by_login).await && !works(&another).await);
    let me = server.get(&ada, "/api/me").await;
    assert_eq!(me, Value::Null, "this login, too");
}

#[tokio::test]
async fn without_tls_other_names_are_refused() {
    let server = server("hosts = [\"gate.example\"]\n[tls]\nmode = \"off\"\n").await;
    let port = server.gatehouse.address().port();
    for (host, expected) in [
        ("127.0.0.1", 200),
        ("[::1]", 200),
        ("localhost", 200),
        ("GATE.example", 200),
        ("evil.example", 421),
        ("gate.example.evil.example", 421),
    ] {
        let request = http().get(server.url("/health")).header("host", format!("{host}:{port}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), expected, "{host}");
        assert!(response.headers().get("strict-transport-security").is_none());
    }
    let ca = http().get(server.url("/ca.crt")).send().await.unwrap();
    assert_eq!(ca.status(), 404, "there is no certificate to be trusted");
}
