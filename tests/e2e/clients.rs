//! Real clients of DNS and HTTP see an instance appear, disappear and return.

use std::process::{Command, Stdio};

use crate::agent::{Agent, Process, WebServer, free_port, has, text};
use crate::wait::until;

fn web_with_check(port: u16) -> String {
    format!(
        r#"{{"service":"web","port":{port},"check":[{{"kind":"http","path":"/","interval":"200ms"}}]}}"#
    )
}

#[test]
fn every_client_loses_a_killed_server_and_sees_it_return() {
    if !(has("dig") && has("kdig") && has("curl")) {
        return;
    }
    let agent = Agent::start();
    let mut server = WebServer::start();
    agent.register("web-1", &web_with_check(server.port));
    let port = server.port.to_string();
    let answers = || {
        let srv = agent.dig(&["+short", "web.dunlin.internal", "SRV"]);
        let kdig = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &agent.dns.port().to_string(), "+short"])
            .args(["_web._tcp.dunlin.internal", "SRV"])
            .output()
            .unwrap();
        let http = agent.json("/api/services/web")["instances"].to_string();
        let looked_up = agent.lookup("web").join(" ");
        [srv, text(&kdig), http, looked_up].map(|answer| answer.contains(&port))
    };
    for _ in 0..2 {
        until("all have it", || answers() == [true; 4]);
        server.kill();
        until("all lost it", || answers() == [false; 4]);
        assert!(agent.dig(&["web.dunlin.internal", "SRV"]).contains("status: NOERROR"), "NODATA");
        server.boot();
    }
}

