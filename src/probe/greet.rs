//! The first RTSP requests to a camera: OPTIONS to measure the round trip, DESCRIBE without credentials to learn the
//! authentication scheme. Handwritten, because retina exposes neither. Start at [`greet`].

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::streams::source::SourceError;

const LIMIT: Duration = Duration::from_secs(5);
const MAX_REPLY: usize = 64 * 1024;

/// What a camera reveals without authentication.
pub struct Greeting {
    /// From OPTIONS to its response.
    pub round_trip: Duration,
    /// `none`, `basic`, `digest`, or both.
    pub login: String,
    /// The `Server` header.
    pub server: Option<String>,
}

/// Connects, sends both requests, and disconnects.
pub async fn greet(url: &Url) -> Result<Greeting, SourceError> {
    let late = |step: &str| SourceError::soon("camera_timeout", format!("no response to {step} within 5 s"));
    let address = (url.host_str().unwrap_or_default().trim_matches(['[', ']']), url.port().unwrap_or(554));
    let connected = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
    let mut stream = connected.map_err(|_| late("the connection"))?.map_err(|error| {
        SourceError::soon(
            "camera_unreachable",
            format!("cannot connect to {}:{}: {error}", address.0, address.1),
        )
    })?;
    let start = Instant::now();
    let options = tokio::time::timeout(LIMIT, ask(&mut stream, "OPTIONS", url, 1)).await;
    let options = options.map_err(|_| late("OPTIONS"))??;
    let round_trip = start.elapsed();
    let describe = tokio::time::timeout(LIMIT, ask(&mut stream, "DESCRIBE", url, 2)).await;
    // Some cameras close the connection here; then the scheme stays unknown.
    let describe = describe.ok().and_then(Result::ok).unwrap_or_default();
    Ok(Greeting {
        round_trip,
        login: login(&describe),
        server: header(&options, "server").map(str::to_owned),
    })
}

async fn ask(stream: &mut TcpStream, method: &str, url: &Url, cseq: u32) -> Result<String, SourceError> {
    let broken = |error: std::io::Error| SourceError::soon("camera_closed", format!("{method}: {error}"));
    let request = format!("{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\nUser-Agent: Gatehouse\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut reply = Vec::new();
    while !reply.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read_buf(&mut reply).await.map_err(broken)?;
        if read == 0 || reply.len() > MAX_REPLY {
            return Err(SourceError::soon("camera_protocol", format!("{method}: the response is not RTSP")));
        }
    }
    let text = String::from_utf8_lossy(&reply).into_owned();
    if !text.starts_with("RTSP/1.0") {
        return Err(SourceError::slowly("camera_protocol", format!("{method}: the response is not RTSP")));
    }
    Ok(text)
}

fn header<'a>(reply: &'a str, name: &str) -> Option<&'a str> {
    let lines = reply.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn login(describe: &str) -> String {
    match describe.split_whitespace().nth(1) {
        Some("401") => {
            let challenges = describe.lines().filter_map(|line| line.split_once(':'));
            let challenges = challenges.filter(|(key, _)| key.eq_ignore_ascii_case("www-authenticate"));
            let schemes = challenges.filter_map(|(_, value)| value.split_whitespace().next());
            let mut schemes: Vec<String> = schemes.map(str::to_ascii_lowercase).collect();
            schemes.dedup();
            if schemes.is_empty() { "unknown".into() } else { schemes.join(", ") }
        }
        Some(_) => "none".into(),
        None => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        let both = "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\"\r\nwww-authenticate: Basic realm=\"x\"\r\n\r\n";
        assert_eq!(login(both), "digest, basic");
        assert_eq!(login("RTSP/1.0 200 OK\r\n\r\n"), "none");
        assert_eq!(login(""), "unknown");
        assert_eq!(header("RTSP/1.0 200 OK\r\nServer: Cam 1\r\n", "server"), Some("Cam 1"));
    }
}
