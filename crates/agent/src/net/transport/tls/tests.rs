use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dunlin_core::model::NodeName;
use dunlin_shell::Reload;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::certificate::SERVER_NAME;
use super::issue::{Issued, Validity, create_ca, create_certificate};
use super::pki::{Pki, node, zone};
use super::*;
use crate::checks::NoVerification;
use crate::net::transport::Protocol;

const PROTOCOL: Protocol = Protocol::new("dunlin/1");

/// Generous: only reached when something is broken.
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn around(begin: Duration, end: Duration, in_past: bool) -> Validity {
    let now = SystemTime::now();
    let at = |d| if in_past { now - d } else { now + d };
    Validity { not_before: at(begin), not_after: at(end) }
}

/// What each end says of the other, after one octet has gone from the server to the client.
async fn meet(
    server: &Credentials,
    client: &Credentials,
    expected: Option<&NodeName>,
) -> (Result<PeerIdentity, String>, Result<PeerIdentity, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (stream, peer) = listener.accept().await.unwrap();
        let accepted = server.acceptor().accept(stream, peer, &[PROTOCOL]).await;
        let (mut stream, identity, _) = accepted.map_err(|e| e.to_string())?;
        let written = stream.write_all(b"k").await;
        written.map_err(|e| explain(&e))?;
        // The client's alert, should it refuse us.
        let _ = stream.read(&mut [0]).await;
        Ok(identity)
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut stream, identity) = client
            .connector()
            .connect(stream, address, PROTOCOL, expected)
            .await
            .map_err(|e| e.to_string())?;
        stream.read_exact(&mut [0]).await.map_err(|e| explain(&e))?;
        Ok(identity)
    };
    tokio::time::timeout(DEADLINE, async { tokio::join!(accept, connect) }).await.unwrap()
}

#[tokio::test]
async fn agents_of_one_authority_learn_each_others_node() {
    let pki = Pki::new();
    let (a, b) = (pki.credentials("a"), pki.credentials("b"));
    let (at_server, at_client) = meet(&a, &b, Some(&node("a"))).await;
    assert_eq!(at_server.unwrap(), PeerIdentity { node: node("b"), zone: zone() });
    assert_eq!(at_client.unwrap().to_string(), "dunlin://eu1/a");
}

#[tokio::test]
async fn another_authority_is_refused_and_both_ends_say_so() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let (a, b) = (ours.credentials("a"), theirs.credentials("b"));
    let (at_server, at_client) = meet(&a, &b, None).await;
    let (at_server, at_client) = (at_server.unwrap_err(), at_client.unwrap_err());
    assert!(at_client.contains("certificate CN=a (dunlin://eu1/a) is refused"), "{at_client}");
    assert!(at_client.contains("none of our authorities signed it"), "{at_client}");
    assert!(at_client.starts_with("127.0.0.1:"), "{at_client}");
    assert!(at_server.contains("the peer refused our certificate: none of its"), "{at_server}");
}

#[tokio::test]
async fn a_client_whose_certificate_is_refused_learns_why() {
    let pki = Pki::new();
    let a = pki.credentials("a");
    let expired = pki.issue("b", around(3 * DAY, DAY, true));
    let early = pki.issue("b", around(DAY, 2 * DAY, false));
    for (issued, ours, theirs) in [
        (expired, "is refused: it expired on 20", "the peer refused our certificate: by its clock"),
        (
            early,
            "is refused: it is valid from 20",
            "the peer refused our certificate: by its clock",
        ),
    ] {
        let b = pki.load("b", &issued).unwrap();
        assert!(b.check_time(SystemTime::now()).is_err());
        let (at_server, at_client) = meet(&a, &b, None).await;
        let (at_server, at_client) = (at_server.unwrap_err(), at_client.unwrap_err());
        assert!(at_server.contains("CN=b (dunlin://eu1/b)"), "{at_server}");
        assert!(at_server.contains(ours), "{at_server}");
        assert!(at_client.contains(theirs), "{at_client}");
        // The other way round, the client refuses and the server is told.
        let (at_server, at_client) = meet(&b, &a, None).await;
        assert!(at_client.unwrap_err().contains(ours));
        assert!(at_server.unwrap_err().contains(theirs));
    }
}

