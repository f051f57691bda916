//! SRTP: our own in-place encryption of outgoing RTP (RFC 3711, RFC 7714); decryption, and SRTCP in both directions,
//! are done by rtc's context. Only [`SrtpContext`] may encrypt with a peer's keys, so that no packet index is used
//! twice. Start there.

use aes::Aes128;
use aes::cipher::{BlockEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use hmac::{Hmac, Mac};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rtc::crypto::RTCCrypto;
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;
use sha1::Sha1;

/// The protection profile negotiated in the DTLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// RFC 7714.
    Aes128Gcm,
    /// RFC 3711's default, and Chromium's choice.
    Aes128CmSha1_80,
}

impl Profile {
    fn salt_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }

    /// Bytes required from the DTLS exporter (RFC 5764 §4.2).
    pub fn keying_material_len(self) -> usize {
        2 * (16 + self.salt_len())
    }

    /// Bytes by which protection makes a packet longer.
    pub fn tag_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes128CmSha1_80 => 10,
        }
    }

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AEAD_AES_128_GCM",
            Self::Aes128CmSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    fn of_rtc(self) -> ProtectionProfile {
        match self {
            Self::Aes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Self::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }
}

/// Why a packet cannot be encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum SrtpError {
    /// Keys of the wrong length, or rejected by the cipher.
    #[error("SRTP keys cannot be used: {0}")]
    Keys(String),
    /// An outgoing packet cannot be encrypted.
    #[error("the packet cannot be encrypted")]
    Protect,
    /// An incoming packet is forged, damaged or repeated.
    #[error("the packet cannot be decrypted")]
    Unprotect,
}

type Ctr = StreamCipherCoreWrapper<ctr::CtrCore<Aes128, ctr::flavors::Ctr128BE>>;

/// Encrypts outgoing RTP packets.
// There is one per peer, boxed with it, so the size of the larger variant does not matter.
#[allow(clippy::large_enum_variant)]
pub enum RtpProtector {
    /// AES-128-GCM.
    Gcm {
        /// The session key.
        key: LessSafeKey,
        /// The session salt.
        salt: [u8; 12],
    },
    /// AES-CM with HMAC-SHA1.
    Cm {
        /// The session key, expanded.
        cipher: Aes128,
        /// The session salt.
        salt: [u8; 14],
        /// Already keyed, so that a packet costs a copy of its state instead of a key setup.
        mac: Hmac<Sha1>,
    },
}

impl RtpProtector {
    fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Result<Self, SrtpError> {
        let bad = |what: &str| SrtpError::Keys(what.to_owned());
        let master = Aes128::new_from_slice(master_key).map_err(|_| bad("master key"))?;
        let mut key = [0; 16];
        derive(&master, master_salt, 0, &mut key);
        match profile {
            Profile::Aes128Gcm => {
                let mut salt = [0; 12];
                derive(&master, master_salt, 2, &mut salt);
                let key = UnboundKey::new(&AES_128_GCM, &key).map_err(|_| bad("session key"))?;
                Ok(Self::Gcm { key: LessSafeKey::new(key), salt })
            }
            Profile::Aes128CmSha1_80 => {
                let (mut salt, mut auth) = ([0; 14], [0; 20]);
                derive(&master, master_salt, 2, &mut salt);
                derive(&master, master_salt, 1, &mut auth);
                let mac =
                    <Hmac<Sha1> as Mac>::new_from_slice(&auth).map_err(|_| bad("authentication key"))?;
                Ok(Self::Cm { cipher: Aes128::new(&key.into()), salt, mac })
            }
        }
    }

    /// Encrypts in place the packet that begins at `start` of `buffer` with a header of `header_len` bytes, and appends
    /// the tag. `index` is rollover counter and sequence number combined.
    ///
    /// # Errors
    /// Never for packets of normal size.
    pub fn protect(
        &self,
        buffer: &mut Vec<u8>,
        start: usize,
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), SrtpError> {
        match self {
            Self::Gcm { key, salt } => {
                let (header, payload) = buffer[start..].split_at_mut(header_len);
                let nonce = Nonce::assume_unique_for_key(gcm_nonce(salt, ssrc, index));
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .map_err(|_| SrtpError::Protect)?;
                buffer.extend_from_slice(tag.as_ref());
            }
            Self::Cm { cipher, salt, mac } => {
                let iv = cm_iv(salt, ssrc, index);
                let core = ctr::CtrCore::inner_iv_init(cipher.clone(), &iv.into());
                Ctr::from_core(core).apply_keystream(&mut buffer[start + header_len..]);
                let mut mac = mac.clone();
                mac.update(&buffer[start..]);
                mac.update(&((index >> 16) as u32).to_be_bytes());
                buffer.extend_from_slice(&mac.finalize().into_bytes()[..10]);
            }
        }
        Ok(())
    }
}

