//! STUN messages of ICE (RFC 8489, RFC 8445 §7): parsing and building, using rtc's stun. No state, no decisions; those
//! are in `ice`. Start at [`Incoming`].

use std::net::SocketAddr;

use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
};
use rtc::stun::error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING,
    Message, Setter, TransactionId,
};
use rtc::stun::textattrs::TextAttribute;
use rtc::stun::xoraddr::XorMappedAddress;

/// ICE's STUN messages are never larger.
const MAX_MESSAGE: usize = 1500;
/// PRIORITY in checks is that of a peer-reflexive candidate (RFC 8445 §7.1.1): type preference 110.
const CHECK_PRIORITY: u32 = 110 << 24 | 65_535 << 8 | 255;

/// The 96 bits that pair a request with its response.
pub type Transaction = [u8; 12];

/// The kind of a binding message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A check by the remote side, or a plain STUN binding request.
    Request,
    /// The response to one of our checks.
    Success,
}

/// An incoming binding message. Nothing in it can be trusted before [`Incoming::is_authentic`].
pub struct Incoming {
    message: Message,
    kind: Kind,
}

impl Incoming {
    /// Parses a datagram; `None` if it is not a binding request or success response.
    pub fn parse(data: &[u8]) -> Option<Self> {
        if data.len() < 20 || data.len() > MAX_MESSAGE || data[0] > 1 {
            return None;
        }
        let mut message = Message::new();
        message.unmarshal_binary(data).ok()?;
        let kind = match message.typ.class {
            CLASS_REQUEST => Kind::Request,
            CLASS_SUCCESS_RESPONSE => Kind::Success,
            _ => return None,
        };
        (message.typ.method == METHOD_BINDING).then_some(Self { message, kind })
    }

    /// Request or response.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its transaction.
    pub fn transaction(&self) -> Transaction {
        self.message.transaction_id.0
    }

    /// The user name of a check: `ours:theirs` (user fragments).
    pub fn username(&self) -> Option<String> {
        TextAttribute::get_from_as(&self.message, ATTR_USERNAME).ok().map(|attribute| attribute.text)
    }

    /// Whether the remote side nominates this pair (RFC 8445 §8.1.1).
    pub fn use_candidate(&self) -> bool {
        self.message.contains(ATTR_USE_CANDIDATE)
    }

    /// Whether the remote side claims the controlled role, which is ours.
    pub fn is_controlled(&self) -> bool {
        self.message.contains(ATTR_ICE_CONTROLLED)
    }

    /// Whether MESSAGE-INTEGRITY is valid for this password.
    pub fn is_authentic(&mut self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        self.message.contains(ATTR_MESSAGE_INTEGRITY)
            && MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).is_ok()
    }
}

/// Builds one of our checks. `username` is `theirs:ours`.
pub fn request(
    transaction: Transaction,
    username: String,
    tie_breaker: u64,
    password: &str,
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    build(&[
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId(transaction)),
        Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        Box::new(Raw(ATTR_ICE_CONTROLLED, &tie_breaker.to_be_bytes())),
        Box::new(Raw(ATTR_PRIORITY, &CHECK_PRIORITY.to_be_bytes())),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
        Box::new(FINGERPRINT),
    ])
}

