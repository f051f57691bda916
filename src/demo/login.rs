//! The simulated camera's authentication: Basic (RFC 7617) and Digest with MD5 (RFC 7616, and RFC 2069, which many
//! cameras still use). Only for the simulated camera: MD5 is not secure. Start at [`Login::accepts`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::LoginScheme;

const REALM: &str = "demo camera";

/// The expected credentials.
pub struct Login<'a> {
    pub username: &'a str,
    pub password: &'a str,
    pub scheme: LoginScheme,
    /// The nonce of this connection.
    pub nonce: &'a str,
}

impl Login<'_> {
    /// For `WWW-Authenticate`.
    pub fn challenge(&self) -> String {
        match self.scheme {
            LoginScheme::Basic => format!("Basic realm=\"{REALM}\""),
            LoginScheme::Digest => format!("Digest realm=\"{REALM}\", nonce=\"{}\"", self.nonce),
        }
    }

    /// Whether the value of `Authorization` is valid for this request.
    pub fn accepts(&self, authorization: &str, method: &str, uri: &str) -> bool {
        match self.scheme {
            LoginScheme::Basic => {
                let expected = STANDARD.encode(format!("{}:{}", self.username, self.password));
                authorization.strip_prefix("Basic ") == Some(&expected)
            }
            LoginScheme::Digest => {
                let Some(fields) = authorization.strip_prefix("Digest ") else { return false };
                let field = |name: &str| {
                    fields.split(',').find_map(|field| {
                        let (key, value) = field.trim().split_once('=')?;
                        (key == name).then(|| value.trim_matches('"'))
                    })
                };
                let ha1 = md5_hex(&format!("{}:{REALM}:{}", self.username, self.password));
                let ha2 = md5_hex(&format!("{method}:{uri}"));
                field("nonce") == Some(self.nonce)
                    && field("username") == Some(self.username)
                    && field("response") == Some(&md5_hex(&format!("{ha1}:{}:{ha2}", self.nonce)))
            }
        }
    }
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest() {
        let login = Login { username: "u", password: "p", scheme: LoginScheme::Digest, nonce: "n" };
        let ha1 = md5_hex("u:demo camera:p");
        let response = md5_hex(&format!("{ha1}:n:{}", md5_hex("DESCRIBE:rtsp://h/demo")));
        let header =
            format!("Digest username=\"u\", realm=\"demo camera\", nonce=\"n\", response=\"{response}\"");
        assert!(login.accepts(&header, "DESCRIBE", "rtsp://h/demo"));
        assert!(!login.accepts(&header, "SETUP", "rtsp://h/demo"));
        assert!(!login.accepts("Digest", "DESCRIBE", "rtsp://h/demo"));
    }
}
