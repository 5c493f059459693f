mod lists;
mod reload;

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::ServiceName;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "dunlin.toml")
}

fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::parse_with_env(text, "dunlin.toml", env)
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("[dns]\n").unwrap(), Config::default());
    Config::default().validate().unwrap();
}

#[test]
fn every_setting_can_be_given_in_the_file() {
    let config = parse(
        r#"
        [node]
        name = "Web-1"
        zone = "EU1"
        address = "10.0.0.5"
        data_dir = "/srv/dunlin"
        meta = { rack = "r7" }
        [api]
        listen = "[::1]:1"
        insecure = true
        tokens_file = "tokens.toml"
        socket_mode = "666"
        socket_users = "read"
        connections_per_client = 100
        watches_per_client = 50
        [api.tls]
        cert = "api.crt"
        key = "api.key"
        client_ca = "clients.crt"
        [dns]
        enabled = false
        listen = "0.0.0.0:53"
        domain = "Corp.Example."
        ttl = "1m 30s"
        upstreams = ["9.9.9.9", "[2620:fe::fe]:5353"]
        udp_payload = 4096
        workers = 2
        rate_limit = 200
        rate_limit_slip = 0
        [cluster]
        listen = "10.0.0.5:5370"
        advertise = "192.0.2.7:5370"
        join = ["agent-1.example.com:5370", "10.0.0.6:5370", "[2001:db8::6]:5370"]
        leave_on_stop = false
        [cluster.tls]
        ca = "ca.crt"
        cert = "web-1.crt"
        key = "web-1.key"
        [providers]
        dir = "services.d"
        [guard]
        max_drop = 1
        window = "5s"
        hold = "1h"
        min_instances = 10
        panic = false
        [guard.service."http.api.prod.shop"]
        max_drop = 0.9
        panic = true
        [log]
        filter = "debug"
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(config.node.name.unwrap().as_str(), "web-1");
    assert_eq!(config.dns.domain.as_str(), "corp.example");
    assert_eq!(config.dns.ttl, Duration::from_secs(90));
    let upstreams: Vec<String> = config.dns.upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(upstreams, ["9.9.9.9:53", "[2620:fe::fe]:5353"]);
    let own = &config.guard.service[&ServiceName::parse("http.api.prod.shop").unwrap()];
    assert_eq!((own.max_drop, own.panic), (Some(0.9), Some(true)));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.cluster.advertise.unwrap().to_string(), "192.0.2.7:5370");
    assert_eq!(config.cluster.join.len(), 3);
    assert!(!config.cluster.leave_on_stop);
    assert_eq!(config.cluster.tls.unwrap().key, PathBuf::from("web-1.key"));
    assert_eq!(config.api.socket_mode.to_string(), "0666");
    assert_eq!(config.api.tls.unwrap().client_ca, Some(PathBuf::from("clients.crt")));
}

