//! Between the wire's registrations and the model's: strings become values that cannot be wrong.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_api as api;
use dunlin_core::model::{
    CheckId, CheckKind, CheckSpec, CheckSpecError, HttpCheck, Instance, InstanceError,
    InstanceFields, InstanceId, ProviderId, Registration, ServiceName, StatusRange, TlsCheck,
};

/// Reads one registration as a provider states it.
///
/// # Errors
/// The first field that is not valid, named.
pub fn registration(
    wire: api::Registration,
    provider: &ProviderId,
    node_address: IpAddr,
) -> Result<Registration, InstanceError> {
    let address = match &wire.address {
        None => node_address,
        Some(text) => text
            .parse()
            .map_err(|_| InstanceError::Address { address: text.chars().take(256).collect() })?,
    };
    let id = InstanceId::parse(&wire.id)?;
    let instance = Instance::new(InstanceFields {
        id: id.clone(),
        service: ServiceName::parse(&wire.service)?,
        address,
        port: wire.port,
        weight: wire.weight.unwrap_or(Instance::DEFAULT_WEIGHT.into()),
        tags: wire.tags,
        meta: wire.meta,
        provider: provider.clone(),
    })?;
    let checks = wire.check.into_iter().map(|c| check(c, &id, instance.address));
    let checks = checks.collect::<Result<_, _>>()?;
    Registration::new(instance, checks)
}

fn check(
    wire: api::Check,
    instance: &InstanceId,
    address: IpAddr,
) -> Result<CheckSpec, InstanceError> {
    let word = match wire.kind {
        api::CheckKind::Tcp => "tcp",
        api::CheckKind::Http => "http",
        api::CheckKind::Grpc => "grpc",
        api::CheckKind::Command => "command",
        api::CheckKind::Ttl => "ttl",
        api::CheckKind::Alias => "alias",
    };
    let id = CheckId::parse(wire.id.as_deref().unwrap_or(word))?;
    refuse_foreign_settings(&wire, &id, word)?;
    let reader = SettingsReader { id: &id };
    let mut spec = CheckSpec::with_defaults(id.clone(), kind(&wire, &reader, instance, address)?);
    if let Some(interval) = reader.duration("interval", wire.interval.as_deref())? {
        spec.interval = interval;
    }
    if let Some(timeout) = reader.duration("timeout", wire.timeout.as_deref())? {
        spec.timeout = timeout;
    }
    spec.failures_before_critical =
        wire.failures_before_critical.unwrap_or(CheckSpec::DEFAULT_FAILURES);
    spec.successes_before_passing =
        wire.successes_before_passing.unwrap_or(CheckSpec::DEFAULT_SUCCESSES);
    spec.deregister_after =
        reader.duration("deregister_after", wire.deregister_after.as_deref())?;
    Ok(spec)
}

fn kind(
    wire: &api::Check,
    reader: &SettingsReader<'_>,
    instance: &InstanceId,
    address: IpAddr,
) -> Result<CheckKind, InstanceError> {
    let target = wire.target.as_deref().map(|text| reader.target(text, address)).transpose()?;
    let tls = || TlsCheck {
        server_name: wire.tls_server_name.clone(),
        verify: wire.tls_verify.unwrap_or(true),
    };
    let tls = wire.tls.unwrap_or(false).then(tls);
    Ok(match wire.kind {
        api::CheckKind::Tcp => CheckKind::Tcp { target },
        api::CheckKind::Http => CheckKind::Http(HttpCheck {
            target,
            method: reader.method(wire.method.as_deref().unwrap_or("GET"))?,
            path: wire.path.clone().unwrap_or_else(|| "/".to_owned()),
            headers: wire.headers.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            expect_status: match &wire.expect_status {
                Some(text) => StatusRange::parse(text)?,
                None => StatusRange::default(),
            },
            expect_body: wire.expect_body.clone(),
            tls,
        }),
        api::CheckKind::Grpc => {
            let service = wire.grpc_service.clone().unwrap_or_default();
            CheckKind::Grpc { target, service, tls }
        }
        api::CheckKind::Command => CheckKind::Command { argv: wire.command.clone() },
        api::CheckKind::Ttl => match reader.duration("ttl", wire.ttl.as_deref())? {
            Some(ttl) => CheckKind::Ttl { ttl },
            None => return Err(reader.bad("a ttl check needs ttl, e.g. ttl = \"30s\"")),
        },
        api::CheckKind::Alias => match &wire.instance {
            Some(other) if other == instance.as_str() => {
                return Err(reader.bad("an alias check cannot follow its own instance"));
            }
            Some(other) => CheckKind::Alias { instance: InstanceId::parse(other)? },
            None => {
                return Err(reader.bad("an alias check needs instance, e.g. instance = \"db-1\""));
            }
        },
    })
}

