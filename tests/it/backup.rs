//! Backup while a server works, and restore elsewhere.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gatehouse::accounts::permissions::Role;

use crate::support::{server, server_in};

async fn gatehouse(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command
        .args(arguments)
        .env_remove("GATEHOUSE_CONFIG")
        .env_remove("GATEHOUSE_DATA")
        .output()
        .await
        .unwrap()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_whole_and_can_be_restored_elsewhere() {
    let first = server("").await;
    first.user("anna", Role::Member).await;
    let authority = first.gatehouse.tls().authority().unwrap().fingerprint.clone();
    // Somebody writes all the time, in pairs.
    let (accounts, stop) = (first.gatehouse.accounts().clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            let group = format!("g{}", number % 50);
            accounts.set_group(&group, vec!["anna".to_owned()]).await.unwrap();
            number += 1;
        }
        number
    });
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    let file = elsewhere.path().join("backup.tar");
    let data = first.data.path().join("data");
    for _ in 0..2 {
        let output = gatehouse(&["backup", text(&file), "--data", text(&data)]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    assert!(written > 0);

    let refused = gatehouse(&["restore", text(&file), "--data", text(&data)]).await;
    assert!(error(&refused).contains("is in use by another server"), "{}", error(&refused));

    let target = elsewhere.path().join("data");
    let output = gatehouse(&["restore", text(&file), "--data", text(&target)]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let second = server_in(elsewhere.clone(), "127.0.0.1:0", "").await;
    second.log_in("anna").await;
    assert_eq!(second.gatehouse.tls().authority().unwrap().fingerprint, authority);
    let groups = second.get(&second.http(), "/api/admin/groups").await;
    let groups = groups["groups"].as_array().unwrap();
    assert!(
        groups.len() <= written && groups.iter().all(|group| group["members"].as_array().unwrap().len() == 1)
    );
    drop(second);

    // A restore over it keeps what was there.
    let output = gatehouse(&["restore", text(&file), "--data", text(&target)]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let aside = std::fs::read_dir(&target).unwrap().filter_map(Result::ok);
    let aside = aside.map(|entry| entry.path()).find(|path| text(path).contains("before-restore-")).unwrap();
    assert!(aside.join("gatehouse.db").is_file() && aside.join("tls/ca.key").is_file());
}

#[tokio::test]
async fn a_newer_database_is_refused_and_nothing_changes() {
    let server = server("").await;
    let data = server.data.path().join("data");
    let folder = server.data.path();
    let file = folder.join("backup.tar");
    assert!(gatehouse(&["backup", text(&file), "--data", text(&data)]).await.status.success());
    // The same archive with a database from the future.
    let unpacked = folder.join("unpacked");
    tar::Archive::new(std::fs::File::open(&file).unwrap()).unpack(&unpacked).unwrap();
    rusqlite::Connection::open(unpacked.join("gatehouse.db"))
        .unwrap()
        .pragma_update(None, "user_version", 999)
        .unwrap();
    let newer = folder.join("newer.tar");
    let mut builder = tar::Builder::new(std::fs::File::create(&newer).unwrap());
    builder.append_path_with_name(unpacked.join("gatehouse.db"), "gatehouse.db").unwrap();
    builder.finish().unwrap();
    let target = folder.join("target");
    let refused = gatehouse(&["restore", text(&newer), "--data", text(&target)]).await;
    assert!(error(&refused).contains("newer version"), "{}", error(&refused));
    assert!(!target.join("gatehouse.db").exists());
    let missing = gatehouse(&["backup", text(&file), "--data", text(&target)]).await;
    assert!(error(&missing).contains("no readable database"), "{}", error(&missing));
}
