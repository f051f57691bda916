//! The program through full disks, wrong clocks and lost files: run as a process, as systemd would.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::{PASSWORD, http, with_headers, within};

/// A running program.
pub struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    seen: Vec<String>,
    port: u16,
}

impl Program {
    /// Runs a server with its data in `data`, by a command line that ends before the program's own, such as `env X=1`.
    pub async fn start(before: &[&str], data: &Path) -> Self {
        let program = env!("CARGO_BIN_EXE_gatehouse");
        let own = [program, "serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
        let line: Vec<&str> = before.iter().copied().chain(own).collect();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env_remove("GATEHOUSE_CONFIG").env("GATEHOUSE_ADMIN_PASSWORD", PASSWORD);
        command.env("GATEHOUSE_MEDIA_LISTEN", "127.0.0.1").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut program = Self { child, log, seen: Vec::new(), port: 0 };
        let started = program.says("started version=").await;
        program.port = started.rsplit(':').next().unwrap().trim().parse().unwrap();
        program
    }

    /// Waits for a line in the log that contains this.
    pub async fn says(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            let line = within(text, self.log.next_line()).await.unwrap();
            let Some(line) = line else { panic!("{text}: the program has ended: {:?}", self.seen) };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and JSON of a request.
    async fn send(&self, cookie: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let client = with_headers(&[("cookie", cookie), ("origin", &self.url(""))]);
        let mut request = client.request(method.parse().unwrap(), self.url(path));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    /// Logs in; returns the cookie.
    async fn log_in(&self) -> String {
        let body = json!({ "name": "admin", "password": PASSWORD }).to_string();
        let request =
            http().post(self.url("/api/login")).header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "login");
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Waits until `GET /ready` reports these problems.
    async fn reports(&self, problems: &[&str]) {
        let look = async {
            while self.send("", "GET", "/ready", None).await.1["problems"] != json!(problems) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        within(&format!("problems {problems:?}"), look).await;
    }

    /// A path as the program sees it, in its mount namespace.
    fn inside(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.child.id().unwrap(), path.display()))
    }

    async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
        assert!(within("the end", self.child.wait()).await.unwrap().success());
    }
}

/// Writes until there is no space left.
fn fill(file: &Path) {
    let block = vec![b'x'; 1 << 16];
    let mut content = Vec::new();
    while std::fs::write(file, &content).is_ok() {
        content.extend(&block);
    }
    for length in (0..1 << 16).rev().step_by(512) {
        if std::fs::write(file.with_extension("rest"), &block[..length]).is_ok() {
            break;
        }
    }
}

#[tokio::test]
#[ignore = "needs root, for a small file system of its own"]
async fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let script = format!("mount -t tmpfs -o size=2m none {disk} && exec \"$@\"");
    let before = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let data = folder.path().join("data");
    let mut program = Program::start(&before, &data).await;
    let earlier = program.log_in().await;
    program.reports(&[]).await;
    let filler = program.inside(&folder.path().join("filler"));
    fill(&filler);
    let add =
        |name: &str| Some(json!({ "name": name, "display": "", "role": "member", "password": PASSWORD }));
    // The space that the database has reserved for itself lasts for some changes.
    let mut number = 0;
    let refused = loop {
        number += 1;
        let answer = program.send(&earlier, "POST", "/api/admin/users", add(&format!("user-{number}"))).await;
        if answer.0 != 201 {
            break answer;
        }
    };
    assert_eq!((refused.0, refused.1["error"]["code"].as_str()), (507, Some("disk_full")), "{refused:?}");
    program.reports(&["disk_full"]).await;
    let health = program.send(&earlier, "GET", "/api/admin/health", None).await.1;
    assert_eq!(health["problems"][0]["code"], "disk_full");
    program.says("code=\"disk_full\"").await;
    // Logins go on, old and new ones; what only reads does, too.
    let new = program.log_in().await;
    for cookie in [&earlier, &new] {
        assert_eq!(program.send(cookie, "GET", "/api/me", None).await.1["name"], "admin");
        assert_eq!(program.send(cookie, "GET", "/api/admin/users", None).await.0, 200);
    }
    assert_eq!(
        program.send(&new, "GET", "/api/me/logins", None).await.1["logins"].as_array().unwrap().len(),
        2
    );
    let change = json!({ "language": "zh", "display": "A" });
    assert_eq!(program.send(&new, "PUT", "/api/me", Some(change)).await.0, 507);
    // There is space again: everything is stored, also what has waited.
    std::fs::remove_file(&filler).unwrap();
    program.reports(&[]).await;
    program.says("can be written again").await;
    let log = program.send(&new, "GET", "/api/admin/log?action=login", None).await.1;
    let details: Vec<&str> =
        log["entries"].as_array().unwrap().iter().map(|entry| entry["detail"].as_str().unwrap()).collect();
    assert!(details.len() == 2 && details[0].contains("written late"), "{log}");
    assert_eq!(program.send(&new, "POST", "/api/admin/users", add("last")).await.0, 201);
    // Nothing is half written.
    let users = program.send(&new, "GET", "/api/admin/users", None).await.1;
    assert_eq!(users["users"].as_array().unwrap().len(), number + 1);
    let copy = folder.path().with_extension("copy");
    std::fs::create_dir_all(&copy).unwrap();
    let (inside, pid) = (program.inside(&data), program.child.id().unwrap());
    let held = tokio::fs::File::open(format!("/proc/{pid}/ns/mnt")).await.unwrap();
    let database = std::fs::File::open(inside.join("gatehouse.db")).unwrap();
    program.stop().await;
    drop(held);
    std::io::copy(&mut &database, &mut std::fs::File::create(copy.join("gatehouse.db")).unwrap()).unwrap();
    let again = Program::start(&["env"], &copy).await;
    assert_eq!(
        again
            .send(&new.replacen(&number_of(&new), &again.port.to_string(), 1), "GET", "/api/me", None)
            .await
            .1["name"],
        "admin"
    );
    again.stop().await;
    std::fs::remove_dir_all(&copy).unwrap();
}