/// Refuses settings of another kind of check: they are mistakes.
fn refuse_foreign_settings(
    wire: &api::Check,
    id: &CheckId,
    word: &str,
) -> Result<(), InstanceError> {
    let kinds_of = [
        ("target", wire.target.is_some(), "tcp http grpc"),
        ("path", wire.path.is_some(), "http"),
        ("method", wire.method.is_some(), "http"),
        ("headers", !wire.headers.is_empty(), "http"),
        ("expect_status", wire.expect_status.is_some(), "http"),
        ("expect_body", wire.expect_body.is_some(), "http"),
        ("tls", wire.tls.is_some(), "http grpc"),
        ("tls_server_name", wire.tls_server_name.is_some(), "http grpc"),
        ("tls_verify", wire.tls_verify.is_some(), "http grpc"),
        ("grpc_service", wire.grpc_service.is_some(), "grpc"),
        ("command", !wire.command.is_empty(), "command"),
        ("ttl", wire.ttl.is_some(), "ttl"),
        ("instance", wire.instance.is_some(), "alias"),
    ];
    for (setting, is_given, kinds) in kinds_of {
        if is_given && !kinds.split(' ').any(|kind| kind == word) {
            let problem = format!("{setting} is a setting of {kinds} checks, this one is {word}");
            return Err(SettingsReader { id }.bad(&problem));
        }
    }
    Ok(())
}

/// Reads the settings of one check, naming it in errors.
struct SettingsReader<'a> {
    id: &'a CheckId,
}

impl SettingsReader<'_> {
    fn bad(&self, problem: &str) -> InstanceError {
        CheckSpecError::BadSetting { id: self.id.clone(), problem: problem.to_owned() }.into()
    }

    fn duration(&self, field: &str, text: Option<&str>) -> Result<Option<Duration>, InstanceError> {
        let Some(text) = text else { return Ok(None) };
        let bad = |_| {
            let shown: String = text.chars().take(64).collect();
            self.bad(&format!("{field} {shown:?} is not a duration like \"5s\" or \"500ms\""))
        };
        humantime::parse_duration(text).map(Some).map_err(bad)
    }

    fn target(&self, text: &str, address: IpAddr) -> Result<SocketAddr, InstanceError> {
        let parsed = match text.parse::<u16>() {
            Ok(port) => Some(SocketAddr::new(address, port)),
            Err(_) => text.parse().ok(),
        };
        parsed.filter(|target| target.port() != 0).ok_or_else(|| {
            let shown: String = text.chars().take(256).collect();
            self.bad(&format!("target {shown:?} is neither address:port nor a port"))
        })
    }

    fn method(&self, text: &str) -> Result<String, InstanceError> {
        if text.is_empty() || text.len() > 32 || !text.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(self.bad("method is not one like GET or HEAD"));
        }
        Ok(text.to_ascii_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Registration, String> {
        let wire: api::Registration = toml::from_str(toml).map_err(|e| e.to_string())?;
        registration(wire, &ProviderId::api(), IpAddr::from([127, 0, 0, 9]))
            .map_err(|e| e.to_string())
    }

    const WEB: &str = "id = \"web-1\"\nservice = \"web\"\nport = 8080\n";

    #[test]
    fn the_contract_s_example_is_taken() {
        let registration = read(
            r#"
            id = "api-1"
            service = "http.api.prod.shop"
            address = "127.0.0.5"
            port = 8080
            tags = ["v2"]
            meta = { version = "2.1" }
            [[check]]
            kind = "http"
            path = "/healthz"
            interval = "5s"
            timeout = "1s"
            failures_before_critical = 2
            "#,
        )
        .unwrap();
        assert_eq!(registration.instance.weight, 100);
        assert_eq!(registration.checks[0].id.as_str(), "http");
        assert_eq!(registration.checks[0].interval, Duration::from_secs(5));
    }

    #[test]
    fn the_address_is_the_node_s_unless_given() {
        let address = read(WEB).unwrap().instance.address;
        assert_eq!(address, IpAddr::from([127, 0, 0, 9]));
    }

    #[test]
    fn wrong_registrations_name_what_is_wrong() {
        let cases = [
            ("address = \"web.example\"", "not an IPv4 or IPv6 address"),
            ("weight = -1", "weight -1 is outside"),
            ("colour = \"red\"", "unknown field `colour`"),
            ("tags = \"v2\"", "invalid type"),
            ("[[check]]\nkind = \"htpp\"", "unknown variant `htpp`"),
            ("[[check]]\nkind = \"tcp\"\npath = \"/x\"", "path is a setting of http checks"),
            ("[[check]]\nkind = \"tcp\"\ninterval = \"0s\"", "interval is 0s"),
            ("[[check]]\nkind = \"tcp\"\ninterval = \"1ms\"", "interval is 1ms"),
            ("[[check]]\nkind = \"tcp\"\ninterval = \"soon\"", "not a duration"),
            ("[[check]]\nkind = \"tcp\"\ntarget = \"db:1\"", "neither address:port nor a port"),
            ("[[check]]\nkind = \"ttl\"", "needs ttl"),
            ("[[check]]\nkind = \"alias\"\ninstance = \"web-1\"", "its own instance"),
            ("[[check]]\nkind = \"command\"", "needs a program"),
            ("[[check]]\nkind = \"http\"\npath = \"healthz\"", "must begin with '/'"),
            ("[[check]]\nkind = \"http\"\nexpect_status = \"ok\"", "neither a status"),
            ("[[check]]\nkind = \"tcp\"\n[[check]]\nkind = \"tcp\"", "used twice"),
        ];
        for (more, expected) in cases {
            let error = read(&format!("{WEB}{more}")).unwrap_err();
            assert!(error.contains(expected), "{more}: {error}");
        }
        assert!(read("id=\"a\"\nservice=\"web\"\nport=65536").unwrap_err().contains("port 65536"));
        assert!(read("id=\"a/b\"\nservice=\"web\"\nport=1").unwrap_err().contains("'/'"));
    }
}
