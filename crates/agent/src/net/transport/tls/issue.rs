//! Makes authorities and certificates, as PEM text: for `dunlin tls`, and for agents that run only to try things out.
//!
//! Keys are ECDSA on P-256: small, quick, and known to every tool.

use std::time::{Duration, SystemTime};

use dunlin_core::model::{NodeName, ZoneName};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificate::{Certificate, PeerIdentity, SERVER_NAME};

/// How far a certificate's time reaches into the past, since the clocks of hosts differ.
const MAX_SKEW: Duration = Duration::from_secs(3600);
/// Days for which a certificate may be valid. RFC 5280 §4.1.2.5 knows no year beyond 9999, which this stays far below.
const MAX_DAYS: u64 = 36_500;

/// Why no certificate was made.
#[derive(Debug, Error)]
pub enum IssueError {
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate {0}")]
    Authority(String),
    /// The authority's key cannot be read.
    #[error("the authority's key is not a private key in PEM form")]
    Key,
    /// The authority's key and certificate do not belong together.
    #[error("the authority's key does not belong to its certificate")]
    OtherKey,
    /// The key generator or the encoder failed.
    #[error("{0}")]
    Rcgen(#[from] rcgen::Error),
}

/// The time for which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment at which it is valid.
    pub not_before: SystemTime,
    /// The last moment at which it is valid.
    pub not_after: SystemTime,
}

impl Validity {
    /// A time that lasts `days` days from now, at most 36,500, and began an hour ago for clocks that are slow.
    #[must_use]
    pub fn days(days: u64) -> Self {
        let now = SystemTime::now();
        let time = Duration::from_secs(days.min(MAX_DAYS) * 24 * 3600);
        Self { not_before: now - MAX_SKEW, not_after: now + time }
    }
}

/// A certificate and its key, both as PEM text.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, as PEM text.
    pub certificate: String,
    /// The private key (PKCS #8), as PEM text.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Makes an authority: a certificate that signs itself and may sign those of agents.
///
/// # Errors
/// When the name cannot stand in a certificate.
pub fn create_ca(name: &str, validity: Validity) -> Result<Issued, IssueError> {
    let mut params = params(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes an agent's certificate, for both ends of a stream. It does not outlive its authority.
///
/// # Errors
/// When the authority's certificate or key cannot be used.
pub fn create_certificate(
    ca_certificate: &str,
    ca_key: &str,
    node: &NodeName,
    zone: &ZoneName,
    validity: Validity,
) -> Result<Issued, IssueError> {
    create_certificate_for_hosts(ca_certificate, ca_key, node, zone, &[], validity)
}

/// Makes an agent's certificate that also bears the addresses and host names by which clients reach the API, so that
/// the agent can serve the API with it.
///
/// # Errors
/// When one of them cannot stand in a certificate, or the authority's certificate or key cannot be used.
pub fn create_certificate_for_hosts(
    ca_certificate: &str,
    ca_key: &str,
    node: &NodeName,
    zone: &ZoneName,
    hosts: &[String],
    validity: Validity,
) -> Result<Issued, IssueError> {
    let identity = PeerIdentity { node: node.clone(), zone: zone.clone() };
    let mut names = vec![
        SanType::URI(identity.to_string().as_str().try_into()?),
        SanType::DnsName(SERVER_NAME.try_into()?),
    ];
    for host in hosts {
        names.push(match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    sign(ca_certificate, ca_key, node.as_str(), &names, validity)
}

/// Signs a certificate with any names.
pub(super) fn sign(
    ca_certificate: &str,
    ca_key: &str,
    subject: &str,
    names: &[SanType],
    validity: Validity,
) -> Result<Issued, IssueError> {
    let (issuer, authority) = issuer(ca_certificate, ca_key)?;
    let not_after = validity.not_after.min(authority.not_after);
    let mut params = params(subject, Validity { not_after, ..validity });
    params.subject_alt_names = names.to_vec();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    params
}

fn issuer(
    ca_certificate: &str,
    ca_key: &str,
) -> Result<(Issuer<'static, KeyPair>, Certificate), IssueError> {
    let authority = |problem: &str| IssueError::Authority(problem.to_owned());
    let der = CertificateDer::from_pem_slice(ca_certificate.as_bytes())
        .map_err(|e| IssueError::Authority(format!("is not in PEM form: {e}")))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| authority("cannot be read"))?;
    let read = Certificate::read(&der).ok_or_else(|| authority("cannot be read"))?;
    if !read.is_authority {
        return Err(authority("is not one of an authority; `dunlin tls ca create` makes one"));
    }
    if let Err(reason) = read.check_time(SystemTime::now()) {
        return Err(IssueError::Authority(format!("cannot sign: {reason}")));
    }
    let key = KeyPair::from_pem(ca_key).map_err(|_| IssueError::Key)?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(IssueError::OtherKey);
    }
    Ok((Issuer::from_ca_cert_der(&der, key)?, read))
}
