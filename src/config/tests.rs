//! Tests of the configuration: what it accepts, and that every problem is reported with its position.

use super::*;
use crate::streams::source::{SourceSpec, Transport};

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, "g.toml", Path::new("."), &Overrides::default())
}

fn problems(text: &str) -> Vec<String> {
    parse(text).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_a_configuration() {
    let config = parse("").unwrap();
    assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
    assert!(config.cameras.is_empty());
}

#[test]
fn the_example_file_shows_the_defaults() {
    let text = include_str!("../../config/gatehouse.toml");
    assert_eq!(parse(text).unwrap(), parse("").unwrap(), "unedited, it changes nothing");
    // With every example uncommented it is still valid, and it contains every key.
    let uncommented: String =
        text.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let mut overrides = Overrides::default();
    overrides.environment.insert("YARD_PASSWORD".into(), "x".into());
    let config = Config::parse(&uncommented, "example", Path::new("."), &overrides).unwrap();
    assert_eq!(config.cameras.len(), 4);
    for (_, key) in variables() {
        let key = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{key} =")), "{key}");
    }
}

#[test]
fn cameras_of_each_kind() {
    let config = parse(
        r#"
        [[camera]]
        id = "door"
        name = "前门"
        url = "rtsp://me:s%40cret@10.0.0.2:554/1"
        transport = "udp"
        idle_timeout = "90s"
        [[camera]]
        id = "far"
        url = "wheps://other.example/whep/camera/1"
        token = "abc"
        on_demand = false
        "#,
    )
    .unwrap();
    let SourceSpec::Rtsp { url, credentials: Some((user, password)), transport, .. } =
        &config.cameras[0].spec.source
    else {
        panic!("{config:?}")
    };
    assert_eq!((url.as_str(), user.as_str()), ("rtsp://10.0.0.2:554/1", "me"));
    assert_eq!((password.expose(), *transport), ("s@cret", Transport::Udp));
    assert_eq!(config.cameras[0].spec.idle_timeout, Duration::from_secs(90));
    let SourceSpec::Whep { url, token } = &config.cameras[1].spec.source else { panic!() };
    assert_eq!(url.as_str(), "https://other.example/whep/camera/1");
    assert_eq!(token.as_ref().unwrap().expose(), "abc");
    assert_eq!(config.cameras[1].name, "far");
    let shown = format!("{config:?}");
    assert!(!shown.contains("s@cret") && !shown.contains("abc"), "{shown}");
}

#[test]
fn all_problems_come_with_their_place() {
    let found = problems(
        r#"[server]
listen = "here"
prot = 5
[media]
max_viewers = 0
[[camera]]
id = "a b"
url = "http://x"
transport = "sctp"
on_demnad = true
[[camera]]
url = 5
"#,
    );
    let expected = [
        r#"g.toml:2:10: server.listen = "here" is not allowed: expected an address with a port"#,
        r"g.toml:3:1: server.prot is not known: known keys are listen, data, log",
        r"g.toml:5:15: media.max_viewers = 0 is not allowed: expected a number from 1 to 100000",
        r#"g.toml:7:6: camera.id = "a b" is not allowed: expected 1 to 64 letters"#,
        r#"g.toml:8:7: camera.url = "http://x" is not allowed: expected rtsp://host"#,
        r#"g.toml:9:13: camera.transport = "sctp" is not allowed: expected "auto" or "tcp" or "udp""#,
        r#"g.toml:10:1: camera.on_demnad is not known: did you mean "on_demand"?"#,
        r"g.toml:11:1: camera.id is missing",
        r"g.toml:12:7: camera.url = 5 is not allowed: expected a string in quotes",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn broken_toml_is_told_as_well() {
    let found = problems("[server]\nlisten = \n[[camera]]\nid = \"a\"\n");
    assert!(found[0].starts_with("g.toml:2:"), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("camera.url is missing")), "{found:?}");
    assert!(problems("camera = 3")[0].contains("[[camera]]"));
    assert!(problems("server = 3")[0].contains("[server]"));
}

#[test]
fn a_name_that_is_none_is_reported_under_its_key() {
    for key in ["names", "domains"] {
        let found = problems(&format!("[tls]\n{key} = [\"https://a.example\"]\n"));
        assert!(found[0].contains(&format!(": tls.{key} = ")), "{found:?}");
    }
}

#[test]
fn two_cameras_cannot_share_an_id() {
    let camera = "[[camera]]\nid = \"a\"\nurl = \"rtsp://h/1\"\n";
    let found = problems(&camera.repeat(2));
    assert!(found[0].starts_with("g.toml:5:6: camera.id"), "{found:?}");
}

#[test]
fn a_password_in_a_broken_url_is_not_shown() {
    let found = problems("[[camera]]\nid = \"a\"\nurl = \"rtp://me:hunter2@host/1\"\n");
    assert!(!found.concat().contains("hunter2"), "{found:?}");
}

#[test]
fn a_password_that_would_become_the_host_is_refused() {
    let found = problems("[[camera]]\nid = \"a\"\nurl = \"rtsp://u:hunter#2/x@host/\"\n");
    assert!(found[0].contains("percent-encoded") && !found.concat().contains("hunter"), "{found:?}");
}

#[test]
fn passwords_come_from_files_and_variables() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "from file\n").unwrap();
    let mut overrides = Overrides::default();
    overrides.environment.insert("THE_PASSWORD".into(), "from variable".into());
    let load = |line: &str| {
        let text = format!("[[camera]]\nid = \"a\"\nurl = \"rtsp://h/1\"\nusername = \"u\"\n{line}\n");
        Config::parse(&text, "g.toml", folder.path(), &overrides)
    };
    let password = |config: Config| match config.cameras[0].spec.source.clone() {
        SourceSpec::Rtsp { credentials: Some((_, password)), .. } => password.expose().to_owned(),
        _ => panic!(),
    };
    assert_eq!(password(load("password_file = \"secret\"").unwrap()), "from file");
    assert_eq!(password(load("password_env = \"THE_PASSWORD\"").unwrap()), "from variable");
    assert!(load("password_file = \"missing\"").is_err());
    assert!(load("password_env = \"GATEHOUSE_TEST_NOT_SET\"").is_err());
    assert!(load("password = \"x\"\npassword_file = \"secret\"").is_err());
}

