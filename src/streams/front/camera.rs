//! The connection to a camera up to PLAY: requests and their answers, the login, redirects. Afterwards `pump` owns it.
//! Start at [`Camera::describe`].

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use url::Url;

use super::address;
use super::connect::{Opened, Stream, UDP_BUFFER, bind_pair, open, receive_buffer};
use crate::rtsp::framing::{Item, Splitter};
use crate::rtsp::login::{Challenge, Login};
use crate::rtsp::message::{self, Head, MAX_BODY};
use crate::rtsp::sdp::Description;
use crate::streams::source::{Secret, SourceError, TlsTrust};
use crate::streams::status::Reason;

/// Timeout for DESCRIBE, including the second request for the login.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(8);
/// Timeout for each of the other steps.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// An SDP without a length ends when nothing more has come for this long.
const BODY_PAUSE: Duration = Duration::from_millis(500);
/// Redirects in a row.
const MAX_REDIRECTS: usize = 3;
/// Answers 401 in a row: for the login, for another hash, for a nonce that is too old.
const MAX_LOGINS: usize = 3;
/// Packets that come before the answer to PLAY.
const MAX_EARLY: usize = 1024;
/// Without a timeout in `Session` (RFC 2326 §12.37).
const SESSION_LIMIT: Duration = Duration::from_secs(60);

/// How a track's packets come.
#[derive(Debug)]
pub enum Way {
    /// On these channels of the connection. Some cameras use one for both.
    Interleaved { rtp: u8, rtcp: u8 },
    /// In datagrams.
    Udp { rtp: UdpSocket, rtcp: UdpSocket },
}

impl Way {
    /// That the system grants a smaller buffer for datagrams than a large key frame needs.
    pub fn receive_buffer_note(&self) -> Option<Reason> {
        let Self::Udp { rtp, .. } = self else { return None };
        let granted = receive_buffer(rtp).filter(|granted| *granted < UDP_BUFFER)?;
        let message = format!(
            "the system grants a receive buffer of {} KiB for UDP, not {}: key frames may lose packets; raise net.core.rmem_max to {UDP_BUFFER}",
            granted >> 10,
            UDP_BUFFER >> 10,
        );
        Some(Reason { code: "udp_buffer", message })
    }
}

/// What a camera says about itself before it is logged in to.
#[derive(Clone, Default, Debug)]
pub struct Greeting {
    /// From OPTIONS to its answer.
    pub round_trip: Option<Duration>,
    /// The kinds of login that it asks for, such as `digest, basic`; `none` if it needs none.
    pub login: Option<String>,
    /// Its `Server` header.
    pub server: Option<String>,
}

/// A connection to a camera.
pub struct Camera {
    stream: Box<dyn Stream>,
    /// Both ends of the connection.
    ends: (SocketAddr, SocketAddr),
    /// The SHA-256 of its certificate.
    pub fingerprint: Option<String>,
    greeting: Greeting,
    tls: TlsTrust,
    /// Bytes that have arrived.
    pub bytes: BytesMut,
    /// Splits them.
    pub splitter: Splitter,
    /// Packets that came before PLAY was answered.
    pub early: Vec<(u8, Bytes)>,
    /// Where it is.
    pub url: Url,
    credentials: Option<(String, Secret)>,
    login: Option<Login>,
    /// Whether a login has been accepted on this connection.
    logged_in: bool,
    cseq: u32,
    /// All answers so far had the number of their request.
    counts: bool,
    /// Its name of the session.
    session: Option<String>,
    /// After this time without a request it ends the session.
    pub timeout: Duration,
    /// Whether it says that it knows GET_PARAMETER.
    pub knows_get_parameter: bool,
    /// The base of the tracks' addresses.
    base: String,
    /// The address of the whole session.
    aggregate: String,
}

