//! What the API answers, as tables and lines for people. Pure: nothing here prints.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use dunlin_api::{
    Event, GuardList, Instance, NodeList, ProviderList, Service, ServiceList, Standing,
};

use crate::output::Table;

pub(crate) fn services(list: &ServiceList) -> Table {
    let mut table = Table::new(&["SERVICE", "HEALTHY", "HEALTH", "ZONES", "GUARDED"]);
    for s in &list.services {
        let healthy = format!("{}/{}", s.healthy, s.instances);
        let guarded = if s.guarded { "yes" } else { "no" };
        let cells = [counts(&s.health), counts(&s.zones), guarded.to_owned()];
        table.row([s.service.clone(), healthy].into_iter().chain(cells));
    }
    table
}

fn counts(of: &BTreeMap<String, usize>) -> String {
    let words: Vec<_> = of.iter().map(|(name, count)| format!("{name} {count}")).collect();
    words.join(", ")
}

pub(crate) fn nodes(list: &NodeList) -> Table {
    let mut table =
        Table::new(&["NODE", "ZONE", "ADDRESS", "STATUS", "RTT", "BEHIND", "INSTANCES", "META"]);
    for n in &list.nodes {
        let name = if n.this { format!("{} (this)", n.name) } else { n.name.clone() };
        let meta: Vec<_> = n.meta.iter().map(|(k, v)| format!("{k}={v}")).collect();
        table.row([
            name,
            n.zone.clone(),
            n.address.to_string(),
            if n.draining { format!("{}, draining", n.status) } else { n.status.clone() },
            n.rtt_ms.map(|rtt| format!("{rtt:.1} ms")).unwrap_or_default(),
            n.behind.map(|behind| behind.to_string()).unwrap_or_default(),
            n.instances.to_string(),
            meta.join(" "),
        ]);
    }
    table
}

pub(crate) fn providers(list: &ProviderList) -> Table {
    let mut table = Table::new(&["PROVIDER", "INSTANCES", "CHANGED", "PROBLEM"]);
    for p in &list.providers {
        let held =
            (!p.conflicts.is_empty()).then(|| format!("ids taken: {}", p.conflicts.join(", ")));
        let problems: Vec<_> = p.error.clone().into_iter().chain(held).collect();
        let count = p.instances.to_string();
        table.row([p.provider.clone(), count, p.changed.clone(), problems.join("; ")]);
    }
    table
}

pub(crate) fn guarded(list: &GuardList) -> Table {
    let mut table = Table::new(&["SERVICE", "SINCE", "HELD"]);
    for g in &list.guarded {
        table.row([g.service.clone(), g.since.clone(), g.held.to_string()]);
    }
    table
}

pub(crate) fn event(e: &Event) -> String {
    let mut line = format!("{} {}", e.time, e.kind);
    let facts = [("service", &e.service), ("instance", &e.instance), ("provider", &e.provider)];
    for (name, value) in facts {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value}");
        }
    }
    if !e.reason.is_empty() {
        let _ = write!(line, ": {}", e.reason);
    }
    line
}

/// Where to connect: `10.0.0.5:80`, `[::1]:80`.
pub(crate) fn endpoint(address: IpAddr, port: u16) -> String {
    SocketAddr::from((address, port)).to_string()
}

/// What changed in a service since it was last seen, a line each; all of it if never seen.
pub(crate) fn changes(before: Option<&Service>, now: &Service) -> Vec<String> {
    let key = |i: &Instance| (i.node.clone(), i.id.clone());
    let index = |s: &Service| -> BTreeMap<_, Instance> {
        s.instances.iter().map(|i| (key(i), i.clone())).collect()
    };
    let (old, new) = (before.map(index).unwrap_or_default(), index(now));
    let mut lines = Vec::new();
    for (key, instance) in &old {
        if !new.contains_key(key) {
            lines.push(format!("- {} {}", now.service, instance_words(instance)));
        }
    }
    for (key, instance) in &new {
        match old.get(key) {
            None => lines.push(format!("+ {} {}", now.service, instance_words(instance))),
            Some(before) if before == instance => {}
            Some(before) => {
                let words = instance_words(instance);
                lines.push(format!("~ {} {words}{}", now.service, moved(before, instance)));
            }
        }
    }
    if before.is_some_and(|b| b.guarded) != now.guarded {
        let state = if now.guarded { "guarded" } else { "no longer guarded" };
        lines.push(format!("! {} {state}", now.service));
    }
    if before.is_none() && lines.is_empty() {
        lines.push(format!("= {} has no instances", now.service));
    }
    lines
}

fn instance_words(i: &Instance) -> String {
    let standing = match i.standing {
        Some(Standing::Held) => ", held by the guard",
        Some(Standing::Panic) => ", served since none is healthy",
        None => "",
    };
    let place = endpoint(i.address, i.port);
    format!("{place} {} on {} in {}: {}{standing}", i.id, i.node, i.zone, i.health)
}

