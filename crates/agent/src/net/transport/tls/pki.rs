//! An authority for tests, and the certificates that it signs.

use std::fs;
use std::sync::Arc;

use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, ZoneName};
use rcgen::SanType;
use tempfile::TempDir;

use super::certificate::SERVER_NAME;
use super::issue::{self, Issued, Validity, create_ca, create_certificate};
use super::{Credentials, SharedCredentials, TlsError};

pub(in crate::net::transport) fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

pub(in crate::net::transport) fn zone() -> ZoneName {
    ZoneName::parse("eu1").unwrap()
}

/// An authority, and a folder for what it makes.
pub(in crate::net::transport) struct Pki {
    pub(super) folder: TempDir,
    pub(super) ca: Issued,
}

impl Pki {
    pub(in crate::net::transport) fn new() -> Self {
        let ca = create_ca("test", Validity::days(1000)).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), ca }
    }

    pub(super) fn issue(&self, name: &str, validity: Validity) -> Issued {
        create_certificate(&self.ca.certificate, &self.ca.key, &node(name), &zone(), validity)
            .unwrap()
    }

    pub(super) fn issue_with(&self, uris: &[&str]) -> Issued {
        let dns = SanType::DnsName(SERVER_NAME.try_into().unwrap());
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let names: Vec<_> = uris.chain([dns]).collect();
        issue::sign(&self.ca.certificate, &self.ca.key, "odd", &names, Validity::days(1)).unwrap()
    }

    pub(super) fn write(&self, name: &str, issued: &Issued) -> ClusterTls {
        let path = |name: String| self.folder.path().join(name);
        let ca = path("ca.crt".to_owned());
        let (cert, key) = (path(format!("{name}.crt")), path(format!("{name}.key")));
        fs::write(&ca, &self.ca.certificate).unwrap();
        fs::write(&cert, &issued.certificate).unwrap();
        fs::write(&key, &issued.key).unwrap();
        ClusterTls { ca, cert, key }
    }

    pub(super) fn credentials(&self, name: &str) -> Arc<Credentials> {
        self.load(name, &self.issue(name, Validity::days(1))).unwrap()
    }

    pub(super) fn load(&self, name: &str, issued: &Issued) -> Result<Arc<Credentials>, TlsError> {
        Credentials::load(&self.write(name, issued))
    }

    pub(in crate::net::transport) fn shared(&self, name: &str) -> SharedCredentials {
        let files = self.write(name, &self.issue(name, Validity::days(100)));
        SharedCredentials::load(files, node(name), zone()).unwrap()
    }
}