/// Builds the success response to a check.
pub fn success(
    transaction: Transaction,
    mapped: SocketAddr,
    password: &str,
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    build(&[
        Box::new(BINDING_SUCCESS),
        Box::new(TransactionId(transaction)),
        Box::new(XorMappedAddress { ip: mapped.ip(), port: mapped.port() }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
        Box::new(FINGERPRINT),
    ])
}

/// Builds the 487 error response, which makes the remote side take the controlling role (RFC 8445 §7.3.1.1).
pub fn role_conflict(transaction: Transaction, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    build(&[
        Box::new(BINDING_ERROR),
        Box::new(TransactionId(transaction)),
        Box::new(ErrorCodeAttribute { code: CODE_ROLE_CONFLICT, reason: b"Role Conflict".to_vec() }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
        Box::new(FINGERPRINT),
    ])
}

/// Builds the response to a plain binding request without user name or password (RFC 8489 §2).
pub fn plain_answer(transaction: Transaction, mapped: SocketAddr) -> Option<Vec<u8>> {
    build(&[
        Box::new(BINDING_SUCCESS),
        Box::new(TransactionId(transaction)),
        Box::new(XorMappedAddress { ip: mapped.ip(), port: mapped.port() }),
        Box::new(FINGERPRINT),
    ])
}

/// The transaction of a binding success response, without parsing the rest.
pub fn peek_response(data: &[u8]) -> Option<Transaction> {
    let header = data.first_chunk::<20>()?;
    // RFC 8489 §5: type, length, magic cookie, transaction.
    (header[..2] == [1, 1] && header[4..8] == [0x21, 0x12, 0xa4, 0x42])
        .then(|| *header.last_chunk::<12>().unwrap_or(&[0; 12]))
}

/// The user name of a binding request, without parsing the rest: enough to find the peer.
pub fn peek_username(data: &[u8]) -> Option<&str> {
    if data.len() < 20 || data[..2] != [0, 1] {
        return None;
    }
    let mut at = 20;
    while let Some(header) = data.get(at..at + 4) {
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let value = data.get(at + 4..at + 4 + length)?;
        if kind == ATTR_USERNAME.0 {
            return std::str::from_utf8(value).ok();
        }
        at += 4 + length.next_multiple_of(4);
    }
    None
}

struct Raw<'a>(rtc::stun::attributes::AttrType, &'a [u8]);

impl Setter for Raw<'_> {
    fn add_to(&self, message: &mut Message) -> Result<(), rtc::shared::error::Error> {
        message.add(self.0, self.1);
        Ok(())
    }
}

fn build(setters: &[Box<dyn Setter + '_>]) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.build(setters).ok()?;
    Some(message.raw)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rtc::stun::attributes::ATTR_ICE_CONTROLLING;

    /// A check as a browser sends it.
    pub fn browser_check(username: &str, password: &str, nominate: bool) -> (Transaction, Vec<u8>) {
        let provider = rtc::crypto::default_provider().unwrap();
        let transaction = rand::random();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId(transaction)),
            Box::new(TextAttribute::new(ATTR_USERNAME, username.into())),
            Box::new(Raw(ATTR_ICE_CONTROLLING, &[7; 8])),
        ];
        if nominate {
            setters.push(Box::new(Raw(ATTR_USE_CANDIDATE, &[])));
        }
        let crypto = provider.crypto();
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.into(),
            crypto,
        )));
        setters.push(Box::new(FINGERPRINT));
        (transaction, build(&setters).unwrap())
    }

    #[test]
    fn reads_what_it_writes() {
        let provider = rtc::crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        let data = request([1; 12], "them:us".into(), 5, "secret", crypto).unwrap();
        assert_eq!(peek_username(&data), Some("them:us"));
        let mut message = Incoming::parse(&data).unwrap();
        assert_eq!((message.kind(), message.transaction()), (Kind::Request, [1; 12]));
        assert_eq!(message.username().as_deref(), Some("them:us"));
        assert!(message.is_controlled() && !message.use_candidate());
        assert!(message.is_authentic("secret", crypto));
        assert!(!message.is_authentic("wrong", crypto));
        let answer = plain_answer([2; 12], "[2001:db8::1]:9".parse().unwrap()).unwrap();
        let mut answer = Incoming::parse(&answer).unwrap();
        assert_eq!(answer.kind(), Kind::Success);
        assert!(!answer.is_authentic("secret", crypto));
        assert!(role_conflict([3; 12], "secret", crypto).is_some());
    }

    #[test]
    fn other_datagrams_are_not_stun() {
        for data in
            [&[][..], &[0; 19], &[22, 254, 253, 0], &[0x80; 60], &[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]]
        {
            assert!(Incoming::parse(data).is_none());
            assert!(peek_username(data).is_none());
        }
        let (_, check) = browser_check("a:b", "p", true);
        for length in 0..check.len() {
            assert!(Incoming::parse(&check[..length]).is_none());
            let _ = peek_username(&check[..length]);
        }
    }
}