#[tokio::test]
async fn an_agent_at_the_address_of_another_is_refused() {
    let pki = Pki::new();
    let (a, b) = (pki.credentials("a"), pki.credentials("b"));
    let (at_server, at_client) = meet(&a, &b, Some(&node("c"))).await;
    let (at_server, at_client) = (at_server.unwrap_err(), at_client.unwrap_err());
    assert!(at_client.contains("(dunlin://eu1/a) is refused: node c was expected"), "{at_client}");
    assert!(at_server.contains("does not name the node that the peer expects"), "{at_server}");
}

#[test]
fn a_certificate_names_exactly_one_node() {
    let pki = Pki::new();
    for (uris, expected) in [
        (&[][..], "it names no node"),
        (&["spiffe://x/y"], "it names no node"),
        (&["dunlin://eu1/a", "dunlin://eu1/b"], "it names several nodes"),
        (&["dunlin://eu1"], "\"dunlin://eu1\" is not dunlin://ZONE/NODE"),
        (&["dunlin://eu1/a.b"], "is not dunlin://ZONE/NODE"),
        (&["dunlin://any/a"], "is not dunlin://ZONE/NODE"),
    ] {
        let error = pki.load("odd", &pki.issue_with(uris)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("odd.crt"), "{uris:?}: {error}");
    }
    let both = pki.issue_with(&["spiffe://x/y", "dunlin://eu1/a"]);
    assert_eq!(pki.load("odd", &both).unwrap().identity().node, node("a"));
}