/// The port in a cookie's name.
fn number_of(cookie: &str) -> String {
    cookie.split('=').next().unwrap().rsplit('-').next().unwrap().to_owned()
}

/// A machine's clock for [`Program::start`], by libfaketime: an absolute time from which it runs, in a file that may be
/// written again. The monotonic clocks stay as they are, as in a kernel.
struct FakeClock {
    file: PathBuf,
    variables: Vec<String>,
}

impl FakeClock {
    fn new(folder: &Path, time: &str) -> Self {
        let file = folder.join("clock");
        let library = std::fs::read_dir("/usr/lib").unwrap().filter_map(|entry| {
            let path = entry.unwrap().path().join("faketime/libfaketimeMT.so.1");
            path.exists().then_some(path)
        });
        let library = library.last().expect("the package libfaketime");
        let variables = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        let clock = Self { file, variables };
        clock.set(time);
        clock
    }

    /// Sets the clock, as `ntpd` would: `+10y` is ten years from now.
    fn set(&self, time: &str) {
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{time}\n")).unwrap();
        std::fs::rename(&fresh, &self.file).unwrap();
    }

    fn before(&self) -> Vec<&str> {
        self.variables.iter().map(String::as_str).collect()
    }
}

impl Program {
    /// The validity of the certificate that is served, and of the authority: not before, not after, in seconds.
    async fn certificates(&self) -> [(i64, i64); 2] {
        let text = http().get(self.url("/ca.crt")).send().await.unwrap().text().await.unwrap();
        let authority = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        [self.served().await, authority].map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
            let validity = certificate.validity();
            (validity.not_before.timestamp(), validity.not_after.timestamp())
        })
    }

    async fn served(&self) -> CertificateDer<'static> {
        let config = crate::acme::accepting_anything();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
}

fn seconds_now() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

#[tokio::test]
#[ignore = "needs Debian's libfaketime: see tests/run.sh"]
async fn a_first_start_in_1970() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new(folder.path(), "@1970-01-01 00:01:00");
    let mut program = Program::start(&clock.before(), &folder.path().join("data")).await;
    program.says("code=\"clock_wrong\"").await;
    let cookie = program.log_in().await;
    let health = program.send(&cookie, "GET", "/api/admin/health", None).await.1;
    assert_eq!(health["problems"][0]["code"], "clock_wrong");
    let early = program.certificates().await;
    // The time comes: a year after the build.
    clock.set("+1y");
    program.says("the machine's clock has been set").await;
    let later = seconds_now() + 365 * 86_400;
    for (not_before, not_after) in program.certificates().await.into_iter().chain([early[1]]) {
        assert!((not_before..not_after).contains(&later), "{not_before} {not_after} {later}");
    }
    assert_eq!(program.send(&cookie, "GET", "/api/me", None).await.1["name"], "admin", "the login survives");
    assert_eq!(program.send(&cookie, "GET", "/api/admin/health", None).await.1["problems"], json!([]));
    let log = program.send(&cookie, "GET", "/api/admin/log?action=login", None).await.1;
    let at = log["entries"][0]["at"].as_i64().unwrap() / 1000;
    assert!((later - 600..later + 600).contains(&at), "the log has the right time: {at}, {later}");
    program.stop().await;
}

