//! From flags and files to what the agent is asked to register.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Args;
use dunlin_api::{Check, CheckKind, ProviderSet, Registration};
use dunlin_core::model::{InstanceId, ServiceName, StatusRange};

/// How a `--check` is written.
pub(crate) const CHECK_HELP: &str =
    "tcp | http[:PATH] | https[:PATH] | grpc[:SERVICE] | ttl:TIME | cmd:PROGRAM ARG…";

/// Flags that describe an instance, shared by `register` and `run`.
#[derive(Debug, Default, Args)]
pub(crate) struct DescribeArgs {
    /// Where it is reached [default: the node's address].
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Its share of work relative to the others, 0 to 65535 [default: 100].
    #[arg(long)]
    weight: Option<u16>,
    /// A tag; can be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A free pair; can be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    meta: Vec<(String, String)>,
    /// How to know that it works; can be given several times. One of
    /// tcp, http or http:PATH, https or https:PATH, grpc or grpc:SERVICE, ttl:TIME, cmd:PROGRAM ARG…
    #[arg(long = "check", value_name = "CHECK", value_parser = parse_check)]
    checks: Vec<Check>,
}

impl DescribeArgs {
    pub(crate) fn into_registration(
        self,
        id: &InstanceId,
        service: &ServiceName,
        port: u16,
    ) -> Registration {
        Registration {
            id: id.to_string(),
            service: service.to_string(),
            address: self.address.map(|a| a.to_string()),
            port: port.into(),
            weight: self.weight.map(Into::into),
            tags: self.tags,
            meta: self.meta.into_iter().collect(),
            check: with_distinct_ids(self.checks),
        }
    }
}

/// The second check of a kind needs an id of its own: `http`, `http-2`, `http-3`.
fn with_distinct_ids(mut checks: Vec<Check>) -> Vec<Check> {
    for at in 0..checks.len() {
        let kind = checks[at].kind;
        let earlier = checks[..at].iter().filter(|c| c.kind == kind).count();
        if earlier > 0 {
            let word = serde_json::to_value(kind).unwrap_or_default();
            let word = word.as_str().unwrap_or("check");
            checks[at].id = Some(format!("{word}-{}", earlier + 1));
        }
    }
    checks
}

pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// A port that something can listen on.
pub(crate) fn parse_port(text: &str) -> Result<u16, String> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| "expected a port, 1 to 65535".to_owned())
}

fn parse_check(text: &str) -> Result<Check, String> {
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (text, None),
    };
    match (kind, rest) {
        ("tcp", None) => Ok(Check::new(CheckKind::Tcp)),
        ("http" | "https", path) => parse_http(path.unwrap_or("/"), kind == "https"),
        ("grpc", service) => {
            Ok(Check { grpc_service: service.map(str::to_owned), ..Check::new(CheckKind::Grpc) })
        }
        ("ttl", Some(time)) => match humantime::parse_duration(time) {
            Ok(_) => Ok(Check { ttl: Some(time.to_owned()), ..Check::new(CheckKind::Ttl) }),
            Err(_) => Err(format!("{time:?} is not a duration like 30s")),
        },
        ("cmd", Some(command)) if !command.trim().is_empty() => Ok(Check {
            command: command.split_whitespace().map(str::to_owned).collect(),
            ..Check::new(CheckKind::Command)
        }),
        _ => Err(format!("expected {CHECK_HELP}")),
    }
}

fn parse_http(path: &str, tls: bool) -> Result<Check, String> {
    if !path.starts_with('/') {
        return Err(format!("the path {path:?} must begin with '/', as in http:/healthz"));
    }
    Ok(Check {
        path: Some(path.to_owned()),
        tls: tls.then_some(true),
        ..Check::new(CheckKind::Http)
    })
}

/// Reads the text of a provider file, TOML or JSON: several instances, or (JSON) a single one.
pub(crate) fn read_file(text: &str, origin: &str) -> Result<Vec<Registration>> {
    let registrations = if text.trim_start().starts_with('{') {
        read_json(text).with_context(|| format!("{origin} is not a registration in JSON"))?
    } else {
        let set: ProviderSet = toml::from_str(text)
            .with_context(|| format!("{origin} holds no [[instance]] as it should"))?;
        set.instances
    };
    for one in &registrations {
        check_early(one).with_context(|| format!("{origin}: instance {:?}", one.id))?;
    }
    Ok(registrations)
}