#[tokio::test]
async fn a_peer_without_a_dunlin_name_is_refused() {
    let pki = Pki::new();
    let a = pki.credentials("a");
    // Such a pair is not loaded, so a plain client shows it.
    for (uris, expected) in [
        (&[][..], "CN=odd is refused: it names no node"),
        (&["dunlin://eu1/a", "dunlin://eu1/b"], "CN=odd is refused: it names several nodes"),
    ] {
        let config = plain_client(Some(&pki.issue_with(uris)), &[&rustls::version::TLS13]);
        let (at_server, at_client) = knock(&a, config).await;
        assert!(at_server.contains(expected), "{at_server}");
        assert!(at_client.contains("the peer refused our certificate: it does not name"));
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_or_tls_1_3_or_our_protocol_is_refused() {
    let pki = Pki::new();
    let a = pki.credentials("a");
    let good = pki.issue("b", Validity::days(1));
    let (at_server, at_client) = knock(&a, plain_client(None, &[&rustls::version::TLS13])).await;
    assert!(at_server.contains("the peer showed no certificate"), "{at_server}");
    assert!(at_client.contains("wants a certificate, and we showed none"), "{at_client}");
    let (at_server, at_client) =
        knock(&a, plain_client(Some(&good), &[&rustls::version::TLS12])).await;
    assert!(at_server.contains("the peer does not speak TLS 1.3"), "{at_server}");
    assert!(at_client.contains("the peer does not speak TLS 1.3"), "{at_client}");
    let mut other = plain_client(Some(&good), &[&rustls::version::TLS13]);
    other.alpn_protocols = vec![b"h2".to_vec()];
    let (at_server, at_client) = knock(&a, other.clone()).await;
    assert!(at_server.contains("does not speak dunlin/1"), "{at_server}");
    assert!(at_client.contains("does not speak dunlin/1"), "{at_client}");
    other.alpn_protocols.clear();
    let (at_server, _) = knock(&a, other).await;
    assert!(at_server.contains("does not say that it speaks dunlin/1"), "{at_server}");
}

/// A TLS client that believes anything, with our protocol.
fn plain_client(
    shows: Option<&Issued>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let no_verification = Arc::new(NoVerification::new(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty());
    let mut config = match shows {
        Some(issued) => {
            let cert = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.dangerous().set_certificate_verifier(no_verification);
    config.alpn_protocols = vec![PROTOCOL.as_bytes().to_vec()];
    config
}

/// The errors of both ends.
async fn knock(server: &Credentials, client: ClientConfig) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (stream, peer) = listener.accept().await.unwrap();
        server.acceptor().accept(stream, peer, &[PROTOCOL]).await.unwrap_err().to_string()
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        match TlsConnector::from(Arc::new(client)).connect(name, stream).await {
            Err(error) => HandshakeError::from_io(address, &[PROTOCOL], error).to_string(),
            Ok(mut stream) => explain(&stream.read_exact(&mut [0]).await.unwrap_err()),
        }
    };
    tokio::time::timeout(DEADLINE, async { tokio::join!(accept, connect) }).await.unwrap()
}

#[test]
fn files_that_do_not_fit_together_are_refused_by_name() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (a, b) = (pki.issue("a", Validity::days(1)), pki.issue("b", Validity::days(1)));
    let cut = |text: &str| text[..text.len() / 2].to_owned();
    let issued = |certificate: &str, key: &str| Issued {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    };
    let foreign = other.issue("a", Validity::days(1));
    for (issued, expected) in [
        (issued(&a.certificate, &b.key), "a.key is not the key of"),
        (issued(&cut(&a.certificate), &a.key), "a.crt: is not whole"),
        (issued("", &a.key), "a.crt: holds no certificate"),
        (issued(&a.certificate, &cut(&a.key)), "a.key: holds no whole private key"),
        (issued(&a.key, &a.certificate), "a.crt: holds no certificate"),
        (foreign, "a.crt: the certificate CN=a (dunlin://eu1/a) is refused: none of our"),
    ] {
        let error = pki.load("a", &issued).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let mut files = pki.write("a", &a);
    files.ca = files.cert.clone();
    let error = Credentials::load(&files).unwrap_err().to_string();
    assert!(error.contains("is not the certificate of an authority"), "{error}");
    files.ca = pki.folder.path().join("none");
    let error = Credentials::load(&files).unwrap_err().to_string();
    assert!(error.contains("none: No such file"), "{error}");
}

#[test]
fn a_certificate_of_another_node_says_both_names() {
    let a = Pki::new().credentials("a");
    assert!(a.check_node(&node("a"), &zone()).is_ok());
    let error = a.check_node(&node("b"), &zone()).unwrap_err().to_string();
    assert!(error.contains("is the certificate of dunlin://eu1/a, but this is dunlin://eu1/b"));
    assert!(error.contains("`dunlin tls cert create --node b --zone eu1`"), "{error}");
    assert!(a.expires_within(2 * DAY, SystemTime::now()));
    assert!(!a.expires_within(DAY / 2, SystemTime::now()));
}

#[test]
fn two_authorities_are_believed_while_one_takes_the_place_of_the_other() {
    let (old, new) = (Pki::new(), Pki::new());
    let files = old.write("a", &old.issue("a", Validity::days(1)));
    let both = format!("{}{}", old.ca.certificate, new.ca.certificate);
    fs::write(&files.ca, &both).unwrap();
    assert!(Credentials::load(&files).is_ok());
    let renewed = new.issue("a", Validity::days(1));
    fs::write(&files.cert, &renewed.certificate).unwrap();
    fs::write(&files.key, &renewed.key).unwrap();
    assert!(Credentials::load(&files).is_ok());
}

#[test]
fn a_key_that_all_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let pki = Pki::new();
    let files = pki.write("a", &pki.issue("a", Validity::days(1)));
    for (mode, is_told) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Credentials::load(&files).unwrap().exposed_key().is_some(), is_told);
    }
}