/// Pairs of a file and a part of the expected error.
const MISTAKES: &[(&str, &str)] = &[
    ("[dns]\ntll = \"1s\"", r#"dunlin.toml:2: unknown key "dns.tll"; did you mean "dns.ttl"?"#),
    ("[dsn]\n", r#"dunlin.toml:1: unknown key "dsn"; did you mean "dns"?"#),
    ("\nttl = 1", r#"dunlin.toml:2: unknown key "ttl"; did you mean "dns.ttl"?"#),
    ("quux = 1", "unknown key \"quux\"; `dunlin config reference` lists all keys"),
    ("[guard.service.web]\npanik = true", "did you mean \"guard.service.web.panic\"?"),
    ("[dns]\n\nttl = 5", "dunlin.toml:3: dns.ttl: invalid type: integer `5`, expected a duration"),
    ("[dns]\nttl = \"soon\"", "dunlin.toml:2: dns.ttl: \"soon\" is not a duration like \"5s\""),
    ("[dns]\nttl = \"2days\"", "dunlin.toml:2: dns.ttl: is 2days; whole seconds up to 1day"),
    ("[dns]\nttl = \"1ms\"", "dunlin.toml:2: dns.ttl: is 1ms; whole seconds"),
    (
        "dns.listen = \"localhost:53\"",
        "dunlin.toml:1: dns.listen: \"localhost:53\" is not an address",
    ),
    ("[dns]\nlisten = 53", "dns.listen: invalid type: integer `53`, expected a string"),
    ("[dns]\nupstreams = [\n \"9.9.9.9\",\n \"dns\"]", "dns.upstreams: \"dns\" is not an address"),
    ("[dns]\nudp_payload = 100", "dns.udp_payload: is 100; 512 to 4096 are allowed"),
    ("[dns]\nudp_payload = 70000", "dns.udp_payload: invalid value: integer `70000`, expected u16"),
    ("[dns]\nworkers = 0", "dns.workers: is 0; 1 to 64 are allowed"),
    ("[dns]\ndomain = \"a..b\"", "dunlin.toml:2: dns.domain: name \"\" has an empty label"),
    ("[dns]\nlisten = \"127.0.0.1:5380\"", "dns.listen: is 127.0.0.1:5380, where the API listens"),
    (
        "[api]\nlisten = \"10.0.0.5:5380\"",
        "dunlin.toml:2: api.listen: is 10.0.0.5:5380, which other hosts reach, and nothing says who may \
         use the API; set api.tokens_file or api.tls, or api.insecure = true",
    ),
    (
        "[api]\nlisten = \"[::]:80\"",
        "dunlin.toml:2: api.listen: is [::]:80, which other hosts reach",
    ),
    ("[api.tls]\ncert = \"a.crt\"", "api.tls.key: is missing; name the files of both"),
    ("[api]\nwatches_per_client = 0", "api.watches_per_client: is 0; 1 to 16384 are allowed"),
    (
        "[api]\nconnections_per_client = 16385",
        "api.connections_per_client: is 16385; 1 to 16384 are allowed",
    ),
    ("[api]\nsocket_mode = \"0760\"", "api.socket_mode: \"0760\" is not the mode of a socket"),
    ("[api]\nsocket_mode = \"060\"", "api.socket_mode: \"060\" is not the mode of a socket"),
    (
        "[api]\nsocket_mode = \"0666\"",
        "api.socket_mode: 0666 lets every user of this host do everything",
    ),
    ("[dns]\nrate_limit_slip = 101", "dns.rate_limit_slip: is 101; 0 to 100 are allowed"),
    ("dns = 5", "dunlin.toml:1: dns: has the type integer; a section is expected here, like [dns]"),
    ("[node]\nname = \"a.b\"", "node.name: label \"a.b\" holds '.'"),
    ("[node]\nzone = \"any\"", "dunlin.toml:2: node.zone: \"any\" is reserved"),
    ("[node]\naddress = \"host\"", "dunlin.toml:2: node.address: invalid IP address syntax"),
    ("[node]\naddress = \"0.0.0.0\"", "dunlin.toml:2: node.address: is not an address that others"),
    ("[node.meta]\nrack = 7", "dunlin.toml:2: node.meta.rack: invalid type: integer `7`"),
    ("[guard]\nmax_drop = 50", "dunlin.toml:2: guard.max_drop: is 50; a share from 0 to 1"),
    ("[guard]\nmax_drop = nan", "guard.max_drop: is NaN"),
    ("[guard]\nwindow = \"0s\"", "guard.window: is 0s; 1s to 1h are allowed"),
    ("[guard]\nmin_instances = -1", "guard.min_instances: invalid value: integer `-1`"),
    ("[guard.service.web]\nmax_drop = 2", "dunlin.toml:2: guard.service.web.max_drop: is 2"),
    ("[guard.service.\"w b\"]\nmax_drop = 0.2", "label \"w b\" holds ' '"),
    (
        "[cluster]\njoin = [\"10.0.0.5:5370\"]",
        "dunlin.toml:2: cluster.join: needs cluster.tls, since agents know each other by certificates; \
         make them with `dunlin tls ca create`",
    ),
    ("[cluster]\njoin = [\"a.b\"]", "cluster.join: \"a.b\" is not a host with a port, like"),
    ("[cluster]\njoin = [\"10.0.0:1\"]", "cluster.join: \"10.0.0:1\" is not a host"),
    ("[cluster]\njoin = [\"::1:53\"]", "cluster.join: \"::1:53\" is not a host"),
    ("[cluster]\njoin = [\"a:0\"]", "cluster.join: \"a:0\" is not a host"),
    ("[cluster]\nadvertise = \"0.0.0.0:1\"", "cluster.advertise: is not an address that others"),
    ("[cluster]\nadvertise = \"a:1\"", "cluster.advertise: \"a:1\" is not an address with a port"),
    (
        "\n[cluster.tls]\nca = \"a\"\nkey = \"k\"",
        "dunlin.toml:2: cluster.tls.cert: is missing; name the files",
    ),
    ("[cluster.tls]\ncrt = \"a\"", "did you mean \"cluster.tls.cert\"?"),
    ("[cluster]\ntls = true", "cluster.tls: has the type boolean; a section is expected here"),
    ("[log]\nformat = \"xml\"", "log.format: unknown variant `xml`, expected `text` or `json`"),
    ("[dns\n", "dunlin.toml:1: not valid TOML"),
    (
        "[api]\nlisten = \"[::1]:1\"\nlisten = \"[::1]:2\"",
        "dunlin.toml:3: not valid TOML: duplicate key",
    ),
];

#[test]
fn an_error_names_the_key_the_line_and_what_would_be_right() {
    for (text, expected) in MISTAKES {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}\n  said: {error}\n  not:  {expected}");
    }
}

#[test]
fn a_variable_wins_over_the_file() {
    let file = "[dns]\nttl = \"9s\"\nworkers = 9\n[node.meta]\nrack = \"r1\"";
    let config = with_env(
        file,
        &[
            ("DUNLIN_DNS__TTL", "5s"),
            ("DUNLIN_DNS__UPSTREAMS", "9.9.9.9, 1.1.1.1:5353"),
            ("DUNLIN_DNS__ENABLED", "false"),
            ("DUNLIN_NODE__NAME", "7"),
            ("DUNLIN_NODE__META__ROW", "b"),
            ("DUNLIN_GUARD__MAX_DROP", "0.25"),
            ("DUNLIN_GUARD__SERVICE", "{ web = { panic = false } }"),
            ("DUNLIN_API__LISTEN", "\"[::1]:80\""),
            ("DUNLIN_CLUSTER__LISTEN", "127.0.0.1:5370"),
            ("DUNLIN_CLUSTER__ADVERTISE", "127.0.0.1:5371"),
            ("DUNLIN_CLUSTER__JOIN", "a:1, b:2"),
            ("DUNLIN_CLUSTER__TLS__CA", "ca.crt"),
            ("DUNLIN_CLUSTER__TLS__CERT", "a.crt"),
            ("DUNLIN_CLUSTER__TLS__KEY", "a.key"),
        ],
    )
    .unwrap();
    assert_eq!(config.dns.ttl, Duration::from_secs(5));
    assert_eq!(config.dns.workers, Some(9));
    assert_eq!(config.dns.upstreams.len(), 2);
    assert!(!config.dns.enabled);
    assert_eq!(config.node.name.unwrap().as_str(), "7");
    assert_eq!(config.node.meta.len(), 2);
    assert_eq!(config.guard.max_drop.to_string(), "0.25");
    assert_eq!(config.guard.service.len(), 1);
    assert_eq!(config.api.listen.to_string(), "[::1]:80");
    assert_eq!(config.cluster.advertise.unwrap().port(), 5371);
    assert_eq!(config.cluster.join, ["a:1", "b:2"]);
    assert_eq!(config.cluster.tls.unwrap().cert, PathBuf::from("a.crt"));
}

#[test]
fn variables_of_others_are_passed_over() {
    let env = [("HOME", "/root"), ("DUNLIN_CONFIG", "x"), ("DUNLIN_AGENT", "y"), ("PATH__X", "z")];
    assert_eq!(with_env("", &env).unwrap(), Config::default());
}

#[test]
fn an_error_in_a_variable_names_the_variable() {
    for (name, value, expected) in [
        ("DUNLIN_DNS__TLL", "1s", r#"unknown key "dns.tll"; did you mean "dns.ttl"?"#),
        ("DUNLIN_CLUSTER__JOIN", "a", "cluster.join: \"a\" is not a host with a port"),
        ("DUNLIN_CLUSTER__TLS__CRT", "x", "unknown key \"cluster.tls.crt\""),
        ("DUNLIN_DNS__TTL", "soon", "dns.ttl: \"soon\" is not a duration"),
        ("DUNLIN_DNS__TTL", "2days", "dns.ttl: is 2days; whole seconds"),
        ("DUNLIN_DNS__WORKERS", "many", "dns.workers: invalid type: string \"many\""),
        ("DUNLIN_DNS__WORKERS", "0", "dns.workers: is 0"),
        ("DUNLIN_DNS__", "0", "unknown key \"dns.\""),
        ("DUNLIN_DNS__LISTEN__X", "0", "unknown key \"dns.listen.x\""),
        ("DUNLIN_NODE__META", "rack", "node.meta: has the type string; a section is expected"),
        (
            "DUNLIN_GUARD__SERVICE",
            "{ web = { panik = 1 } }",
            "unknown key \"guard.service.web.panik\"; did you mean \"guard.service.web.panic\"?",
        ),
        ("DUNLIN_GUARD__SERVICE", "{ web = 1 }", "guard.service.web: has the type integer"),
    ] {
        let error = with_env("[dns]\nttl = \"3s\"", &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("variable {name}: ")), "{error}");
        assert!(error.contains(expected), "{name}={value} said: {error}");
    }
}

#[test]
fn settings_written_out_read_back_the_same() {
    let mut config = parse(
        "[node]\nname = \"a\"\n[guard.service.web]\npanic = false\n\
         [cluster.tls]\nca = \"a\"\ncert = \"b\"\nkey = \"c\"",
    )
    .unwrap();
    config.dns.upstreams.push(([9, 9, 9, 9], 53).into());
    assert_eq!(parse(&config.to_toml()).unwrap(), config);
    assert_eq!(parse(&Config::default().to_toml()).unwrap(), Config::default());
}

#[test]
fn the_reference_tells_each_key_with_type_default_and_reload() {
    let page = Config::reference();
    for row in [
        "| `dns.ttl` | duration | `\"1s\"` | yes | How long others may keep an answer",
        "| `dns.listen` | address:port | `\"127.0.0.1:5300\"` | restart | Where DNS listens",
        "| `dns.upstreams` | list of address:port | none | restart |",
        "| `dns.workers` | whole number |  | restart |",
        "| `guard.max_drop` | number | `0.5` | yes |",
        "| `node.meta` | table of text | none | restart |",
        "| `log.format` | `\"text\"` or `\"json\"` | `\"text\"` | restart |",
        "| `cluster.join` | list of host:port | none | restart |",
        "## `[cluster.tls]`",
        "| `cluster.tls.key` | path |  | restart |",
        "## `[guard.service.NAME]`",
        "| `guard.service.NAME.panic` | true or false |  | yes |",
    ] {
        assert!(page.contains(row), "missing: {row}\n{page}");
    }
}

#[test]
fn the_schema_refuses_unknown_keys_and_stands_alone() {
    let schema = Config::schema();
    let text = serde_json::to_string(&schema).unwrap();
    assert!(!text.contains("$ref"), "{text}");
    assert_eq!(schema.get("additionalProperties"), Some(&serde_json::Value::Bool(false)));
}

/// Lines that are nearly valid, so that random files get past the first key.
fn line() -> impl Strategy<Value = String> {
    let section =
        prop::sample::select(vec!["[dns]", "[node]", "[guard]", "[guard.service.web]", "[x]"]);
    let key = prop::sample::select(vec![
        "ttl", "listen", "name", "max_drop", "window", "panic", "meta", "y",
    ]);
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
        "[ -~]{0,12}".prop_map(|s| format!("{s:?}")),
        Just("\"5s\"".to_owned()),
        Just("\"127.0.0.1:1\"".to_owned()),
        Just("{ a = [1] }".to_owned()),
        Just("true".to_owned()),
    ];
    prop_oneof![
        section.prop_map(str::to_owned),
        (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn parsing_never_panics(text in any::<String>(), lines in prop::collection::vec(line(), 0..6)) {
        let _ = parse(&text);
        let _ = parse(&lines.join("\n"));
    }

    #[test]
    fn variables_never_panic(name in "DUNLIN_(DNS|NODE|GUARD|X)__[A-Z_]{0,8}", value in any::<String>()) {
        let _ = with_env("", &[(&name, &value)]);
        let _ = with_env("", &[("DUNLIN_NODE__META", &value), ("DUNLIN_DNS__UPSTREAMS", &value)]);
    }
}

#[test]
fn beyond_loopback_the_api_needs_a_guard_or_a_word_that_it_has_none() {
    let listener = "[api]\nlisten = \"0.0.0.0:5380\"\n";
    for (more, danger) in [
        ("insecure = true", Some("(api.insecure)")),
        ("tokens_file = \"t.toml\"", Some("tokens can be read on their way")),
        ("[api.tls]\ncert = \"c\"\nkey = \"k\"", Some("neither api.tokens_file nor")),
        ("[api.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"a\"", None),
        ("tokens_file = \"t.toml\"\n[api.tls]\ncert = \"c\"\nkey = \"k\"", None),
    ] {
        let api = parse(&format!("{listener}{more}")).unwrap().api;
        let exposure = api.exposure(api.listen);
        assert_eq!(exposure.is_some(), danger.is_some(), "{more}");
        assert!(exposure.unwrap_or_default().contains(danger.unwrap_or_default()), "{more}");
        assert_eq!(api.exposure("127.0.0.1:1".parse().unwrap()), None);
    }
}