#[tokio::test]
#[ignore = "needs Debian's libfaketime: see tests/run.sh"]
async fn clocks_that_jump_by_years() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let clock = FakeClock::new(folder.path(), "+0");
    let mut program = Program::start(&clock.before(), &data).await;
    let cookie = program.log_in().await;
    assert_eq!(http().get(program.url("/ca.crt")).send().await.unwrap().status(), 200);
    let tickets = json!({ "camera": "demo", "seconds": 3600 });
    let ticket = program.send(&cookie, "POST", "/api/tickets", Some(tickets)).await.1;
    let path = format!("/api/cameras/{}", "demo");
    for (time, count) in [("+10y", 1), ("+0", 2), ("+20y", 3), ("+0", 4)] {
        clock.set(time);
        while program.seen.iter().filter(|line| line.contains("clock has been set")).count() < count {
            let line = within("the step is noticed", program.log.next_line()).await.unwrap().unwrap();
            program.seen.push(line);
        }
        assert_eq!(program.send(&cookie, "GET", "/api/me", None).await.1["name"], "admin", "{time}");
        let client = crate::support::bearer(ticket["token"].as_str().unwrap());
        assert_eq!(client.get(program.url(&path)).send().await.unwrap().status(), 200, "the ticket: {time}");
        let log = program.send(&cookie, "GET", "/api/admin/log?action=login", None).await.1;
        assert_eq!(log["entries"].as_array().unwrap().len(), 1, "{time}");
    }
    program.stop().await;
    // A start in a wrong year deletes nothing, and the authority that a device trusts stays.
    clock.set("+12y");
    let mut wrong = Program::start(&clock.before(), &data).await;
    wrong.says("code=\"authority_invalid\"").await;
    wrong.reports(&["authority_invalid"]).await;
    let new = wrong.log_in().await;
    let log = wrong.send(&new, "GET", "/api/admin/log?action=login", None).await.1;
    assert_eq!(log["entries"].as_array().unwrap().len(), 2);
    clock.set("+0");
    wrong.says("the machine's clock has been set").await;
    wrong.reports(&[]).await;
    let moved = new.replacen(&number_of(&new), &wrong.port.to_string(), 1);
    assert_eq!(wrong.send(&moved, "GET", "/api/me", None).await.1["name"], "admin", "the new login");
    let old = cookie.replacen(&number_of(&cookie), &wrong.port.to_string(), 1);
    assert_eq!(wrong.send(&old, "GET", "/api/me", None).await.1["name"], "admin", "and the old one");
    wrong.stop().await;
}

#[tokio::test]
#[ignore = "needs Debian's libfaketime: see tests/run.sh"]
async fn an_authority_of_a_wrong_year_is_made_again_unless_devices_trust_it() {
    let folder = tempfile::tempdir().unwrap();
    for given in [false, true] {
        let data = folder.path().join(format!("data-{given}"));
        let clock = FakeClock::new(folder.path(), "+12y");
        let program = Program::start(&clock.before(), &data).await;
        if given {
            assert_eq!(http().get(program.url("/ca.crt")).send().await.unwrap().status(), 200);
        }
        program.stop().await;
        clock.set("+0");
        let program = Program::start(&clock.before(), &data).await;
        program.reports(if given { &["authority_invalid"] } else { &[] }).await;
        let facts = program.send("", "GET", "/api/onboarding", None).await.1;
        assert_eq!(facts["valid"], !given);
        program.stop().await;
    }
}

