//! Access to the API: tokens, TLS, users of the local socket, and configurations that are refused at the start.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::agent::{Agent, error_text, has, text};
use crate::wait::until;

/// Creates a token and adds it to a file. Returns the token.
fn add_token(agent: &Agent, file: &Path, name: &str, scope: &str) -> String {
    let out = agent.cli(&["token", "create", "--name", name, "--scope", scope, "-o", "json"]);
    let made: serde_json::Value = serde_json::from_str(&text(&out)).unwrap();
    let before = std::fs::read_to_string(file).unwrap_or_default();
    let draft = file.with_extension("draft");
    std::fs::write(&draft, before + made["entry"].as_str().unwrap()).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::rename(draft, file).unwrap();
    made["token"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[test]
fn tokens_open_what_their_scopes_say_and_change_without_a_restart() {
    if !has("curl") {
        return;
    }
    let mut agent = Agent::place();
    let file = agent.dir.path().join("tokens.toml");
    let deploy = add_token(&agent, &file, "deploy", "register:web");
    let file_text = file.to_str().unwrap().to_owned();
    agent.environment.push(("DUNLIN_API__TOKENS_FILE".to_owned(), file_text));
    agent.boot();
    let put = |token: Option<&str>, id: &str, service: &str| {
        let (path, body) =
            (format!("/api/instances/{id}"), format!(r#"{{"service":"{service}","port":1}}"#));
        let header = bearer(token.unwrap_or_default());
        let mut arguments = vec!["-X", "PUT", "-d", &body];
        arguments.extend(token.map(|_| ["-H", &*header]).into_iter().flatten());
        arguments.push(&path);
        agent.curl(&arguments)
    };
    assert_eq!(put(None, "a", "web").0, 401);
    assert_eq!(agent.curl(&["/metrics"]).0, 401);
    assert_eq!(put(Some(&deploy), "a", "web.shop").0, 201);
    let (status, body) = put(Some(&deploy), "a", "db");
    assert!(status == 403 && body.contains("register:db"), "{status} {body}");
    let header = bearer(&deploy);
    assert_eq!(agent.curl(&["-H", &header, "/api/status"]).0, 200);
    assert_eq!(agent.curl(&["-X", "PUT", "-H", &header, "/api/node/drain"]).0, 403);

    // The local socket stays open to the agent's own user, and so the commands work.
    assert_eq!(agent.lookup("web.shop").len(), 1);

    let admin = add_token(&agent, &file, "admin", "admin");
    until("the new token is known", || put(Some(&admin), "b", "db").0 == 201);
    std::fs::write(&file, "[[token").unwrap();
    until("the bad file is reported", || {
        let (_, status) = agent.curl(&["-H", &header, "/api/status"]);
        status.contains("api-tokens")
    });
    assert_eq!(put(Some(&admin), "b", "db").0, 200, "the last good tokens are in use");
}

#[test]
fn an_api_beyond_loopback_without_a_guard_is_refused() {
    let mut agent = Agent::place();
    agent
        .environment
        .push(("DUNLIN_API__LISTEN".to_owned(), format!("0.0.0.0:{}", agent.api.port())));
    for command in [&["config", "check"][..], &["agent"]] {
        let out = agent.cli(command);
        assert_eq!(out.status.code(), Some(2), "{command:?}");
        let error = error_text(&out);
        for part in ["api.listen", "api.tokens_file", "api.insecure = true", "DUNLIN_API__LISTEN"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    agent.environment.push(("DUNLIN_API__INSECURE".to_owned(), "true".to_owned()));
    agent.boot();
    assert!(agent.log().contains("exposed"), "{}", agent.log());
    let doctor = text(&agent.cli(&["doctor"]));
    assert!(doctor.contains("API access"), "{doctor}");
}

#[test]
fn commands_speak_tls_to_an_agent_that_asks_for_certificates() {
    let mut agent = Agent::place();
    let pki = agent.dir.path().join("pki");
    let path = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let [ca, ca_key, cert, key] = ["ca.crt", "ca.key", "n1.crt", "n1.key"].map(path);
    let out = pki.to_str().unwrap().to_owned();
    assert!(agent.cli(&["tls", "ca", "create", "--out", &out]).status.success());
    let made = agent.cli(&[
        "tls",
        "cert",
        "create",
        "--node",
        "n1",
        "--zone",
        "z1",
        "--host",
        "127.0.0.1",
        "--ca",
        &ca,
        "--ca-key",
        &ca_key,
        "--out",
        &out,
    ]);
    assert!(made.status.success(), "{}", error_text(&made));
    for (name, value) in [("CERT", &cert), ("KEY", &key), ("CLIENT_CA", &ca)] {
        agent.environment.push((format!("DUNLIN_API__TLS__{name}"), value.clone()));
    }
    let process = agent.spawn();
    let url = format!("https://{}", agent.api);
    let services = |more: &[&str]| {
        let arguments = [&["--agent", &url, "services"][..], more].concat();
        agent.cli(&arguments)
    };
    let with_all = ["--ca", &ca, "--cert", &cert, "--key", &key];
    until("it answers over TLS", || services(&with_all).status.success());
    let without = services(&["--ca", &ca]);
    assert!(!without.status.success(), "without a certificate there is no answer");
    let unknown = services(&[]);
    assert_eq!(unknown.status.code(), Some(3));
    assert!(error_text(&unknown).contains("authority"), "{}", error_text(&unknown));
    drop(process);
}

#[test]
fn other_users_of_the_host_may_be_let_in_to_read_alone() {
    if !has("curl") || !has("setpriv") {
        return;
    }
    let mut agent = Agent::place();
    for (name, value) in [("MODE", "0666"), ("USERS", "read")] {
        agent.environment.push((format!("DUNLIN_API__SOCKET_{name}"), value.to_owned()));
    }
    agent.boot();
    let socket = agent.data_dir().join("agent.sock");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.args(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]);
        text(&command.arg(&socket).args(arguments).output().unwrap())
    };
    // Only root may become another user, and let one into its folders.
    if Command::new("setpriv")
        .args(["--reuid", "65534", "true"])
        .status()
        .is_ok_and(|s| !s.success())
    {
        assert!(std::env::var_os("CI").is_none(), "becoming another user needs root");
        eprintln!("NOT RUN: becoming another user needs root");
        return;
    }
    for folder in [agent.dir.path(), &agent.data_dir()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(as_nobody(&["http://d/api/services"]), "200");
    let body = r#"{"service":"web","port":1}"#;
    assert_eq!(as_nobody(&["-X", "PUT", "-d", body, "http://d/api/instances/w"]), "403");
    assert!(agent.cli(&["register", "--service", "web", "--port", "1"]).status.success());
}
