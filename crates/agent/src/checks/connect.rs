//! Connections of checks, plain and TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use dunlin_core::model::TlsCheck;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Failure;

/// The stream of a check, plain or with TLS.
pub(super) trait CheckStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> CheckStream for T {}

/// TLS settings shared by all checks; the system's roots are read at the first check that needs them.
#[derive(Default)]
pub(super) struct Tls {
    roots: OnceLock<Arc<RootCertStore>>,
}

/// Connects to an address.
pub(super) async fn tcp(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|e| explain(&e, address))?;
    // Where nobody listens on a port of the range that connections start from, the kernel may choose that
    // very port to start from, and the connection meets itself (RFC 9293 §3.5, simultaneous open).
    if meets_itself(&stream, address) {
        reset_on_close(&stream);
        return Err(format!("connection refused ({address})"));
    }
    // Small requests should not wait for the answer to something else.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

pub(super) fn meets_itself(stream: &TcpStream, address: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|own| own == address)
}

/// Closes without leaving the connection's port pair in TIME_WAIT. For connections that carried nothing.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // Where that fails, the connection is closed the usual way.
    let _ = stream.set_zero_linger();
}

/// Says in a few words why an address could not be reached.
fn explain(error: &io::Error, address: SocketAddr) -> Failure {
    let words = [
        (io::ErrorKind::ConnectionRefused, "connection refused"),
        (io::ErrorKind::ConnectionReset, "connection reset"),
        (io::ErrorKind::HostUnreachable, "host unreachable"),
        (io::ErrorKind::NetworkUnreachable, "network unreachable"),
    ];
    match words.iter().find(|(kind, _)| *kind == error.kind()) {
        Some((_, words)) => format!("{words} ({address})"),
        None => format!("{error} ({address})"),
    }
}

impl Tls {
    /// Connects, with TLS if asked for, offering one application protocol.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        tls: Option<&TlsCheck>,
        alpn: &[u8],
    ) -> Result<Box<dyn CheckStream>, Failure> {
        let stream = tcp(address).await?;
        let Some(tls) = tls else { return Ok(Box::new(stream)) };
        let name = match &tls.server_name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|_| format!("{name:?} is not a TLS server name"))?,
            None => ServerName::from(address.ip()),
        };
        let mut config = self.config(tls.verify)?;
        config.alpn_protocols = vec![alpn.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|e| format!("TLS handshake failed: {e} ({address})"))?))
    }

    fn config(&self, verify: bool) -> Result<ClientConfig, Failure> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        Ok(if verify {
            builder.with_root_certificates(Arc::clone(self.roots())).with_no_client_auth()
        } else {
            let verifier = Arc::new(NoVerification::new(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        })
    }

    fn roots(&self) -> &Arc<RootCertStore> {
        self.roots.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            // Without roots no certificate is accepted, and the check says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        })
    }
}

/// Takes any certificate: for checks whose owner switched verification off.
#[derive(Debug)]
pub(crate) struct NoVerification {
    provider: Arc<CryptoProvider>,
}

impl NoVerification {
    pub(crate) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