#[test]
fn the_environment_and_flags_override_the_file() {
    let mut overrides = Overrides { listen: Some(([127, 0, 0, 1], 5).into()), ..Overrides::default() };
    overrides.environment.insert("GATEHOUSE_LISTEN".into(), "0.0.0.0:1".into());
    overrides.environment.insert("GATEHOUSE_MAX_VIEWERS".into(), "7".into());
    overrides.environment.insert("GATEHOUSE_PUBLIC_HOSTS".into(), "a.example, 192.0.2.1".into());
    let text = "[server]\nlisten = \"0.0.0.0:9\"\n";
    let config = Config::parse(text, "g.toml", Path::new("."), &overrides).unwrap();
    assert_eq!((config.listen.port(), config.media.max_viewers), (5, 7));
    let hosts: Vec<&str> = config.media.public_hosts.iter().map(|public| public.host.as_str()).collect();
    assert_eq!(hosts, ["a.example", "192.0.2.1"]);
    overrides.environment.insert("GATEHOUSE_THREADS".into(), "many".into());
    let found = Config::parse(text, "g.toml", Path::new("."), &overrides).unwrap_err();
    assert!(
        found.to_string().starts_with("environment variable GATEHOUSE_THREADS: media.threads = \"many\"")
    );
}

/// Each variable changes its key, also if the file sets it or has no such section.
#[test]
fn every_variable_overrides_its_key() {
    let values = [
        ("GATEHOUSE_LISTEN", "127.0.0.1:1"),
        ("GATEHOUSE_DATA", "elsewhere"),
        ("GATEHOUSE_LOG", "debug"),
        ("GATEHOUSE_KEEP_LOG", "30d"),
        ("GATEHOUSE_HOSTS", "a.example"),
        ("GATEHOUSE_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
        ("GATEHOUSE_BASE_PATH", "/gatehouse/"),
        ("GATEHOUSE_EMBED_FROM", "https://a.example"),
        ("GATEHOUSE_TLS", "acme"),
        ("GATEHOUSE_TLS_NAMES", "b.example"),
        ("GATEHOUSE_TLS_CERT", "c.pem"),
        ("GATEHOUSE_TLS_KEY", "k.pem"),
        ("GATEHOUSE_TLS_DOMAINS", "d.example"),
        ("GATEHOUSE_TLS_EMAIL", "me@d.example"),
        ("GATEHOUSE_TLS_OFF_ANYWHERE", "true"),
        ("GATEHOUSE_MEDIA_LISTEN", "127.0.0.1"),
        ("GATEHOUSE_PUBLIC_HOSTS", "e.example:9000"),
        ("GATEHOUSE_ADVERTISE_PORT", "9000"),
        ("GATEHOUSE_MAX_VIEWERS", "7"),
        ("GATEHOUSE_THREADS", "3"),
        ("GATEHOUSE_CALLS", "server"),
    ];
    let names: Vec<&str> = variables().map(|(name, _)| name).collect();
    assert_eq!(names, values.map(|(name, _)| name));
    let file = "[server]\nlisten = \"0.0.0.0:9\"\nhosts = [\"z.example\"]\n[tls]\nmode = \"local-ca\"\ndomains = [\"z.example\"]\n";
    for text in ["[tls]\ndomains = [\"z.example\"]\n", file] {
        let load = |overrides: &Overrides| Config::parse(text, "g.toml", Path::new("."), overrides).unwrap();
        let before = format!("{:?}", load(&Overrides::default()));
        for (name, value) in values {
            let mut overrides = Overrides::default();
            overrides.environment.insert(name.into(), value.into());
            assert_ne!(format!("{:?}", load(&overrides)), before, "{name}");
        }
    }
}

#[test]
fn values_come_from_variables_and_files_and_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "from file\n").unwrap();
    let mut overrides = Overrides::default();
    overrides.environment.insert("HOST".into(), "camera.example".into());
    overrides.environment.insert("BAD".into(), "hunter2".into());
    overrides.environment.insert("GATEHOUSE_ADMIN_PASSWORD".into(), "file:secret".into());
    let load = |text: &str| Config::parse(text, "g.toml", folder.path(), &overrides);
    let camera =
        "[[camera]]\nid = \"a\"\nurl = \"rtsp://${HOST}/1\"\nusername = \"u\"\npassword = \"file:secret\"\n";
    let config = load(camera).unwrap();
    assert_eq!(config.first_password.unwrap().expose(), "from file");
    assert_eq!(config.files.len(), 2);
    let SourceSpec::Rtsp { url, credentials, .. } = &config.cameras[0].spec.source else { panic!() };
    assert_eq!(url.host_str(), Some("camera.example"));
    assert_eq!(credentials.as_ref().unwrap().1.expose(), "from file");
    for text in
        ["[tls]\nmode = \"${BAD}\"", "[server]\nhosts = [\"${BAD} \"]", "[media]\nlisten = \"${BAD}\""]
    {
        let found = load(text).unwrap_err().to_string();
        assert!(found.contains("is not allowed") && !found.contains("hunter2"), "{found}");
    }
    let found = load("[server]\ndata = \"${NOT_SET_ANYWHERE}\"").unwrap_err().to_string();
    assert!(found.starts_with("g.toml:2:8: the environment variable"), "{found}");
}

#[test]
fn hundreds_of_cameras_are_normal() {
    let text: String =
        (0..500).map(|i| format!("[[camera]]\nid = \"c{i}\"\nurl = \"rtsp://h/{i}\"\n")).collect();
    assert_eq!(parse(&text).unwrap().streams().len(), 500);
}
