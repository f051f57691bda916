//! The directions of the arrows between modules, and that pure files stay pure.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    sources(&root).iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// What stands before the tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn arrows_point_one_way() {
    let rules = [
        ("streams/", &["crate::media", "crate::http", "crate::cameras", "crate::config", "axum"][..]),
        ("media/", &["crate::http", "crate::cameras", "crate::config", "axum", "retina", "reqwest"]),
        ("config/", &["crate::media", "crate::http", "tokio", "axum"]),
        ("accounts/", &["crate::media", "crate::http", "crate::streams", "crate::cameras", "axum"]),
        (
            "signaling/",
            &["crate::media", "crate::http", "crate::streams", "crate::cameras", "axum", "rusqlite"],
        ),
        ("http/", &["rtc::", "retina", "webrtc::"]),
    ];
    for (name, text) in files() {
        for (folder, forbidden) in rules.iter().filter(|(folder, _)| name.starts_with(folder)) {
            let found = forbidden.iter().find(|word| product(&text).contains(*word));
            assert_eq!(found, None, "{name} is in {folder}");
        }
    }
}

#[test]
fn each_library_has_its_place() {
    for (name, text) in files() {
        let text = product(&text);
        assert!(name == "streams/rtsp.rs" || !text.contains("retina::"), "{name} names retina");
        assert!(name == "streams/whep.rs" || !text.contains("webrtc::"), "{name} names webrtc");
        let may_name_rtc = name.starts_with("media/") || name == "streams/whep.rs";
        assert!(may_name_rtc || !text.contains("use rtc::"), "{name} names rtc");
    }
}

#[test]
fn pure_files_know_no_clock_no_sockets_no_chance() {
    let pure = [
        "streams/h264/",
        "streams/hub.rs",
        "streams/meter.rs",
        "streams/backoff.rs",
        "streams/reorder.rs",
        "streams/packet.rs",
        "media/sdp.rs",
        "media/negotiate.rs",
        "media/rtcp.rs",
        "media/ring.rs",
        "media/viewer.rs",
        "media/track.rs",
        "probe/report.rs",
        "accounts/permissions.rs",
        "accounts/throttle.rs",
        "tls/local_ca.rs",
        "signaling/mod.rs",
        "signaling/message.rs",
        "signaling/session.rs",
        "signaling/presence.rs",
        "signaling/call.rs",
        "signaling/calls.rs",
    ];
    for (name, text) in files() {
        if !pure.iter().any(|pure| name.starts_with(pure)) {
            continue;
        }
        for word in ["tokio", "axum", "Instant::now", "SystemTime::now", "rand::"] {
            assert!(!product(&text).contains(word), "{name} names {word}");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in files() {
        assert!(text.starts_with("//!"), "{name}");
    }
}
