//! The RTSP server for retina: one connection on a loopback port, with exactly the answers that the RFC has. Whoever does
//! not know the path is turned away. Start at [`Strict::listen`].

use std::fmt::Write as _;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::rtsp::message::{First, Head, head_length};

/// Longest request of retina.
const MAX_REQUEST: usize = 4096;
/// Connections of others that are turned away before it gives up.
const MAX_STRANGERS: usize = 16;

/// A track as retina sees it.
#[derive(Clone, Debug)]
pub struct StrictTrack {
    /// `video` or `audio`.
    pub media: &'static str,
    /// Its payload type.
    pub payload_type: u8,
    /// As `H264/90000`.
    pub encoding: String,
    /// Its SSRC.
    pub ssrc: u32,
}

/// The server, before retina has connected.
pub struct Strict {
    listener: TcpListener,
    path: String,
    tracks: Vec<StrictTrack>,
}

/// The connection with retina.
pub struct Connection {
    stream: TcpStream,
    bytes: BytesMut,
    tracks: Vec<StrictTrack>,
}

/// What retina has asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// To begin.
    Play,
    /// To end, or it is gone.
    End,
    /// Anything else.
    Other,
}

impl Strict {
    /// Opens the port.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn listen(tracks: Vec<StrictTrack>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { listener, path: format!("/{:032x}", rand::random::<u128>()), tracks })
    }

    /// Where retina finds it.
    pub fn url(&self) -> io::Result<Url> {
        let address = self.listener.local_addr()?;
        Url::parse(&format!("rtsp://{address}{}", self.path)).map_err(io::Error::other)
    }

    /// Waits for retina. The port is closed afterwards.
    pub async fn accept(self) -> io::Result<Connection> {
        for _ in 0..MAX_STRANGERS {
            let (stream, _) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            let mut connection = Connection { stream, bytes: BytesMut::new(), tracks: self.tracks.clone() };
            let head = connection.request().await?;
            let is_retina = matches!(&head.first, First::Request { uri, .. } if uri.contains(&self.path));
            if is_retina {
                connection.answer(&head).await?;
                return Ok(connection);
            }
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

impl Connection {
    /// Serves the next request. May be dropped without losing one.
    pub async fn serve(&mut self) -> io::Result<Asked> {
        let head = self.request().await?;
        self.answer(&head).await
    }

    /// Passes on interleaved packets.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn request(&mut self) -> io::Result<Head> {
        loop {
            if let Some(length) = head_length(&self.bytes) {
                let text = self.bytes.split_to(length);
                return Head::parse(&text).ok_or(io::ErrorKind::InvalidData.into());
            }
            if self.bytes.len() > MAX_REQUEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn answer(&mut self, head: &Head) -> io::Result<Asked> {
        let First::Request { method, uri } = &head.first else { return Ok(Asked::Other) };
        let method = method.as_str();
        let mut headers = String::new();
        let mut body = String::new();
        match method {
            "OPTIONS" => headers += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
            "DESCRIBE" => {
                body = sdp(&self.tracks);
                let _ = write!(headers, "Content-Type: application/sdp\r\nContent-Base: {uri}/\r\n");
                let _ = write!(headers, "Content-Length: {}\r\n", body.len());
            }
            "SETUP" => {
                let number: usize = uri.rsplit('/').next().and_then(|name| name.parse().ok()).unwrap_or(0);
                let ssrc = self.tracks.get(number).map_or(0, |track| track.ssrc);
                let (rtp, rtcp) = (number * 2, number * 2 + 1);
                headers += "Session: 1;timeout=3600\r\n";
                let _ = write!(
                    headers,
                    "Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp};ssrc={ssrc:08x}\r\n"
                );
            }
            _ => headers += "Session: 1\r\n",
        }
        let cseq = head.get("cseq").unwrap_or("0");
        let text = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}\r\n{body}");
        self.stream.write_all(text.as_bytes()).await?;
        Ok(match method {
            "PLAY" => Asked::Play,
            "TEARDOWN" => Asked::End,
            _ => Asked::Other,
        })
    }
}

fn sdp(tracks: &[StrictTrack]) -> String {
    let mut text =
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n".to_owned();
    for (number, StrictTrack { media, payload_type, encoding, .. }) in tracks.iter().enumerate() {
        let _ = write!(text, "m={media} 0 RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {encoding}\r\n");
        let _ = write!(text, "a=control:{number}\r\n");
    }
    text
}