impl Camera {
    /// Connects, logs in, and reads what the camera offers. `greeting` is filled in even if that fails.
    ///
    /// # Errors
    /// Unreachable, silent, login rejected, no such path, or not RTSP.
    pub async fn describe(
        url: &Url,
        credentials: Option<&(String, Secret)>,
        tls: TlsTrust,
        follow: &[String],
        greeting: &mut Greeting,
    ) -> Result<(Self, Description), SourceError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut camera = Self::connect(&url, credentials, tls).await?;
            let fetched = limited("DESCRIBE", DESCRIBE_LIMIT, camera.fetch(follow)).await;
            greeting.clone_from(&camera.greeting);
            match fetched? {
                Fetched::Description(description) => return Ok((camera, description)),
                Fetched::Elsewhere(other) => url = other,
            }
        }
        Err(SourceError::slowly("camera_refused", "DESCRIBE: the camera redirects in circles"))
    }

    async fn connect(
        url: &Url,
        credentials: Option<&(String, Secret)>,
        tls: TlsTrust,
    ) -> Result<Self, SourceError> {
        let Opened { stream, ends, fingerprint } = open(url, tls).await?;
        Ok(Self {
            stream,
            ends,
            fingerprint,
            greeting: Greeting::default(),
            tls,
            bytes: BytesMut::with_capacity(64 * 1024),
            splitter: Splitter::default(),
            early: Vec::new(),
            url: url.clone(),
            credentials: credentials.cloned(),
            login: None,
            logged_in: false,
            cseq: 0,
            counts: true,
            session: None,
            timeout: SESSION_LIMIT,
            knows_get_parameter: false,
            base: url.to_string(),
            aggregate: url.to_string(),
        })
    }

    async fn fetch(&mut self, follow: &[String]) -> Result<Fetched, SourceError> {
        let uri = self.url.to_string();
        let asked = Instant::now();
        // Some cameras know only what they say here; some refuse it.
        let answer = self.request("OPTIONS", &uri, &[]).await;
        if let Ok(Answer { head, .. }) = &answer {
            self.greeting.round_trip = self.login.is_none().then(|| asked.elapsed());
            self.greeting.server = head.get("server").map(str::to_owned);
        }
        if let Ok(Answer { status: 200, head, .. }) = answer {
            let public = head.get("public").unwrap_or_default().to_ascii_uppercase();
            self.knows_get_parameter = public.contains("GET_PARAMETER");
        }
        let accept = [("Accept", "application/sdp".to_owned())];
        let answer = self.request("DESCRIBE", &uri, &accept).await?;
        if matches!(answer.status, 301 | 302 | 305 | 307) {
            let follow = self.credentials.is_some().then_some(follow);
            let target = address::redirected(&self.url, answer.head.get("location"), follow);
            let refused = |text| SourceError::slowly("camera_refused", format!("DESCRIBE: {text}"));
            return target.map(Fetched::Elsewhere).map_err(refused);
        }
        answer.check("DESCRIBE")?;
        self.greeting.login.get_or_insert_with(|| "none".into());
        let body = if answer.head.body_length().is_none() { self.rest().await } else { answer.body.clone() };
        let head = &answer.head;
        let given = head.get("content-base").filter(|base| !base.is_empty()).or(head.get("content-location"));
        self.base = address::base(&self.url, given);
        let description = Description::parse(&body);
        if description.tracks.is_empty() {
            let text = format!("DESCRIBE: the camera offers no tracks in {} bytes", body.len());
            return Err(SourceError::slowly("camera_protocol", text));
        }
        self.aggregate = address::control(&self.base, description.control.as_deref());
        Ok(Fetched::Description(description))
    }

    /// A body of unknown length.
    async fn rest(&mut self) -> Bytes {
        while self.bytes.len() < MAX_BODY {
            match tokio::time::timeout(BODY_PAUSE, self.stream.read_buf(&mut self.bytes)).await {
                Ok(Ok(1..)) => {}
                _ => break,
            }
        }
        self.bytes.split().freeze()
    }

    /// Sets up a track inside the connection; the channels are suggested by its number.
    ///
    /// # Errors
    /// The camera refuses: see [`Answer::check`].
    pub async fn set_up(&mut self, control: Option<&str>, number: u8) -> Result<Way, SourceError> {
        let channel = number * 2;
        let wanted = format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel + 1);
        let answer = self.set_up_with(control, wanted).await?;
        let transport = answer.head.get("transport").unwrap_or_default();
        let (rtp, rtcp) = message::pair(transport, "interleaved").unwrap_or((channel.into(), None));
        let rtp = u8::try_from(rtp).unwrap_or(channel);
        let rtcp = rtcp.and_then(|rtcp| u8::try_from(rtcp).ok()).unwrap_or(rtp.wrapping_add(1));
        self.splitter.expect(rtp);
        self.splitter.expect(rtcp);
        Ok(Way::Interleaved { rtp, rtcp })
    }

    /// Sets up a track in datagrams.
    ///
    /// # Errors
    /// The camera refuses, or there are no ports.
    pub async fn set_up_udp(&mut self, control: Option<&str>) -> Result<Way, SourceError> {
        let fail =
            |error: io::Error| SourceError::soon("internal", format!("no ports for datagrams: {error}"));
        let (local, peer) = self.ends;
        let (rtp, rtcp) = bind_pair(local).map_err(fail)?;
        let port = rtp.local_addr().map_err(fail)?.port();
        let wanted = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
        let answer = self.set_up_with(control, wanted).await?;
        // Opens the way through a firewall, where there is one; the camera may send from other ports, too.
        let transport = answer.head.get("transport").unwrap_or_default();
        if let Some((server, second)) = message::pair(transport, "server_port") {
            let second = second.unwrap_or(server.saturating_add(1));
            for (socket, port) in [(&rtp, server), (&rtcp, second)] {
                let _ =
                    socket.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 0], SocketAddr::new(peer.ip(), port)).await;
            }
        }
        Ok(Way::Udp { rtp, rtcp })
    }

    async fn set_up_with(&mut self, control: Option<&str>, transport: String) -> Result<Answer, SourceError> {
        let uri = address::control(&self.base, control);
        let headers = [("Transport", transport)];
        let answer = limited("SETUP", STEP_LIMIT, self.request("SETUP", &uri, &headers)).await?;
        answer.check("SETUP")?;
        let (session, timeout) = message::session(answer.head.get("session").unwrap_or_default());
        // A camera that gives another name to each track means the first.
        if self.session.is_none() && !session.is_empty() {
            self.session = Some(session.to_owned());
        }
        if let Some(seconds) = timeout {
            self.timeout = Duration::from_secs(seconds.min(3600));
        }
        Ok(answer)
    }

    /// Starts playing.
    ///
    /// # Errors
    /// The camera refuses.
    pub async fn play(&mut self) -> Result<(), SourceError> {
        let uri = self.aggregate.clone();
        let headers = [("Range", "npt=0.000-".to_owned())];
        let answer = limited("PLAY", STEP_LIMIT, self.request("PLAY", &uri, &headers)).await?;
        answer.check("PLAY")
    }

    /// Sends a request and waits for its answer; logs in if the camera asks for it.
    async fn request(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[(&str, String)],
    ) -> Result<Answer, SourceError> {
        for attempt in 0.. {
            let fresh = self.login.is_some() && !self.logged_in;
            self.send(method, uri, headers).await.map_err(|error| closed(method, &error))?;
            let answer = match self.answer(method).await {
                // After a 401 some cameras close the connection.
                Err(error) if error.code == "camera_closed" && fresh && attempt == 1 => {
                    let Opened { stream, ends, .. } = open(&self.url, self.tls).await?;
                    (self.stream, self.ends) = (stream, ends);
                    self.bytes.clear();
                    continue;
                }
                result => result?,
            };
            if answer.status != 401 {
                self.logged_in |= self.login.is_some();
                return Ok(answer);
            }
            self.log_in(&answer.head, attempt)?;
        }
        Err(rejected())
    }

    /// Takes the challenge of an answer 401, if there is a chance that it helps.
    fn log_in(&mut self, head: &Head, attempt: usize) -> Result<(), SourceError> {
        let challenges = Challenge::all(head.all("www-authenticate"));
        let mut kinds: Vec<&str> = challenges.iter().map(Challenge::kind).collect();
        kinds.dedup();
        let kinds = if kinds.is_empty() { "unknown".to_owned() } else { kinds.join(", ") };
        self.greeting.login.get_or_insert(kinds);
        if self.credentials.is_none() {
            let text = "the camera asks for a user name and a password";
            return Err(SourceError::slowly("camera_login", text));
        }
        let is_stale = matches!(challenges.first(), Some(Challenge::Digest(digest)) if digest.stale);
        // The first login with each hash that the camera knows; after that, only a nonce that is too old.
        let place = if self.logged_in || is_stale { 0 } else { attempt };
        let challenge = challenges.into_iter().nth(place);
        match challenge {
            Some(challenge) if attempt < MAX_LOGINS => {
                self.login = Some(Login::new(challenge, format!("{:016x}", rand::random::<u64>())));
                Ok(())
            }
            None if attempt == 0 => {
                let text = "the camera asks for a login of a kind that is not known";
                Err(SourceError::slowly("camera_login", text))
            }
            _ => Err(rejected()),
        }
    }

    /// Sends a request, with the login if there is one.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, method: &str, uri: &str, headers: &[(&str, String)]) -> io::Result<()> {
        self.cseq += 1;
        let mut text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: Gatehouse\r\n", self.cseq);
        if let (Some(login), Some((user, password))) = (&mut self.login, &self.credentials) {
            let header = login.authorization(user, password.expose(), method, uri);
            text += &format!("Authorization: {header}\r\n");
        }
        if let Some(session) = &self.session {
            text += &format!("Session: {session}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        self.write(text.as_bytes()).await
    }

    /// Sends a request that concerns the whole session, such as a keep-alive.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send_aggregate(&mut self, method: &str) -> io::Result<()> {
        let uri = self.aggregate.clone();
        self.send(method, &uri, &[]).await
    }

    /// A new challenge to a request that nobody waits for: the next one is answered with it.
    pub fn challenged(&mut self, head: &Head) {
        if let Some(challenge) = Challenge::all(head.all("www-authenticate")).into_iter().next() {
            self.login = Some(Login::new(challenge, format!("{:016x}", rand::random::<u64>())));
        }
    }

    /// Answers a request of the camera.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn answer_request(&mut self, head: &Head) -> io::Result<()> {
        let cseq = head.get("cseq").unwrap_or("0");
        let public = "Public: OPTIONS, GET_PARAMETER, SET_PARAMETER, ANNOUNCE\r\n";
        let text = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{public}\r\n");
        self.write(text.as_bytes()).await
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The connection is broken, or the camera does not read.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::timeout(STEP_LIMIT, self.stream.write_all(bytes)).await?
    }

    /// Reads more bytes; 0 at the end. May be dropped without losing any.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn read(&mut self) -> io::Result<usize> {
        self.bytes.reserve(16 * 1024);
        self.stream.read_buf(&mut self.bytes).await
    }

    async fn answer(&mut self, method: &str) -> Result<Answer, SourceError> {
        loop {
            let item = self.splitter.next(&mut self.bytes).map_err(|error| {
                SourceError::slowly("camera_protocol", format!("{method}: the camera sends {error}"))
            })?;
            match item {
                Some(Item::Packet(channel, data)) => {
                    if self.early.len() < MAX_EARLY {
                        self.early.push((channel, data));
                    }
                }
                Some(Item::Message(head, body)) => {
                    let Some(status) = head.status() else {
                        self.answer_request(&head).await.map_err(|error| closed(method, &error))?;
                        continue;
                    };
                    // An earlier answer that comes twice.
                    let is_old =
                        head.cseq().is_some_and(|cseq| cseq < self.cseq) && self.counts && self.cseq > 1;
                    if is_old {
                        continue;
                    }
                    self.counts &= head.cseq() == Some(self.cseq);
                    return Ok(Answer { status, head, body });
                }
                None => {
                    let read = self.read().await.map_err(|error| closed(method, &error))?;
                    if read == 0 {
                        let text = match self.splitter.skipped() {
                            0 => return Err(closed(method, &io::ErrorKind::UnexpectedEof.into())),
                            skipped => format!("{method}: {skipped} bytes that are not RTSP, then the end"),
                        };
                        return Err(SourceError::slowly("camera_protocol", text));
                    }
                }
            }
        }
    }
}

enum Fetched {
    Description(Description),
    Elsewhere(Url),
}

/// An answer.
struct Answer {
    status: u16,
    head: Head,
    body: Bytes,
}

impl Answer {
    /// Whether the camera has done what was asked.
    fn check(&self, step: &str) -> Result<(), SourceError> {
        let slowly = |code, text: &str| Err(SourceError::slowly(code, format!("{step}: {text}")));
        match self.status {
            200..=299 => Ok(()),
            403 => Err(rejected()),
            404 | 454 => slowly("camera_path", "the camera has no such path"),
            461 => slowly("camera_transport", "the camera refuses this transport; try the other one"),
            status => {
                let text = format!("{step}: the camera answers {status}");
                Err(SourceError::soon("camera_refused", text))
            }
        }
    }
}

fn rejected() -> SourceError {
    SourceError::slowly("camera_login", "the camera rejected the user name or password")
}

fn closed(method: &str, error: &io::Error) -> SourceError {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{method}: the camera closed the connection"),
        _ => format!("{method}: {error}"),
    };
    SourceError::soon("camera_closed", text)
}

async fn limited<T>(
    step: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let text = format!("no answer to {step} within {} s", limit.as_secs());
        Err(SourceError::soon("camera_timeout", text))
    })
}