fn moved(before: &Instance, now: &Instance) -> String {
    if before.health != now.health {
        let worst = now.checks.iter().find(|c| c.status != "passing");
        let why = worst.map(|c| format!(" ({}: {})", c.id, c.output)).unwrap_or_default();
        return format!(", was {}{why}", before.health);
    }
    if (before.address, before.port) != (now.address, now.port) {
        return format!(", was at {}", endpoint(before.address, before.port));
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use dunlin_api::{Guarded, Node, Provider, ServiceSummary};

    use super::*;

    fn instance(id: &str, health: &str) -> Instance {
        Instance {
            id: id.into(),
            node: "n1".into(),
            zone: "eu1".into(),
            address: "127.0.0.1".parse().unwrap(),
            port: 80,
            weight: 100,
            tags: vec![],
            meta: BTreeMap::new(),
            health: health.into(),
            standing: None,
            reason: None,
            checks: vec![],
        }
    }

    fn service(instances: Vec<Instance>) -> Service {
        Service { service: "web".into(), index: 1, guarded: false, instances }
    }

    #[test]
    fn services_stand_in_a_table() {
        let summary = ServiceSummary {
            service: "web".into(),
            index: 3,
            guarded: true,
            instances: 3,
            healthy: 2,
            health: [("critical".into(), 1), ("passing".into(), 2)].into(),
            zones: [("eu1".into(), 3)].into(),
        };
        let list = ServiceList { index: 3, services: vec![summary] };
        assert_eq!(
            services(&list).render(),
            "SERVICE  HEALTHY  HEALTH                 ZONES  GUARDED\n\
             web      2/3      critical 1, passing 2  eu1 3  yes"
        );
    }

    #[test]
    fn a_providers_problems_stand_beside_it() {
        let provider = Provider {
            provider: "file:web.toml".into(),
            instances: 1,
            error: Some("line 3: unknown field".into()),
            conflicts: vec!["web-1 (held by api:instances)".into()],
            changed: "2026-11-21T03:00:00Z".into(),
        };
        let list = ProviderList { providers: vec![provider] };
        assert_eq!(
            providers(&list).render(),
            "PROVIDER       INSTANCES  CHANGED               PROBLEM\n\
             file:web.toml  1          2026-11-21T03:00:00Z  line 3: unknown field; ids taken: web-1 \
             (held by api:instances)"
        );
    }

    #[test]
    fn nodes_and_guarded_services_stand_in_tables() {
        let node = Node {
            id: "0".repeat(32),
            name: "n1".into(),
            zone: "eu1".into(),
            address: "::1".parse().unwrap(),
            status: "alive".into(),
            draining: false,
            rtt_ms: None,
            head: 1,
            behind: None,
            instances: 2,
            this: true,
            meta: [("rack".into(), "r7".into())].into(),
        };
        let far = Node {
            name: "n2".into(),
            zone: "us1".into(),
            status: "suspect".into(),
            draining: true,
            rtt_ms: Some(81.26),
            behind: Some(3),
            this: false,
            meta: BTreeMap::new(),
            ..node.clone()
        };
        assert_eq!(
            nodes(&NodeList { nodes: vec![node, far] }).render(),
            "NODE       ZONE  ADDRESS  STATUS             RTT      BEHIND  INSTANCES  META\n\
             n1 (this)  eu1   ::1      alive                               2          rack=r7\n\
             n2         us1   ::1      suspect, draining  81.3 ms  3       2"
        );
        let guard =
            Guarded { service: "web".into(), since: "2026-11-21T03:00:00Z".into(), held: 4 };
        assert_eq!(
            guarded(&GuardList { guarded: vec![guard] }).render(),
            "SERVICE  SINCE                 HELD\nweb      2026-11-21T03:00:00Z  4"
        );
    }

    #[test]
    fn an_event_is_a_line() {
        let e = Event {
            id: 1,
            time: "2026-11-21T03:00:00Z".into(),
            kind: "HealthChanged".into(),
            node: "n1".into(),
            service: Some("web".into()),
            instance: Some("web-1".into()),
            provider: None,
            reason: "http: 500".into(),
        };
        assert_eq!(
            event(&e),
            "2026-11-21T03:00:00Z HealthChanged service=web instance=web-1: http: 500"
        );
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        assert_eq!(endpoint("::1".parse().unwrap(), 80), "[::1]:80");
        assert_eq!(endpoint("10.0.0.5".parse().unwrap(), 80), "10.0.0.5:80");
    }

    #[test]
    fn a_watch_tells_what_came_went_and_changed() {
        let first = service(vec![instance("a", "passing"), instance("b", "passing")]);
        assert_eq!(
            changes(None, &first),
            [
                "+ web 127.0.0.1:80 a on n1 in eu1: passing",
                "+ web 127.0.0.1:80 b on n1 in eu1: passing"
            ]
        );
        let mut second = service(vec![instance("b", "critical"), instance("c", "passing")]);
        second.guarded = true;
        assert_eq!(
            changes(Some(&first), &second),
            [
                "- web 127.0.0.1:80 a on n1 in eu1: passing",
                "~ web 127.0.0.1:80 b on n1 in eu1: critical, was passing",
                "+ web 127.0.0.1:80 c on n1 in eu1: passing",
                "! web guarded",
            ]
        );
        assert!(changes(Some(&second), &second).is_empty());
        assert_eq!(changes(None, &service(vec![])), ["= web has no instances"]);
    }
}
