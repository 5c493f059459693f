//! The API over TLS, and without interruption when its certificate changes.

use dunlin_core::config::ApiTls;
use dunlin_shell::Reload;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::ApiCredentials;
use crate::net::tls::issue::{
    Issued, Validity, create_ca, create_certificate, create_certificate_for_hosts,
};

struct Pki {
    folder: tempfile::TempDir,
    ca: Issued,
}

impl Pki {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            ca: create_ca("t", Validity::days(9)).unwrap(),
        }
    }

    fn files(&self, asks_clients: bool) -> ApiTls {
        let path = |name: &str| self.folder.path().join(name);
        std::fs::write(path("ca.crt"), &self.ca.certificate).unwrap();
        self.write_server();
        let client_ca = asks_clients.then(|| path("ca.crt"));
        ApiTls { cert: path("api.crt"), key: path("api.key"), client_ca }
    }

    fn write_server(&self) {
        let (name, zone) = (NodeName::parse("a").unwrap(), zone("eu1"));
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let (ca, validity) = (&self.ca, Validity::days(9));
        let issued =
            create_certificate_for_hosts(&ca.certificate, &ca.key, &name, &zone, &hosts, validity);
        let issued = issued.unwrap();
        std::fs::write(self.folder.path().join("api.crt"), &issued.certificate).unwrap();
        std::fs::write(self.folder.path().join("api.key"), &issued.key).unwrap();
    }

    /// A client that believes our authority, with a certificate of an authority or none.
    fn client(&self, signer: Option<&Issued>) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.certificate.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match signer {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let (name, zone) = (NodeName::parse("c").unwrap(), zone("eu1"));
                let own =
                    create_certificate(&ca.certificate, &ca.key, &name, &zone, Validity::days(1));
                let own = own.unwrap();
                let chain = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// The status of a lookup over TLS, or that there is none.
async fn ask(fixture: &Fixture, connector: &TlsConnector) -> Option<StatusCode> {
    let stream = soon(TcpStream::connect(fixture.address)).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let stream = soon(connector.connect(name, stream)).await.ok()?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = soon(handshake).await.ok()?;
    tokio::spawn(connection);
    let answer = soon(sender.send_request(request(Method::GET, "/api/services", ""))).await;
    answer.ok().map(|answer| answer.status())
}

fn fixture(files: ApiTls) -> (Fixture, Arc<ApiCredentials>) {
    let credentials = Arc::new(ApiCredentials::load(files).unwrap());
    let access = Access::new(&ApiConfig::default(), None, 0);
    let shared = Some(Arc::clone(&credentials));
    (Fixture::fronted(Limits::default(), access, shared), credentials)
}

#[tokio::test]
async fn a_client_that_believes_the_authority_is_served_and_a_new_certificate_is_taken() {
    let pki = Pki::new();
    let (fixture, credentials) = fixture(pki.files(false));
    assert_eq!(ask(&fixture, &pki.client(None)).await, Some(StatusCode::OK));
    assert_eq!(ask(&fixture, &Pki::new().client(None)).await, None, "another authority");
    assert_eq!(credentials.reload(), Ok(false));
    pki.write_server();
    assert_eq!(credentials.reload(), Ok(true));
    assert_eq!(ask(&fixture, &pki.client(None)).await, Some(StatusCode::OK));
    std::fs::write(pki.folder.path().join("api.key"), "half a key").unwrap();
    let error = credentials.reload().unwrap_err();
    assert!(error.contains("api.key: holds no whole private key"), "{error}");
    assert_eq!(ask(&fixture, &pki.client(None)).await, Some(StatusCode::OK), "the last good one");
    let get = fixture.send_unix(request(Method::GET, "/api/services", "")).await;
    assert_eq!(get.status(), StatusCode::OK, "the local socket needs no TLS");
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_are_served() {
    let pki = Pki::new();
    let (fixture, _) = fixture(pki.files(true));
    let stranger = create_ca("stranger", Validity::days(9)).unwrap();
    assert_eq!(ask(&fixture, &pki.client(None)).await, None);
    assert_eq!(ask(&fixture, &pki.client(Some(&stranger))).await, None);
    assert_eq!(ask(&fixture, &pki.client(Some(&pki.ca))).await, Some(StatusCode::OK));
    fixture.shows_soon("dunlin_http_connections_shed_total{reason=\"handshake\"} 2.0").await;
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (mut files, others) = (pki.files(true), other.files(false));
    let said = |files: &ApiTls| ApiCredentials::load(files.clone()).unwrap_err().to_string();
    files.key = others.key;
    assert!(said(&files).contains("is not the key of"), "{}", said(&files));
    files = pki.files(true);
    files.client_ca = Some(files.key.clone());
    assert!(said(&files).contains("api.key: holds no certificate"), "{}", said(&files));
    files.client_ca = Some(pki.folder.path().join("nowhere.crt"));
    assert!(said(&files).contains("nowhere.crt: No such file"), "{}", said(&files));
}
