//! Checks the dependencies between modules, and that pure files stay pure.

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

/// A file without its tests and its comments: items under `#[cfg(test)]` end where their braces do, or at the `;`.
fn product(text: &str) -> String {
    let mut product = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            product.push_str(line.split("//").next().unwrap_or_default());
            product.push('\n');
            continue;
        }
        let mut depth = 0i32;
        for line in lines.by_ref() {
            let count = |brace| line.matches(brace).count() as i32;
            depth += count('{') - count('}');
            if depth == 0 && (line.ends_with(['}', ';'])) {
                break;
            }
        }
    }
    product
}

#[test]
fn code_after_a_test_module_is_checked() {
    let text = "use a;\n#[cfg(test)]\nmod tests;\nuse b;\n#[cfg(test)]\nmod inline {\n    fn x() {}\n}\nuse c; // d\n";
    assert_eq!(product(text), "use a;\nuse b;\nuse c; \n");
}

#[test]
fn dependencies_point_one_way() {
    let rules = [
        (
            "streams/",
            &["crate::demo", "crate::media", "crate::http", "crate::cameras", "crate::config", "axum"][..],
        ),
        ("media/", &["crate::http", "crate::cameras", "crate::config", "axum", "retina", "reqwest"]),
        ("config/", &["crate::media", "crate::http", "tokio", "axum"]),
        ("accounts/", &["crate::media", "crate::http", "crate::streams", "crate::cameras", "axum"]),
        (
            "signaling/",
            &["crate::media", "crate::http", "crate::streams", "crate::cameras", "axum", "rusqlite"],
        ),
        ("demo/", &["crate::media", "crate::http", "crate::cameras", "crate::config", "crate::accounts"]),
        ("rtsp/", &["crate::streams", "crate::media", "crate::http", "crate::config", "crate::accounts"]),
        ("http/", &["rtc::", "retina", "webrtc::"]),
    ];
    for (name, text) in files() {
        let product = product(&text);
        for (folder, forbidden) in rules.iter().filter(|(folder, _)| name.starts_with(folder)) {
            let found = forbidden.iter().find(|word| product.contains(*word));
            assert_eq!(found, None, "{name} is in {folder}");
        }
    }
}

#[test]
fn each_library_has_its_place() {
    for (name, text) in files() {
        let text = product(&text);
        assert!(name == "streams/rtsp.rs" || !text.contains("retina::"), "{name} names retina");
        assert!(name.starts_with("streams/whep/") || !text.contains("webrtc::"), "{name} names webrtc");
        let may_name_rtc = name.starts_with("media/") || name.starts_with("streams/whep/");
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
        "streams/packet.rs",
        "rtsp/",
        "streams/front/address.rs",
        "rtp/packet.rs",
        "rtp/reorder.rs",
        "rtp/rtcp.rs",
        "rtp/ntp.rs",
        "media/session/sdp.rs",
        "media/session/negotiate.rs",
        "media/session/answer.rs",
        "media/publish/rtp_receiver.rs",
        "media/publish/twcc.rs",
        "media/early.rs",
        "media/subscribe/ring.rs",
        "media/subscribe/cursor.rs",
        "media/subscribe/track.rs",
        "dtls_screen.rs",
        "names.rs",
        "media/transport/ice.rs",
        "media/transport/stun.rs",
        "probe/report.rs",
        "accounts/permissions.rs",
        "accounts/throttle.rs",
        "tls/local_ca.rs",
        "signaling/mod.rs",
        "signaling/message.rs",
        "signaling/journal.rs",
        "signaling/watch.rs",
        "signaling/vocabulary.rs",
        "signaling/presence.rs",
        "signaling/call.rs",
        "signaling/calls.rs",
    ];
    for (name, text) in files() {
        if !pure.iter().any(|pure| name.starts_with(pure)) {
            continue;
        }
        let product = product(&text);
        for word in ["tokio", "axum", "Instant::now", "SystemTime::now", "rand::"] {
            assert!(!product.contains(word), "{name} names {word}");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in files() {
        assert!(text.starts_with("//!"), "{name}");
    }
}
