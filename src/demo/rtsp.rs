//! The server side of RTSP 1.0 (RFC 2326): OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN; RTP over the
//! connection or over UDP. One task per connection; the packets themselves come from `send`. Start at [`serve`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use super::Shared;
use super::login::Login;
use super::send::{Carrier, Player};
use crate::rtsp::framing::{Item, Splitter};
use crate::rtsp::message::{self, First, Head};

/// A client that neither plays nor sends requests for this long is disconnected.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
const SESSION: &str = "12345678";

struct Request {
    method: String,
    uri: String,
    head: Head,
}

/// Serves one client until it disconnects or violates the protocol.
pub async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let local = stream.local_addr()?;
    let (reader, writer) = stream.into_split();
    let (requests, mut incoming) = mpsc::channel(8);
    let reading = tokio::spawn(read_requests(reader, requests));
    let nonce = format!("{:032x}", rand::random::<u128>());
    let player = Player::new(shared.clone(), writer);
    let mut connection = Connection { shared, player, nonce, peer, local };
    let result = loop {
        let step = tokio::select! {
            request = tokio::time::timeout(IDLE_LIMIT, incoming.recv()) => match request {
                Ok(Some(request)) => connection.handle(&request).await,
                Ok(None) => break Ok(()),
                Err(_) if connection.player.is_playing() => Ok(()),
                Err(_) => break Ok(()),
            },
            () = connection.player.due() => connection.player.send().await,
        };
        if step.is_err() || connection.player.is_finished() {
            break step;
        }
    };
    reading.abort();
    result
}

struct Connection {
    shared: Arc<Shared>,
    player: Player,
    nonce: String,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Connection {
    async fn handle(&mut self, request: &Request) -> io::Result<()> {
        let cseq = request.head.get("cseq").unwrap_or("0").to_owned();
        if let Some(challenge) = self.challenge(request) {
            return self.reply(401, &cseq, &[("WWW-Authenticate", challenge)], "").await;
        }
        match request.method.as_str() {
            "OPTIONS" => {
                let methods = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN".to_owned();
                self.reply(200, &cseq, &[("Public", methods)], "").await
            }
            "DESCRIBE" if !path_of(&request.uri).starts_with("/demo") => {
                self.reply(404, &cseq, &[], "").await
            }
            "DESCRIBE" => {
                let base = format!("rtsp://{}/demo/", self.local);
                let headers = [("Content-Base", base), ("Content-Type", "application/sdp".to_owned())];
                let sdp = self.sdp();
                self.reply(200, &cseq, &headers, &sdp).await
            }
            "SETUP" => self.setup(request, &cseq).await,
            "PLAY" => {
                let info = self.player.play();
                self.reply(200, &cseq, &[("Session", SESSION.into()), ("RTP-Info", info)], "").await
            }
            "GET_PARAMETER" => self.reply(200, &cseq, &[("Session", SESSION.into())], "").await,
            "TEARDOWN" => {
                self.reply(200, &cseq, &[], "").await?;
                self.player.finish();
                Ok(())
            }
            _ => self.reply(501, &cseq, &[], "").await,
        }
    }

    fn challenge(&self, request: &Request) -> Option<String> {
        let (username, password, scheme) = self.shared.options.login.as_ref()?;
        if request.method == "OPTIONS" {
            return None;
        }
        let login = Login { username, password, scheme: *scheme, nonce: &self.nonce };
        let given = request.head.get("authorization").unwrap_or_default();
        (!login.accepts(given, &request.method, &request.uri)).then(|| login.challenge())
    }

    async fn setup(&mut self, request: &Request, cseq: &str) -> io::Result<()> {
        let track = match request.uri.rsplit('/').next() {
            Some("track=0") => 0,
            Some("track=1") if self.shared.options.audio => 1,
            _ => return self.reply(404, cseq, &[], "").await,
        };
        let wanted = request.head.get("transport").unwrap_or_default().to_owned();
        let numbers = |name| {
            let (first, second) = message::pair(&wanted, name)?;
            Some((first, second?))
        };
        let transport = if let Some((rtp, rtcp)) = numbers("interleaved") {
            let (Ok(rtp), Ok(rtcp)) = (u8::try_from(rtp), u8::try_from(rtcp)) else {
                return self.reply(461, cseq, &[], "").await;
            };
            self.player.set_up(track, Carrier::Interleaved { rtp, rtcp });
            format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}")
        } else if let Some((rtp, rtcp)) = numbers("client_port") {
            let (rtp_socket, rtcp_socket) = udp_pair(self.local, self.peer, (rtp, rtcp)).await?;
            let ports = (rtp_socket.local_addr()?.port(), rtcp_socket.local_addr()?.port());
            self.player.set_up(track, Carrier::Udp { rtp: rtp_socket, rtcp: rtcp_socket });
            format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={}-{}", ports.0, ports.1)
        } else {
            return self.reply(461, cseq, &[], "").await;
        };
        let transport = format!("{transport};ssrc={:08X}", self.player.ssrc(track));
        self.reply(200, cseq, &[("Session", format!("{SESSION};timeout=60")), ("Transport", transport)], "")
            .await
    }