#[test]
fn a_watch_tells_every_change() {
    if !has("curl") {
        return;
    }
    let agent = Agent::start();
    let out = agent.dir.path().join("watch.out");
    let file = std::fs::File::create(&out).unwrap();
    let url = format!("http://{}/api/services/web/watch", agent.api);
    let _watch = Process::spawn(Command::new("curl").args(["-sN", &url]).stdout(file));
    let told = |part: &str| std::fs::read_to_string(&out).unwrap().contains(part);
    until("the snapshot", || told("event: snapshot"));
    agent.register("web-1", r#"{"service":"web","port":80}"#);
    until("the registration", || told("event: change") && told("\"web-1\""));
    agent.put("/api/instances/web-1/maintenance", r#"{"enabled":true,"reason":"new disk"}"#);
    until("the maintenance", || {
        let text = std::fs::read_to_string(&out).unwrap();
        text.rsplit("event: change").next().is_some_and(|last| !last.contains("\"passing\""))
    });
}

#[test]
fn dig_sees_all_kinds_of_records() {
    if !has("dig") {
        return;
    }
    let agent = Agent::start();
    agent.register("api-1", r#"{"service":"http.api.prod.shop","port":8080,"weight":7}"#);
    agent.register("api-2", r#"{"service":"http.api.prod.shop","port":81,"address":"127.0.0.9"}"#);
    let cases = [
        (&["http.api.prod.shop.dunlin.internal", "A"][..], "127.0.0.9"),
        (&["http.api.prod.shop.z1.dunlin.internal", "SRV"], "0 7 8080 n1.node.z1.dunlin.internal."),
        (&["http.api.prod.shop.any.dunlin.internal", "SRV"], "7f000009.ip.node.z1"),
        (&["_http._tcp.api.prod.shop.dunlin.internal", "SRV"], "100 81"),
        (&["http.api.prod.shop.dunlin.internal", "TXT"], "\"healthy=2\""),
        (&["n1.node.dunlin.internal", "A"], "127.0.0.1"),
        (&["dunlin.internal", "NS"], "n1.node.z1.dunlin.internal."),
        (&["dunlin.internal", "SOA"], "n1.node.z1.dunlin.internal."),
        (&["z1.dunlin.internal", "NS"], "n1.node.z1.dunlin.internal."),
        (&["-x", "127.0.0.1"], "n1.node.z1.dunlin.internal."),
        (&["hTTp.API.prod.shop.dunlin.internal", "A"], "hTTp.API.prod.shop"),
        (&["prod.shop.dunlin.internal", "A"], "status: NOERROR"),
        (&["http.api.prod.shop.dunlin.internal", "AAAA"], "status: NOERROR"),
        (&["nothing.dunlin.internal", "A"], "status: NXDOMAIN"),
        (&["example.org", "A"], "status: REFUSED"),
        (&["dunlin.internal", "AXFR"], "Transfer failed"),
    ];
    for (question, expected) in cases {
        for transport in ["+notcp", "+tcp"] {
            let answer = agent.dig(&[&[transport], question].concat());
            assert!(answer.contains(expected), "{question:?} {transport}: {expected}\n{answer}");
        }
    }
}

#[test]
fn unbound_finds_services_through_a_stub_zone() {
    if !(has("unbound") && has("dig")) {
        return;
    }
    let agent = Agent::start();
    agent.register("web-1", r#"{"service":"web.prod.shop","port":8080}"#);
    let (dir, port) = (agent.dir.path(), free_port());
    let config = dir.join("unbound.conf");
    let text = format!(
        "server:\n  interface: 127.0.0.1\n  port: {port}\n  do-not-query-localhost: no\n  username: \"\"\n  \
         chroot: \"\"\n  directory: \"{dir}\"\n  pidfile: \"\"\n  use-syslog: no\n  do-ip6: no\n  \
         module-config: \"iterator\"\n  qname-minimisation: yes\n  cache-max-ttl: 1\n  \
         local-zone: \"internal.\" nodefault\nremote-control:\n  control-enable: no\n\
         stub-zone:\n  name: \"dunlin.internal\"\n  stub-addr: 127.0.0.1@{dns}\n",
        dir = dir.display(),
        dns = agent.dns.port(),
    );
    std::fs::write(&config, text).unwrap();
    let _unbound = Process::spawn(
        Command::new("/usr/sbin/unbound").arg("-d").arg("-c").arg(&config).stderr(Stdio::null()),
    );
    let ask = |name: &str| {
        let port = port.to_string();
        let out = Command::new("dig")
            .args(["@127.0.0.1", "-p", &port, "+short", "+tries=1", "+time=2", name, "SRV"])
            .output()
            .unwrap();
        crate::agent::text(&out)
    };
    until("unbound finds it", || ask("web.prod.shop.dunlin.internal").contains("8080"));
    agent.curl(&["-X", "DELETE", "/api/instances/web-1"]);
    until("unbound loses it", || !ask("web.prod.shop.dunlin.internal").contains("8080"));
}

#[test]
fn haproxy_follows_srv_records() {
    if !has("haproxy") {
        return;
    }
    let agent = Agent::start();
    let mut server = WebServer::start();
    agent.register("web-1", &web_with_check(server.port));
    let (port, config) = (free_port(), agent.dir.path().join("haproxy.cfg"));
    let text = format!(
        "global\n  log stderr local0 err\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  \
         timeout server 5s\n  retries 0\nresolvers dunlin\n  nameserver agent 127.0.0.1:{dns}\n  \
         accepted_payload_size 1232\n  hold valid 1s\n  hold obsolete 1s\n  hold nx 1s\n  hold other 1s\n  \
         timeout resolve 1s\n  timeout retry 1s\nfrontend in\n  bind 127.0.0.1:{port}\n  \
         default_backend web\nbackend web\n  \
         server-template web 5 _web._tcp.dunlin.internal resolvers dunlin init-addr none\n",
        dns = agent.dns.port(),
    );
    std::fs::write(&config, text).unwrap();
    let _haproxy = Process::spawn(
        Command::new("/usr/sbin/haproxy").arg("-db").arg("-f").arg(&config).stderr(Stdio::null()),
    );
    let status = || {
        let url = format!("http://127.0.0.1:{port}/");
        let out = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", &url])
            .output()
            .unwrap();
        crate::agent::text(&out)
    };
    until("HAProxy reaches the server", || status() == "200");
    server.kill();
    until("HAProxy has no server left", || status() == "503");
    server.boot();
    until("HAProxy reaches it again", || status() == "200");
}