/// Runs the program until it ends by itself; returns what it says.
async fn refusal(data: &Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]).args(more);
    command.env_remove("GATEHOUSE_CONFIG").env("GATEHOUSE_ADMIN_PASSWORD", PASSWORD).kill_on_drop(true);
    let output = within("it refuses", command.output()).await.unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_lost_authority_is_not_replaced_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let program = Program::start(&["env"], &data).await;
    let before = program.send("", "GET", "/api/onboarding", None).await.1;
    // No device trusts it: it may go.
    program.stop().await;
    std::fs::remove_dir_all(data.join("tls")).unwrap();
    let program = Program::start(&["env"], &data).await;
    let second = program.send("", "GET", "/api/onboarding", None).await.1;
    assert_ne!(before["fingerprint"], second["fingerprint"]);
    assert_eq!(http().get(program.url("/ca.crt")).send().await.unwrap().status(), 200);
    program.stop().await;
    let key = data.join("tls/ca.key");
    let content = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let text = refusal(&data, &[]).await;
    assert!(text.contains("ca.key is missing beside") && text.contains("--new-authority"), "{text}");
    std::fs::write(&key, "").unwrap();
    let text = refusal(&data, &[]).await;
    assert!(text.contains("ca.key: not a key"), "{text}");
    std::fs::rename(data.join("tls"), data.join("gone")).unwrap();
    let text = refusal(&data, &[]).await;
    assert!(text.contains("that devices trust") && text.contains("--new-authority"), "{text}");
    // It comes back.
    std::fs::rename(data.join("gone"), data.join("tls")).unwrap();
    std::fs::write(&key, content).unwrap();
    std::fs::write(data.join("tls/server.key"), "").unwrap();
    let program = Program::start(&["env"], &data).await;
    assert_eq!(program.send("", "GET", "/api/onboarding", None).await.1, second);
    program.stop().await;
}

#[tokio::test]
async fn the_log_of_another_database_is_not_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let (data, old) = (folder.path().join("data"), folder.path().join("old.db"));
    let database = data.join("gatehouse.db");
    let add =
        |name: &str| Some(json!({ "name": name, "display": "", "role": "member", "password": PASSWORD }));
    let program = Program::start(&["env"], &data).await;
    let cookie = program.log_in().await;
    program.stop().await;
    std::fs::copy(&database, &old).unwrap();
    // Killed: its changes are in the write-ahead log. A start of the same database goes on with them.
    let mut program = Program::start(&["env"], &data).await;
    let cookie = cookie.replacen(&number_of(&cookie), &program.port.to_string(), 1);
    assert_eq!(program.send(&cookie, "POST", "/api/admin/users", add("anna")).await.0, 201);
    program.child.kill().await.unwrap();
    let mut program = Program::start(&["env"], &data).await;
    let cookie = cookie.replacen(&number_of(&cookie), &program.port.to_string(), 1);
    assert_eq!(program.send(&cookie, "POST", "/api/admin/users", add("bert")).await.0, 201);
    let users = program.send(&cookie, "GET", "/api/admin/users", None).await.1;
    assert_eq!(users["users"].as_array().unwrap().len(), 3);
    program.child.kill().await.unwrap();
    // An earlier copy is put in its place by hand.
    std::fs::copy(&old, &database).unwrap();
    for text in [
        refusal(&data, &[]).await,
        String::from_utf8(
            Command::new(env!("CARGO_BIN_EXE_gatehouse"))
                .args(["user", "list", "--data", data.to_str().unwrap()])
                .output()
                .await
                .unwrap()
                .stderr,
        )
        .unwrap(),
    ] {
        assert!(text.contains("gatehouse.db-wal is left over from another database"), "{text}");
    }
    for side in ["gatehouse.db-wal", "gatehouse.db-shm"] {
        std::fs::remove_file(data.join(side)).unwrap();
    }
    let program = Program::start(&["env"], &data).await;
    let cookie = cookie.replacen(&number_of(&cookie), &program.port.to_string(), 1);
    let users = program.send(&cookie, "GET", "/api/admin/users", None).await.1;
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
    program.stop().await;
}

#[tokio::test]
async fn a_data_folder_that_vanishes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, moved) = (folder.path().join("data"), folder.path().join("moved"));
    let mut program = Program::start(&["env"], &data).await;
    program.reports(&[]).await;
    std::fs::rename(&data, &moved).unwrap();
    program.reports(&["data_lost"]).await;
    program.says("changes will be lost").await;
    std::fs::rename(&moved, &data).unwrap();
    program.reports(&[]).await;
    program.stop().await;
}