#[tokio::test]
async fn new_files_are_used_for_new_streams_and_old_streams_go_on() {
    let pki = Pki::new();
    let (shared, client) = (pki.shared("a"), pki.credentials("b"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (stream, peer) = listener.accept().await.unwrap();
        shared.acceptor().accept(stream, peer, &[PROTOCOL]).await.unwrap()
    };
    let connect = async {
        let stream = TcpStream::connect(address).await.unwrap();
        client.connector().connect(stream, address, PROTOCOL, None).await.unwrap()
    };
    let ((mut server_end, ..), (mut client_end, _)) = tokio::join!(accept, connect);
    let before = shared.current().not_after();
    assert!(!shared.reload().unwrap(), "nothing changed");
    pki.write("a", &pki.issue("a", Validity::days(5)));
    assert!(shared.reload().unwrap());
    assert_ne!(shared.current().not_after(), before);
    server_end.write_all(b"still here").await.unwrap();
    client_end.read_exact(&mut [0; 10]).await.unwrap();
    let (at_server, at_client) = meet(&shared.current(), &client, None).await;
    assert!(at_server.is_ok() && at_client.is_ok());
}

#[test]
fn bad_new_files_keep_the_old_certificate() {
    let pki = Pki::new();
    let shared = pki.shared("a");
    let before = shared.current();
    let good = pki.issue("a", Validity::days(5));
    let half = Issued { key: good.key[..40].to_owned(), ..good.clone() };
    let expired = pki.issue("a", around(3 * DAY, DAY, true));
    for bad in [half, expired, pki.issue("c", Validity::days(5)), Pki::new().ca] {
        pki.write("a", &bad);
        assert!(shared.reload().is_err());
        assert!(Arc::ptr_eq(&shared.current(), &before));
    }
    pki.write("a", &good);
    assert!(shared.reload().unwrap());
}

#[tokio::test]
async fn a_watched_certificate_is_renewed_and_trouble_is_reported_until_it_is_mended() {
    let pki = Pki::new();
    let shared = Arc::new(pki.shared("a"));
    let cert = pki.folder.path().join("a.crt");
    let good = fs::read_to_string(&cert).unwrap();
    let stop = CancellationToken::new();
    let (told, mut problems) = mpsc::channel(16);
    let report = move |problem: Option<String>| told.try_send(problem).unwrap();
    let watching = tokio::spawn(watch(Arc::clone(&shared), report, stop.clone()));
    // States in between may be seen or not: a file is cut before it is written anew.
    let mut until = async |expected: fn(&str) -> bool| {
        let found = async {
            loop {
                let problem = problems.recv().await.unwrap().unwrap_or_default();
                if expected(&problem) {
                    return problem;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap()
    };
    fs::write(&cert, &good[..good.len() / 2]).unwrap();
    let problem = until(|p| p.contains("a.crt: is not whole")).await;
    assert!(problem.ends_with("the one from before stays in use"), "{problem}");
    fs::write(&cert, &good).unwrap();
    until(str::is_empty).await;
    let soon = pki.issue("a", Validity::days(5));
    for (file, text) in [("key", &soon.key), ("crt", &soon.certificate)] {
        let draft = pki.folder.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, pki.folder.path().join(format!("a.{file}"))).unwrap();
    }
    until(|p| p.starts_with("expires in 4 days, on 20")).await;
    stop.cancel();
    watching.await.unwrap();
}

#[test]
fn an_authority_signs_only_with_its_own_key_and_in_its_time() {
    let (pki, other) = (Pki::new(), Pki::new());
    let make = |ca: &str, key: &str| {
        create_certificate(ca, key, &node("a"), &zone(), Validity::days(2000))
    };
    let leaf = make(&pki.ca.certificate, &pki.ca.key).unwrap();
    let expired = create_ca("old", around(3 * DAY, DAY, true)).unwrap();
    for (ca, key, expected) in [
        (&pki.ca.certificate, &other.ca.key, "does not belong to its certificate"),
        (&leaf.certificate, &leaf.key, "is not one of an authority"),
        (&pki.ca.key, &pki.ca.key, "is not in PEM form"),
        (&pki.ca.certificate, &pki.ca.certificate, "is not a private key in PEM form"),
        (&expired.certificate, &expired.key, "cannot sign: it expired on"),
    ] {
        let error = make(ca, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let leaf = pki.load("a", &leaf).unwrap();
    assert!(leaf.expires_within(1001 * DAY, SystemTime::now()), "not longer than its authority");
    assert_eq!(leaf.certificate().issuer, "CN=test");
}
