//! Lists of sections, which no configuration of this release has yet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::super::{bounds, duration, keys, parse, reference, reload, text};
use super::*;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    /// One plain section.
    edge: Edge,
    /// Where connections are taken, and where they go.
    router: Vec<Router>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Edge {
    /// How many at most.
    limit: u16,
    /// Lists may also stand in sections.
    route: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Router {
    /// Where it listens.
    #[serde(deserialize_with = "text::socket_address")]
    #[schemars(with = "text::SocketText")]
    listen: SocketAddr,
    /// How long a connection may be idle.
    #[serde(default, with = "duration")]
    #[schemars(with = "text::DurationText")]
    idle: Duration,
    /// Free pairs.
    #[serde(default)]
    meta: BTreeMap<String, String>,
    /// Where connections go.
    #[serde(default)]
    server: Vec<Server>,
    /// Files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tls")]
    tls: Option<Tls>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Server {
    /// Its port.
    port: u16,
    /// Its share, 1 to 100.
    #[serde(default = "one")]
    weight: u16,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    /// A file.
    cert: String,
}

/// A way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Route {
    /// Where it goes.
    target: String,
}

fn one() -> u16 {
    1
}

impl Root for Sample {
    const RELOADABLE: &'static [&'static [&'static str]] =
        &[&["edge"], &["router", "server", "weight"]];

    fn validate(&self) -> Result<(), ConfigError> {
        for (at, router) in self.router.iter().enumerate() {
            let is_missing = router.tls.as_ref().is_some_and(|tls| tls.cert.is_empty());
            require(!is_missing, &format!("router[{at}].tls.cert"), || "is missing".into())?;
            for (of, server) in router.server.iter().enumerate() {
                let key = format!("router[{at}].server[{of}].weight");
                bounds::require_within(&key, server.weight, 1, 100)?;
            }
        }
        Ok(())
    }
}

fn sample(text: &str) -> Result<Sample, ConfigError> {
    parse::parse(text, "dunlin.toml", [])
}

fn sample_with(text: &str, name: &str, value: &str) -> Result<Sample, ConfigError> {
    parse::parse(text, "dunlin.toml", [(name.to_owned(), value.to_owned())])
}

/// Two routers, the second with two servers, on known lines.
const FILE: &str = "\
[[router]]
listen = \"127.0.0.1:1\"

[[router]]
listen = \"127.0.0.1:2\"
idle = \"5s\"
[router.meta]
rack = \"r7\"
[[router.server]]
port = 10
[[router.server]]
port = 11
weight = 2
";

#[test]
fn lists_of_sections_are_read_and_written_back() {
    let read = sample(FILE).unwrap();
    let listens: Vec<_> = read.router.iter().map(|r| r.listen.port()).collect();
    assert_eq!(listens, [1, 2]);
    assert_eq!(read.router[1].idle, Duration::from_secs(5));
    let servers: Vec<_> = read.router[1].server.iter().map(|s| (s.port, s.weight)).collect();
    assert_eq!(servers, [(10, 1), (11, 2)]);
    assert_eq!(sample(&toml::to_string(&read).unwrap()).unwrap(), read);
    let inline = "router = [{ listen = \"127.0.0.1:1\", server = [{ port = 1 }] }]";
    assert_eq!(sample(inline).unwrap().router[0].server[0].port, 1);
    assert_eq!(sample("").unwrap(), Sample::default());
    assert_eq!(sample("router = []").unwrap(), Sample::default());
}

/// Pairs of lines that are appended to [`FILE`], whose last line is 13 and belongs to `router[1].server[1]`, and a part
/// of the expected error.
const MISTAKES: &[(&str, &str)] = &[
    (
        "wieght = 1",
        "dunlin.toml:14: unknown key \"router[1].server[1].wieght\"; did you mean \
         \"router[1].server[1].weight\"?",
    ),
    (
        "\n[[router]]\nlisten = \"127.0.0.1:3\"\nidel = \"5s\"",
        "dunlin.toml:17: unknown key \"router[2].idel\"; did you mean \"router[2].idle\"?",
    ),
    (
        "[router.tsl]\ncert = \"a\"",
        "dunlin.toml:14: unknown key \"router[1].tsl\"; did you mean \"router[1].tls\"?",
    ),
    (
        "[router.tls]\ncrt = \"a\"",
        "dunlin.toml:15: unknown key \"router[1].tls.crt\"; did you mean \"router[1].tls.cert\"?",
    ),
    ("[[rooter]]\n", "dunlin.toml:14: unknown key \"rooter\"; did you mean \"router\"?"),
    ("[[router.sever]]\n", "dunlin.toml:14: unknown key \"router[1].sever\"; did you mean"),
    (
        "[[edge.route]]\nlimit = 1",
        "unknown key \"edge.route[0].limit\"; did you mean \"edge.limit\"?",
    ),
    ("[edge]\nlisten = \"a\"", "unknown key \"edge.listen\"; did you mean \"router[].listen\"?"),
    (
        "[[router.server]]\nport = \"x\"",
        "dunlin.toml:15: router[1].server[2].port: invalid type: string \"x\", expected u16",
    ),
    ("[[router.server]]\nport = 70000", "dunlin.toml:15: router[1].server[2].port: invalid value"),
    ("[[router.server]]\nweight = 3", "dunlin.toml:14: router[1].server[2]: missing field `port`"),
    ("[[router]]\nidle = \"1s\"", "dunlin.toml:14: router[2]: missing field `listen`"),
    (
        "[[router]]\nlisten = \"localhost:1\"",
        "dunlin.toml:15: router[2].listen: \"localhost:1\" is not an address",
    ),
    (
        "[[router]]\nlisten = \"127.0.0.1:3\"\nidle = 5",
        "dunlin.toml:16: router[2].idle: invalid type",
    ),
    (
        "[[router.server]]\nport = 1\nweight = 101",
        "dunlin.toml:16: router[1].server[2].weight: is 101; 1 to 100 are allowed",
    ),
    ("[router.tls]\n", "dunlin.toml:14: router[1].tls.cert: is missing"),
    (
        "[router.server.x]\n",
        // The last server of the list has no such key.
        "dunlin.toml:14: unknown key \"router[1].server[1].x\"",
    ),
];

#[test]
fn a_mistake_in_a_list_is_named_with_its_place_and_what_would_be_right() {
    for (mistake, expected) in MISTAKES {
        let error = sample(&format!("{FILE}{mistake}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{mistake:?}\n  said: {error}\n  not:  {expected}");
    }
}

#[test]
fn a_list_is_not_taken_for_a_section_nor_a_section_for_a_list() {
    for (text, expected) in [
        (
            "[router]\nlisten = \"127.0.0.1:1\"",
            "dunlin.toml:1: router: has the type table; a list of sections is expected here, like [[router]]",
        ),
        ("router = 1", "router: has the type integer; a list of sections is expected here"),
        (
            "\nrouter = [1]",
            "dunlin.toml:2: router[0]: has the type integer; a section is expected here, like [[router]]",
        ),
        (
            "[[edge]]\nlimit = 1",
            "edge: has the type array; a section is expected here, like [edge]",
        ),
        (
            "[[router]]\nlisten = \"127.0.0.1:1\"\nserver = { port = 1 }",
            "dunlin.toml:3: router[0].server: has the type table; a list of sections is expected here, like [[router.server]]",
        ),
        (
            "[[router]]\nlisten = \"127.0.0.1:1\"\ntls = 1",
            "dunlin.toml:3: router[0].tls: has the type integer; a section is expected here, like [router.tls]",
        ),
    ] {
        let error = sample(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}\n  said: {error}\n  not:  {expected}");
    }
}

#[test]
fn variables_cannot_set_what_stands_in_a_list_and_say_so() {
    let list = |key: &str, header: &str| {
        format!("{key}: is a list of sections, which no variable can set; write [[{header}]] into")
    };
    let edge = list("edge.route", "edge.route");
    for (name, value, expected) in [
        ("DUNLIN_ROUTER__LISTEN", "127.0.0.1:1", list("router", "router")),
        ("DUNLIN_ROUTER__0__LISTEN", "127.0.0.1:1", list("router", "router")),
        ("DUNLIN_EDGE__ROUTE", "[{ target = \"a\" }]", edge.clone()),
        ("DUNLIN_EDGE__ROUTE__TARGET", "a", edge.clone()),
        ("DUNLIN_EDGE", "", String::new()),
        ("DUNLIN_EDGE__LIMIT", "many", "edge.limit: invalid type".to_owned()),
    ] {
        let read = sample_with(FILE, name, value);
        if expected.is_empty() {
            assert_eq!(read.unwrap(), sample(FILE).unwrap(), "{name} is passed over");
            continue;
        }
        let error = read.unwrap_err().to_string();
        assert!(error.starts_with(&format!("variable {name}: {expected}")), "{error}");
    }
    let read = sample_with(FILE, "DUNLIN_EDGE__LIMIT", "7").unwrap();
    assert_eq!((read.edge.limit, read.router.len()), (7, 2));
}

#[test]
fn a_reload_compares_lists_section_by_section() {
    let old = sample(FILE).unwrap();
    let mut new = old.clone();
    new.router[1].server[0].weight = 9;
    new.router[1].server.push(Server { port: 12, weight: 1 });
    new.router.remove(0);
    new.router.insert(0, Router { listen: ([127, 0, 0, 1], 9).into(), ..old.router[0].clone() });
    new.edge.route.push(Route { target: "a".into() });
    let diff = reload::diff(&old, &new);
    let keys = |changes: &[ConfigChange]| changes.iter().map(|c| c.key.clone()).collect::<Vec<_>>();
    assert_eq!(
        keys(&diff.reloadable),
        ["edge.route[0].target", "router[1].server[0].weight", "router[1].server[2].weight"]
    );
    assert_eq!(keys(&diff.needs_restart), ["router[0].listen", "router[1].server[2].port"]);
    assert_eq!(diff.needs_restart[1].from, None);
    assert_eq!(reload::diff(&new, &old).needs_restart[1].to, None);
    assert_eq!(reload::diff(&new, &new), ReloadDiff::default());
}

#[test]
fn the_reference_tells_lists_as_it_tells_sections() {
    let page = reference::markdown::<Sample>();
    for row in [
        "## `[edge]`\n\nOne plain section.\n",
        "| `edge.route` | list of tables | none | yes | Lists may also stand in sections. |",
        "## `[[edge.route]]`\n\nLists may also stand in sections.\n\nThere may be several such sections. \
         Variables cannot set their keys.\n",
        "| `edge.route[].target` | text | `\"\"` | yes | Where it goes. |",
        "## `[[router]]`\n\nWhere connections are taken, and where they go.\n",
        "| `router[].listen` | address:port | required | restart | Where it listens. |",
        "| `router[].meta` | table of text | none | restart | Free pairs. |",
        "| `router[].server` | list of tables | none | restart | Where connections go. |",
        "## `[[router.server]]`",
        "| `router[].server[].port` | whole number | required | restart | Its port. |",
        "| `router[].server[].weight` | whole number | `1` | yes | Its share, 1 to 100. |",
        "## `[router.tls]`",
        "| `router[].tls.cert` | text | `\"\"` | restart | A file. |",
    ] {
        assert!(page.contains(row), "missing: {row}\n{page}");
    }
}

#[test]
fn the_schema_refuses_unknown_keys_in_lists_and_marks_what_is_reloaded() {
    let schema = keys::schema::<Sample>();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    let server = "/properties/router/items/properties/server/items";
    assert_eq!(*at("/properties/router/items/additionalProperties"), false);
    assert_eq!(*at(&format!("{server}/additionalProperties")), false);
    assert_eq!(*at(&format!("{server}/properties/weight/x-reload")), true);
    assert!(schema.pointer(&format!("{server}/properties/port/x-reload")).is_none());
    assert!(!serde_json::to_string(&schema).unwrap().contains("$ref"));
}

/// Lines that are nearly valid.
fn line() -> impl Strategy<Value = String> {
    let headers =
        ["[[router]]", "[[router.server]]", "[router.tls]", "[router]", "[[edge.route]]", "[edge]"];
    let values = ["\"127.0.0.1:1\"", "1", "\"5s\"", "[{ port = 1 }]", "[]", "{ cert = \"a\" }"];
    let keys = ["listen", "port", "weight", "server", "tls", "idle", "meta.x", "router", "y"];
    let pair = (prop::sample::select(keys.to_vec()), prop::sample::select(values.to_vec()));
    prop_oneof![
        prop::sample::select(headers.to_vec()).prop_map(str::to_owned),
        pair.prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_taken_is_written_and_read_as_the_same(
        lines in prop::collection::vec(line(), 0..8),
        variable in "DUNLIN_(ROUTER|EDGE)__[A-Z_0]{0,8}",
        value in any::<String>(),
    ) {
        let text = lines.join("\n");
        if let Ok(read) = sample(&text) {
            let written = toml::to_string(&read).unwrap();
            prop_assert_eq!(sample(&written).unwrap(), read);
        }
        let _ = sample_with(&text, &variable, &value);
    }
}