    fn sdp(&self) -> String {
        let clip = &self.shared.clip;
        let mut fmtp = format!(
            "packetization-mode=1;profile-level-id={:02x}{:02x}{:02x}",
            clip.sps[1], clip.sps[2], clip.sps[3]
        );
        if self.shared.options.sprop {
            let sets = format!("{},{}", STANDARD.encode(&clip.sps), STANDARD.encode(&clip.pps));
            fmtp = format!("{fmtp};sprop-parameter-sets={sets}");
        }
        let ip = self.local.ip();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=Gatehouse demo camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 {fmtp}\r\na=control:track=0\r\n"
        );
        if self.shared.options.audio {
            sdp += "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track=1\r\n";
        }
        sdp
    }

    async fn reply(
        &mut self,
        status: u16,
        cseq: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> io::Result<()> {
        let reason = match status {
            200 => "OK",
            401 => "Unauthorized",
            404 => "Not Found",
            461 => "Unsupported Transport",
            _ => "Not Implemented",
        };
        let mut text = format!("RTSP/1.0 {status} {reason}\r\nCSeq: {cseq}\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body;
        self.player.writer().write_all(text.as_bytes()).await
    }
}

/// Attempts to find two adjacent ports.
const PAIR_TRIES: usize = 50;

/// Binds RTP to an even port and RTCP to the next one (RFC 3550 §11), as clients expect.
async fn udp_pair(
    local: SocketAddr,
    peer: SocketAddr,
    ports: (u16, u16),
) -> io::Result<(UdpSocket, UdpSocket)> {
    for _ in 0..PAIR_TRIES {
        let rtp = UdpSocket::bind((local.ip(), 0)).await?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 1 {
            continue;
        }
        let Ok(rtcp) = UdpSocket::bind((local.ip(), port + 1)).await else { continue };
        rtp.connect((peer.ip(), ports.0)).await?;
        rtcp.connect((peer.ip(), ports.1)).await?;
        return Ok((rtp, rtcp));
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn path_of(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// Reads requests and skips the client's interleaved RTCP, until the connection ends.
async fn read_requests(mut reader: OwnedReadHalf, requests: mpsc::Sender<Request>) {
    let (mut splitter, mut bytes) = (Splitter::default(), BytesMut::new());
    loop {
        let item = match splitter.next(&mut bytes) {
            Ok(Some(item)) => item,
            Ok(None) if matches!(reader.read_buf(&mut bytes).await, Ok(1..)) => continue,
            Ok(None) | Err(_) => return,
        };
        let Item::Message(head, _) = item else { continue };
        let First::Request { method, uri } = head.first.clone() else { continue };
        if requests.send(Request { method, uri, head }).await.is_err() {
            return;
        }
    }
}