/// RFC 7714 §8.1: 16 zero bits, SSRC, ROC, SEQ, xor salt.
fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut nonce = *salt;
    let fields = u128::from(ssrc) << 48 | u128::from(index & 0xffff_ffff_ffff);
    nonce.iter_mut().zip(&fields.to_be_bytes()[4..]).for_each(|(byte, field)| *byte ^= field);
    nonce
}

/// RFC 3711 §4.1.1: (salt · 2^16) xor (SSRC · 2^64) xor (index · 2^16).
fn cm_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = (u128::from(ssrc) << 64 ^ u128::from(index & 0xffff_ffff_ffff) << 16).to_be_bytes();
    iv.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    iv
}

/// RFC 3711 §4.3, with a key derivation rate of 0. GCM's salt is padded with zeros (RFC 7714 §11).
fn derive(master: &Aes128, salt: &[u8], label: u8, out: &mut [u8]) {
    for (number, chunk) in out.chunks_mut(16).enumerate() {
        let mut block = [0; 16];
        block[..salt.len()].copy_from_slice(salt);
        block[7] ^= label;
        block[15] ^= number as u8;
        let mut block = block.into();
        master.encrypt_block(&mut block);
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

/// The SRTP state of one peer, both directions.
pub struct SrtpContext {
    profile: Profile,
    protector: RtpProtector,
    rtcp_out: Context,
    inbound: Context,
    /// SSRCs of successfully decrypted packets, RTP and RTCP.
    ssrcs: Vec<u32>,
    /// Packets of unknown SSRCs that could not be decrypted: the context keeps state for those SSRCs, too.
    strangers: usize,
}

/// Video, audio, their retransmissions, and room for changed SSRCs.
const MAX_SSRCS: usize = 16;
/// Forged or damaged packets with unknown SSRCs; after that no new SSRC is accepted.
const MAX_STRANGERS: usize = 64;
/// How many packets late a packet may arrive: a second at 10 Mbit/s.
const REPLAY_WINDOW: usize = 1024;

impl SrtpContext {
    /// Creates the context from the DTLS exporter's keying material.
    ///
    /// # Errors
    /// The material has the wrong length.
    pub fn new(
        profile: Profile,
        material: &[u8],
        is_client: bool,
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, SrtpError> {
        let salt = profile.salt_len();
        if material.len() != profile.keying_material_len() {
            return Err(SrtpError::Keys(format!("{} bytes of keying material", material.len())));
        }
        // RFC 5764 §4.2: client key, server key, client salt, server salt.
        let client = (&material[..16], &material[32..32 + salt]);
        let server = (&material[16..32], &material[32 + salt..]);
        let (local, remote) = if is_client { (client, server) } else { (server, client) };
        let context = |keys: (&[u8], &[u8]), replay, replay_rtcp| {
            Context::new(keys.0, keys.1, profile.of_rtc(), replay, replay_rtcp, crypto)
                .map_err(|error| SrtpError::Keys(error.to_string()))
        };
        Ok(Self {
            profile,
            protector: RtpProtector::new(profile, local.0, local.1)?,
            rtcp_out: context(local, None, None)?,
            inbound: context(
                remote,
                Some(srtp_replay_protection(REPLAY_WINDOW)),
                Some(srtcp_replay_protection(64)),
            )?,
            ssrcs: Vec::new(),
            strangers: 0,
        })
    }

    /// The agreed profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Encrypts outgoing RTP.
    pub fn protector(&self) -> &RtpProtector {
        &self.protector
    }

    /// Encrypts an RTCP compound.
    ///
    /// # Errors
    /// Never for well-formed RTCP.
    pub fn protect_rtcp(&mut self, plain: &[u8]) -> Result<Vec<u8>, SrtpError> {
        self.rtcp_out.encrypt_rtcp(plain).map(|protected| protected.to_vec()).map_err(|_| SrtpError::Protect)
    }

    /// Decrypts an incoming RTP packet.
    ///
    /// # Errors
    /// It is forged, damaged or repeated, or has an unknown SSRC after the limits are reached.
    pub fn unprotect_rtp(&mut self, protected: &[u8]) -> Result<bytes::Bytes, SrtpError> {
        let ssrc = crate::rtp::packet::word(protected, 8).ok_or(SrtpError::Unprotect)?;
        let known = self.admit(ssrc)?;
        let opened = self.inbound.decrypt_rtp(protected);
        self.learn(ssrc, known, opened.is_ok());
        opened.map(bytes::BytesMut::freeze).map_err(|_| SrtpError::Unprotect)
    }

    /// Whether an SSRC is known; an error if it is not and the limits are reached. rtc's context keeps state for every
    /// SSRC that it sees, so their number must be limited.
    fn admit(&self, ssrc: u32) -> Result<bool, SrtpError> {
        let known = self.ssrcs.contains(&ssrc);
        if !known && (self.ssrcs.len() >= MAX_SSRCS || self.strangers >= MAX_STRANGERS) {
            return Err(SrtpError::Unprotect);
        }
        Ok(known)
    }

    fn learn(&mut self, ssrc: u32, known: bool, opened: bool) {
        match (known, opened) {
            (true, _) => {}
            (false, true) => self.ssrcs.push(ssrc),
            (false, false) => self.strangers += 1,
        }
    }

    /// Decrypts an incoming RTCP compound.
    ///
    /// # Errors
    /// It is forged, damaged or repeated, or has an unknown SSRC after the limits are reached.
    pub fn unprotect_rtcp(&mut self, protected: &[u8]) -> Result<Vec<u8>, SrtpError> {
        // At least header with the sender's SSRC, index and tag.
        if protected.len() < 8 + 4 + self.profile.tag_len() {
            return Err(SrtpError::Unprotect);
        }
        let ssrc = crate::rtp::packet::word(protected, 4).ok_or(SrtpError::Unprotect)?;
        let known = self.admit(ssrc)?;
        let opened = self.inbound.decrypt_rtcp(protected);
        self.learn(ssrc, known, opened.is_ok());
        opened.map(|plain| plain.to_vec()).map_err(|_| SrtpError::Unprotect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, ssrc: u32, payload: usize) -> Vec<u8> {
        let mut packet = vec![0x90, 0x66];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 9]);
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x12, 0, 0, 0]);
        packet.extend((0..payload).map(|i| i as u8));
        packet
    }

    /// The output equals that of rtc's context byte for byte, also across rollovers.
    #[test]
    fn protects_like_rtc() {
        let provider = rtc::crypto::default_provider().unwrap();
        let material: Vec<u8> = (0..60u8).map(|i| i.wrapping_mul(37)).collect();
        for profile in [Profile::Aes128Gcm, Profile::Aes128CmSha1_80] {
            let material = &material[..profile.keying_material_len()];
            let salt = profile.salt_len();
            let session = SrtpContext::new(profile, material, true, provider.crypto()).unwrap();
            let (key, salt) = (&material[..16], &material[32..32 + salt]);
            let mut theirs =
                Context::new(key, salt, profile.of_rtc(), None, None, provider.crypto()).unwrap();
            for index in [100u64, 101, 32_000, 65_535, 65_536, 65_600, 98_000, 125_000, 131_072] {
                for payload in [1, 160, 1180] {
                    let plain = packet(index as u16, 0xdead_beef, payload);
                    let mut ours = vec![1, 2, 3];
                    ours.extend_from_slice(&plain);
                    session.protector().protect(&mut ours, 3, 20, 0xdead_beef, index).unwrap();
                    assert_eq!(ours[3..], theirs.encrypt_rtp(&plain).unwrap()[..], "{profile:?} {index}");
                    assert_eq!(ours.len(), 3 + plain.len() + profile.tag_len());
                }
            }
        }
    }

    #[test]
    fn rtcp_there_and_back() {
        let provider = rtc::crypto::default_provider().unwrap();
        for profile in [Profile::Aes128Gcm, Profile::Aes128CmSha1_80] {
            let material = vec![7; profile.keying_material_len()];
            let mut client = SrtpContext::new(profile, &material, true, provider.crypto()).unwrap();
            let mut server = SrtpContext::new(profile, &material, false, provider.crypto()).unwrap();
            let plain = [0x80, 201, 0, 1, 0, 0, 0, 5];
            let protected = client.protect_rtcp(&plain).unwrap();
            assert_eq!(server.unprotect_rtcp(&protected).unwrap(), plain);
            assert!(server.unprotect_rtcp(&protected).is_err(), "a repeated packet is refused");
            let mut forged = client.protect_rtcp(&plain).unwrap();
            forged[9] ^= 1;
            assert!(server.unprotect_rtcp(&forged).is_err());
            for length in 0..protected.len() {
                assert!(server.unprotect_rtcp(&protected[..length]).is_err());
            }
        }
        assert!(SrtpContext::new(Profile::Aes128Gcm, &[0; 3], true, provider.crypto()).is_err());
    }
}
