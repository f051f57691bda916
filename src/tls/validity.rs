//! When a certificate is valid. Pure.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why browsers do not accept a certificate at a time: it has expired, or is not valid yet, which may also mean that the
/// clock is wrong.
pub fn problem(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if validity.not_after.timestamp() < now {
        Some(format!("the certificate has expired on {}", validity.not_after))
    } else if validity.not_before.timestamp() > now {
        Some(format!("the certificate is not valid before {}", validity.not_before))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn expired_valid_and_not_yet_valid() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let at = |year: u64| UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600 + 15_000_000);
        assert!(problem(certificate.der(), at(2029)).unwrap().contains("not valid before"));
        assert_eq!(problem(certificate.der(), at(2030)), None);
        assert!(problem(certificate.der(), at(2031)).unwrap().contains("expired"));
    }
}
