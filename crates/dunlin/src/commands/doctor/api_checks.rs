//! Who may use the API, as the configuration says.

use std::io::ErrorKind;
use std::path::Path;

use dunlin_agent::access::SharedTokens;
use dunlin_agent::http::ApiCredentials;
use dunlin_core::config::ApiConfig;

use super::Finding;

const WHAT: &str = "API access";

/// Looks at the settings, and at the files that they name.
pub(super) fn access(config: &ApiConfig, findings: &mut Vec<Finding>) {
    let before = findings.len();
    if let Some(exposure) = config.exposure(config.listen) {
        let mend = "Set api.tls with client_ca, or api.tls and api.tokens_file; or let api.listen be on loopback.";
        findings.push(Finding::doubtful(WHAT, format!("{}: {exposure}", config.listen), mend));
    }
    findings.extend(config.tokens_file.as_deref().and_then(tokens));
    if let Some(files) = &config.tls {
        let mend =
            "The agent keeps the last good ones until it is restarted; then it does not start.";
        match ApiCredentials::load(files.clone()) {
            Ok(credentials) => findings.extend(credentials.exposed_key().map(|exposed| {
                let mend = format!(
                    "Whoever reads it can pose as this agent: chmod 600 {}",
                    files.key.display()
                );
                Finding::doubtful(WHAT, exposed, mend)
            })),
            Err(_) if !is_readable(&files.key) => {}
            Err(error) => findings.push(Finding::wrong(WHAT, format!("api.tls: {error}"), mend)),
        }
    }
    if findings.len() == before {
        let guard = match (&config.tokens_file, &config.tls) {
            (None, None) => "open to this host",
            (Some(_), None) => "by token",
            (None, Some(_)) => "by TLS",
            (Some(_), Some(_)) => "by token over TLS",
        };
        findings.push(Finding::good(WHAT, format!("{}: {guard}", config.listen)));
    }
}

fn tokens(file: &Path) -> Option<Finding> {
    if !is_readable(file) {
        let mend = "Good if the agent runs as another user who can; run doctor as that user.";
        let found = format!("api.tokens_file: {} cannot be read by this user", file.display());
        return Some(Finding::doubtful(WHAT, found, mend));
    }
    match SharedTokens::load(file) {
        Ok(tokens) => tokens.exposed().map(|exposed| {
            let mend = format!("It tells who may do what: chmod 640 {}", file.display());
            Finding::doubtful(WHAT, exposed, mend)
        }),
        Err(error) => {
            let mend = "Correct it; the agent keeps the last good tokens until it is restarted.";
            Some(Finding::wrong(WHAT, format!("api.tokens_file: {error}"), mend))
        }
    }
}

fn is_readable(file: &Path) -> bool {
    !std::fs::File::open(file).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::Verdict;
    use super::*;

    fn found(config: &ApiConfig) -> Vec<(Verdict, String)> {
        let mut findings = Vec::new();
        access(config, &mut findings);
        findings.into_iter().map(|f| (f.verdict, f.found)).collect()
    }

    #[test]
    fn what_is_exposed_is_doubtful_and_what_is_broken_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let mut config = ApiConfig::default();
        assert_eq!(found(&config)[0].0, Verdict::Good);
        config.listen = "0.0.0.0:5380".parse().unwrap();
        config.insecure = true;
        assert_eq!(found(&config)[0].0, Verdict::Doubtful);
        config = ApiConfig { tokens_file: Some(file.clone()), ..ApiConfig::default() };
        let missing = found(&config);
        assert!(missing[0].0 == Verdict::Wrong && missing[0].1.contains("No such"), "{missing:?}");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let readable = found(&config);
        assert!(readable[0].1.contains("can read"), "{readable:?}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(found(&config)[0].1, "127.0.0.1:5380: by token");
    }
}
