//! What a newcomer needs to know: where everything is, and what to try.

use dunlin_agent::Identity;

use super::seat::Seat;
use crate::output::Table;

/// The port at which commands look for an agent that they are not told of.
const DEFAULT_API_PORT: u16 = 5380;

/// One agent: where it is, and three commands to try.
pub(super) fn to_one(identity: &Identity, program: &str) -> String {
    let Identity { node, zone, domain, api, socket, services_dir, .. } = identity;
    // Commands look at the default port by themselves.
    let agent = match api.port() {
        DEFAULT_API_PORT => String::new(),
        _ => format!("--agent http://{api} "),
    };
    let (dns, dig) = match identity.dns {
        Some(dns) => (
            format!("{dns} (UDP and TCP)"),
            format!("dig @{} -p {} web.{domain} SRV", dns.ip(), dns.port()),
        ),
        None => ("off".to_owned(), format!("curl http://{api}/api/services/web")),
    };
    let server = "python3 -m http.server 8080 --bind 127.0.0.1";
    format!(
        "Dunlin is up: node {node} in zone {zone}\n\n  \
         API              http://{api}\n  \
         DNS              {dns}\n  \
         local socket     {socket}\n  \
         services folder  {services}\n\n\
         Try in another terminal:\n  \
         {program} {agent}run --service web:8080 --check http:/ -- {server}\n  \
         {program} {agent}lookup web\n  \
         {dig}\n\n\
         Ctrl-C stops it.\n",
        socket = socket.display(),
        services = services_dir.display(),
    )
}

/// Several agents: a table, a service on two of them, and what happens when one of the two is gone.
pub(super) fn to_several(agents: &[(Seat, &Identity)], program: &str) -> String {
    let mut table = Table::new(&["NODE", "ZONE", "API", "DNS", "SERVICES FOLDER"]);
    for (seat, identity) in agents {
        let dns = identity.dns.map_or_else(|| "off".to_owned(), |dns| dns.to_string());
        table.row([
            seat.name(),
            seat.zone(),
            format!("http://{}", identity.api),
            dns,
            identity.services_dir.display().to_string(),
        ]);
    }
    let [(_, first), (second_seat, second), ..] = agents else { return table.render() };
    let (_, last) = agents.last().unwrap_or(&agents[0]);
    let call = |identity: &Identity| format!("{program} --agent http://{}", identity.api);
    let dig = last.dns.map_or_else(String::new, |dns| {
        format!("\n  dig @{} -p {} web.any.{} SRV", dns.ip(), dns.port(), last.domain)
    });
    let zone = second_seat.zone();
    format!(
        "Dunlin is up: {count} nodes, each in a zone of its own\n\n{table}\n\n\
         Register in another terminal on two of them, and look up on any:\n  \
         {one} register --service web --port 8081\n  \
         {two} register --service web --port 8082\n  \
         {any} lookup web --all\n  \
         {any} nodes{dig}\n\n\
         Then type here, and look up again after each:\n  \
         kill {zone}    node n2 crashes; its instances leave all answers\n  \
         heal       it is back, and so are they\n  \
         help       what else there is, such as partitions\n\n\
         Ctrl-C or quit stops all.\n",
        count = agents.len(),
        table = table.render(),
        one = call(first),
        two = call(second),
        any = call(last),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use dunlin_core::model::{NodeId, NodeName, ZoneName};

    use super::*;

    fn identity(number: u8, api: &str) -> Identity {
        let folder = format!("/tmp/d/n{number}");
        Identity {
            node_id: NodeId::from_bytes([number; 16]),
            node: NodeName::parse(&format!("n{number}")).unwrap(),
            zone: ZoneName::parse(&format!("z{number}")).unwrap(),
            domain: "dunlin.internal".to_owned(),
            api: api.parse().unwrap(),
            dns: Some(format!("127.0.0.{number}:5300").parse().unwrap()),
            socket: format!("{folder}/agent.sock").into(),
            data_dir: folder.clone().into(),
            services_dir: format!("{folder}/services.d").into(),
            started: Instant::now(),
        }
    }

    #[test]
    fn the_welcome_says_where_everything_is_and_what_to_try() {
        let text = to_one(&identity(1, "127.0.0.1:5381"), "dunlin");
        for part in [
            "node n1 in zone z1",
            "API              http://127.0.0.1:5381",
            "DNS              127.0.0.1:5300",
            "local socket     /tmp/d/n1/agent.sock",
            "services folder  /tmp/d/n1/services.d",
            "dunlin --agent http://127.0.0.1:5381 lookup web",
            "dig @127.0.0.1 -p 5300 web.dunlin.internal SRV",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn the_welcome_to_several_has_a_table_and_commands_to_paste() {
        let identities: Vec<_> =
            (1..=3).map(|n| identity(n, &format!("127.0.0.{n}:5380"))).collect();
        let agents: Vec<_> = Seat::all(3).zip(&identities).collect();
        let text = to_several(&agents, "dunlin");
        for part in [
            "n2    z2    http://127.0.0.2:5380  127.0.0.2:5300  /tmp/d/n2/services.d\n",
            "\n  dunlin --agent http://127.0.0.1:5380 register --service web --port 8081\n",
            "\n  dunlin --agent http://127.0.0.3:5380 lookup web --all\n",
            "\n  dig @127.0.0.3 -p 5300 web.any.dunlin.internal SRV\n",
            "\n  kill z2 ",
            "\n  heal ",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
