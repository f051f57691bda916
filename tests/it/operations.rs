//! The program through full disks, wrong clocks and lost files: run as a process, as systemd would.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

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
