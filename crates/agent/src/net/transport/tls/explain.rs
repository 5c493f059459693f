//! TLS errors and alerts in words for operators.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible};

/// What a peer means when it ends the handshake: it sends one of these numbers and nothing else.
const ALERTS: &[(Alert, &str)] = &[
    (Alert::UnknownCA, "the peer refused our certificate: none of its authorities signed it"),
    (
        Alert::CertificateExpired,
        "the peer refused our certificate: by its clock it has expired, or is not valid yet",
    ),
    (
        Alert::AccessDenied,
        "the peer refused our certificate: it does not name the node that the peer expects, or none",
    ),
    (Alert::BadCertificate, "the peer refused our certificate: it cannot read it"),
    (Alert::UnsupportedCertificate, "the peer refused our certificate: it is of an unknown kind"),
    (Alert::CertificateRevoked, "the peer refused our certificate: it is revoked"),
    (Alert::CertificateUnknown, "the peer refused our certificate"),
    (Alert::DecryptError, "the peer refused our certificate: its signature does not fit"),
    (Alert::CertificateRequired, "the peer wants a certificate, and we showed none"),
    (Alert::ProtocolVersion, "the peer does not speak TLS 1.3"),
];

/// What an error of a stream means if TLS is its cause, else what the error itself says. Errors of reads and writes are
/// explained too, since a refusal by the other side shows at the first read.
#[must_use]
pub fn explain(error: &io::Error) -> String {
    match tls_cause(error) {
        Some(tls) => explain_tls(tls),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection".to_owned()
        }
        None => error.to_string(),
    }
}

/// The TLS library's error within a stream's, if there is one.
pub(super) fn tls_cause(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn explain_tls(error: &Error) -> String {
    if let Error::AlertReceived(alert) = error {
        let known = ALERTS.iter().find(|(known, _)| known == alert);
        return known.map_or_else(
            || format!("the peer ended the TLS handshake: {alert:?}"),
            |(_, words)| (*words).to_owned(),
        );
    }
    if let Error::InvalidCertificate(problem) = error {
        let is_denied = *problem == CertificateError::ApplicationVerificationFailure;
        let why = if is_denied { "its name".to_owned() } else { problem.to_string() };
        return format!("we refuse the peer's certificate: {why}");
    }
    if let Error::PeerIncompatible(problem) = error {
        let is_version = *problem == PeerIncompatible::Tls13RequiredForQuic
            || *problem == PeerIncompatible::SupportedVersionsExtensionRequired
            || *problem == PeerIncompatible::ServerDoesNotSupportTls12Or13
            || *problem == PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            || *problem == PeerIncompatible::Tls12NotOfferedOrEnabled;
        let what = if is_version { "TLS 1.3".to_owned() } else { format!("our TLS: {problem:?}") };
        return format!("the peer does not speak {what}");
    }
    if let Error::InvalidMessage(_) = error {
        return "the peer does not speak TLS".to_owned();
    }
    if *error == Error::NoCertificatesPresented {
        return "the peer showed no certificate".to_owned();
    }
    format!("TLS: {error}")
}
