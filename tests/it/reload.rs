//! A configuration file that changes while the server runs.

use std::path::Path;

use crate::support::{camera, camera_toml, server, until, within};
use gatehouse::accounts::permissions::{Role, Scopes};
use gatehouse::config::{Config, Overrides};
use gatehouse::demo::DemoOptions;
use gatehouse::names::StreamName;
use gatehouse::reload::{self, Reload};

fn number(server: &crate::support::Server, id: &str) -> Option<u64> {
    server.gatehouse.cameras().stream(&StreamName::camera(id)?).map(|stream| stream.number())
}

/// Writes the file; a new text changes its size or its modification time.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn only_what_changed_is_restarted() {
    let camera = camera(DemoOptions::default()).await;
    let (one, two) = (camera_toml("one", &camera.url(), ""), camera_toml("two", &camera.url(), ""));
    let text = format!("{one}{two}");
    let server = server(&text).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gatehouse.toml");
    write(&file, &text);
    let config = Config::load(Some(&file), &Overrides::default()).unwrap();
    let cameras = server.gatehouse.cameras().clone();
    let (told, mut reloads) = tokio::sync::mpsc::unbounded_channel();
    let on_reload = move |reload| {
        if let Reload::Ended { valid } = reload {
            told.send(valid).unwrap();
        }
    };
    tokio::spawn(reload::follow(file.clone(), Overrides::default(), config, cameras, on_reload));
    let mut viewer = server.watch("one").await;
    let (first, second) = (number(&server, "one"), number(&server, "two"));

    // A broken file changes nothing.
    write(&file, "[[camera]]\nid = ");
    assert_eq!(within("the file is read again", reloads.recv()).await, Some(false));
    assert_eq!((number(&server, "one"), number(&server, "two")), (first, second));
    // Nor does one that an editor or a failed copy has emptied.
    write(&file, "\n");
    assert_eq!(within("the file is read again", reloads.recv()).await, Some(false));
    assert_eq!((number(&server, "one"), number(&server, "two")), (first, second));

    let changed = two.replace("id = \"two\"", "id = \"two\"\nidle_timeout = \"99s\"");
    let three = camera_toml("three", &camera.url(), "name = \"Third\"");
    write(&file, &format!("{one}{changed}{three}"));
    until("the third camera exists", || number(&server, "three")).await;
    assert_eq!(number(&server, "one"), first, "not restarted");
    assert_ne!(number(&server, "two"), second, "restarted");
    viewer.video().await;
    let names: Vec<String> =
        server.gatehouse.cameras().list(|_| true).into_iter().map(|camera| camera.name).collect();
    assert_eq!(names, ["one", "two", "Third"]);

    // A file that a value is read from, such as a password.
    let name = folder.path().join("name");
    write(&name, "Third from a file");
    let three = camera_toml("three", &camera.url(), "name = \"file:name\"");
    write(&file, &format!("{one}{changed}{three}"));
    let is_named = |expected: &str| {
        let list = server.gatehouse.cameras().list(|_| true);
        list.into_iter().any(|camera| camera.name == expected).then_some(())
    };
    until("the name from the file", || is_named("Third from a file")).await;
    write(&name, "Another");
    until("the name changes with its file", || is_named("Another")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_in_the_file_ends_sessions_at_once() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    server.user("anna", Role::Member).await;
    let watch = Scopes { watch: true, ..Scopes::default() };
    let token = server.gatehouse.accounts().add_token("anna", "t", watch, None).await.unwrap();
    let url = url::Url::parse(&server.url("/whep/camera/c")).unwrap();
    let mut viewer = server.watch_with(&url, &token).await.unwrap();
    viewer.video().await;
    let before = number(&server, "c");
    let text = camera_toml("c", &camera.url(), "allow = [\"role:dispatcher\"]");
    let config = Config::parse(&text, "test", Path::new("."), &Overrides::default()).unwrap();
    let start = std::time::Instant::now();
    server.gatehouse.cameras().apply(&config).await.unwrap();
    until("her session is closed", || (server.gatehouse.engine().sessions() == 0).then_some(())).await;
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(number(&server, "c"), before, "the camera itself is not restarted");
}
