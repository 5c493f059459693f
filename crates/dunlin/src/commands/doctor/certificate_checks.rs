//! The certificates that other agents know this one by.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use dunlin_agent::net::tls::{Credentials, TlsError};
use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, Timestamp, ZoneName};

use super::Finding;

const WHAT: &str = "certificate";
/// How long before the end of a certificate a new one should be there.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads the files as the agent does, and says how long they will do.
pub(super) fn certificate(
    files: &ClusterTls,
    node: &NodeName,
    zone: &ZoneName,
    now: SystemTime,
) -> Finding {
    let renew = format!(
        "Make a new one with `dunlin tls cert create --node {node} --zone {zone}`; \
         the agent takes it without a restart."
    );
    let credentials = match Credentials::load(files) {
        Ok(credentials) => credentials,
        Err(error) => return unusable(&error),
    };
    if let Err(error) = credentials.check_node(node, zone) {
        let mend = "Other agents would take this node for another one.";
        return Finding::wrong(WHAT, error.to_string(), mend);
    }
    if let Err(error) = credentials.check_time(now) {
        return Finding::wrong(WHAT, error.to_string(), renew);
    }
    let until = Timestamp::from_system(credentials.not_after());
    let found = format!("{}, valid until {until}", credentials.identity());
    if credentials.expires_within(RENEW_BEFORE, now) {
        return Finding::doubtful(WHAT, found, renew);
    }
    if let Some(exposed) = credentials.exposed_key() {
        let mend =
            format!("Whoever reads it can pose as this node: chmod 600 {}", files.key.display());
        return Finding::doubtful(WHAT, exposed, mend);
    }
    Finding::good(WHAT, found)
}

fn unusable(error: &TlsError) -> Finding {
    if let TlsError::Read { source, .. } = error
        && source.kind() == ErrorKind::PermissionDenied
    {
        let mend = "Good if the agent runs as another user who can; run doctor as that user.";
        return Finding::doubtful(WHAT, error.to_string(), mend);
    }
    let mend = "Make the files with `dunlin tls`, and name them in [cluster.tls].";
    Finding::wrong(WHAT, error.to_string(), mend)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use dunlin_agent::net::tls::issue::{self, Validity};

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_name_time_and_secrecy() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = ClusterTls { ca: path("ca.crt"), cert: path("a.crt"), key: path("a.key") };
        let (node, zone) = (NodeName::parse("a").unwrap(), ZoneName::parse("z1").unwrap());
        let now = SystemTime::now();
        let judge = |node: &NodeName, now| certificate(&files, node, &zone, now);
        assert_eq!(judge(&node, now).verdict, Verdict::Wrong, "no files");
        let ca = issue::create_ca("test", Validity::days(100)).unwrap();
        let days = Validity::days(100);
        let issued =
            issue::create_certificate(&ca.certificate, &ca.key, &node, &zone, days).unwrap();
        fs::write(&files.ca, &ca.certificate).unwrap();
        fs::write(&files.cert, &issued.certificate).unwrap();
        fs::write(&files.key, &issued.key).unwrap();
        let mode = |mode| fs::set_permissions(&files.key, fs::Permissions::from_mode(mode));
        mode(0o644).unwrap();
        assert!(judge(&node, now).mend.contains("chmod 600"));
        mode(0o600).unwrap();
        assert_eq!(judge(&node, now).verdict, Verdict::Good);
        assert_eq!(judge(&NodeName::parse("b").unwrap(), now).verdict, Verdict::Wrong);
        let later = |days: u64| now + Duration::from_secs(days * 24 * 3600);
        assert_eq!(judge(&node, later(80)).verdict, Verdict::Doubtful);
        assert_eq!(judge(&node, later(101)).verdict, Verdict::Wrong);
    }
}