fn read_json(text: &str) -> serde_json::Result<Vec<Registration>> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    if value.get("service").is_some() {
        // Read from the text again, since errors then name the line.
        return Ok(vec![serde_json::from_str(text)?]);
    }
    Ok(serde_json::from_str::<ProviderSet>(text)?.instances)
}

/// Finds what is certainly wrong before anything is sent, so that a file is taken whole or not at all.
fn check_early(registration: &Registration) -> Result<()> {
    InstanceId::parse(&registration.id)?;
    ServiceName::parse(&registration.service)?;
    let port = registration.port;
    anyhow::ensure!((1..=65_535).contains(&port), "port {port} is not between 1 and 65535");
    if let Some(address) = &registration.address {
        let parsed = address.parse::<IpAddr>();
        parsed.with_context(|| format!("address {address:?} is not an IP address"))?;
    }
    for check in &registration.check {
        check.expect_status.as_deref().map(StatusRange::parse).transpose()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_flag_says_kind_and_what_matters_most() {
        let http = parse_check("http:/healthz?x=a:b").unwrap();
        assert_eq!((http.kind, http.path.as_deref()), (CheckKind::Http, Some("/healthz?x=a:b")));
        assert_eq!(parse_check("http").unwrap().path.as_deref(), Some("/"));
        assert_eq!(parse_check("https:/").unwrap().tls, Some(true));
        assert_eq!(parse_check("tcp").unwrap(), Check::new(CheckKind::Tcp));
        assert_eq!(parse_check("grpc").unwrap(), Check::new(CheckKind::Grpc));
        let grpc = parse_check("grpc:shop.Cart").unwrap();
        assert_eq!(grpc.grpc_service.as_deref(), Some("shop.Cart"));
        assert_eq!(parse_check("ttl:30s").unwrap().ttl.as_deref(), Some("30s"));
        let command = parse_check("cmd:pg_isready -q  -p 5432").unwrap();
        assert_eq!(command.command, ["pg_isready", "-q", "-p", "5432"]);
    }

    #[test]
    fn a_wrong_check_flag_says_what_would_be_right() {
        for (text, expected) in [
            ("ftp", "expected tcp | http"),
            ("tcp:80", "expected tcp | http"),
            ("http:healthz", "must begin with '/'"),
            ("ttl", "expected tcp"),
            ("ttl:soon", "is not a duration like 30s"),
            ("cmd: ", "expected tcp"),
            ("", "expected tcp"),
        ] {
            let error = parse_check(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn checks_of_one_kind_get_ids_of_their_own() {
        let checks = ["http:/a", "tcp", "http:/b"].map(|c| parse_check(c).unwrap());
        let ids: Vec<_> = with_distinct_ids(checks.to_vec()).into_iter().map(|c| c.id).collect();
        assert_eq!(ids, [None, None, Some("http-2".to_owned())]);
    }

    #[test]
    fn a_file_is_toml_or_json() {
        let toml = "[[instance]]\nid = \"a\"\nservice = \"web\"\nport = 80\n\
            [[instance]]\nid = \"b\"\nservice = \"web\"\nport = 81\n";
        assert_eq!(read_file(toml, "f").unwrap().len(), 2);
        let one = r#"{"id":"a","service":"web","port":80}"#;
        assert_eq!(read_file(one, "f").unwrap().len(), 1);
        let many = format!("{{\"instances\":[{one}]}}");
        assert_eq!(read_file(&many, "f").unwrap().len(), 1);
    }

    #[test]
    fn a_bad_file_is_refused_with_the_reason() {
        for (text, expected) in [
            ("[[instance]]\nid = \"a\"\nservice = \"web\"\nprot = 80", "unknown field `prot`"),
            ("{\"service\":\"web\",\"port\":\"80\"}", "line 1"),
            ("{\"id\":\"a\",\"service\":\"web\",\"port\":0}", "port 0 is not between"),
            ("{\"id\":\"a\",\"service\":\"we b\",\"port\":1}", "holds ' '"),
            ("{\"service\":\"web\",\"port\":1}", "id has 0 octets"),
            (
                "{\"id\":\"a\",\"service\":\"web\",\"port\":1,\"address\":\"x\"}",
                "not an IP address",
            ),
            ("\u{0}", "f holds no [[instance]]"),
        ] {
            let error = format!("{:#}", read_file(text, "f").unwrap_err());
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
