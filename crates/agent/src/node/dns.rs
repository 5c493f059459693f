//! The DNS server as a part of the node.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use dunlin_core::dns::{DnsSettings, Domain};
use tokio::sync::watch;

use super::foundation::Foundation;
use super::parts::{Part, Phase};
use super::{NodeError, NodeSettings};
use crate::dns::{Limits, Listeners, RateLimit, Server, bind, default_workers};
use crate::observe;

/// Binds the sockets, unless systemd has. `None` if DNS is switched off.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) fn prepare(
    settings: &NodeSettings,
    mut udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
) -> Result<Option<Listeners>, NodeError> {
    let config = &settings.config.dns;
    if !config.enabled {
        return Ok(None);
    }
    let workers = config.workers.map_or_else(default_workers, usize::from);
    if udp.is_empty() && tcp.is_empty() {
        return Ok(Some(bind(config.listen, workers)?));
    }
    // Workers take turns at the one socket that systemd has bound.
    if let [first] = &udp[..] {
        let clones = (1..workers).map(|_| first.try_clone()).collect::<Result<Vec<_>, _>>()?;
        udp.extend(clones);
    }
    Ok(Some(Listeners { udp, tcp }))
}

/// Starts the server. It ends last, since other programs on the host wait for its answers.
///
/// # Errors
/// When a socket cannot be set up, a thread cannot be started, or the domain cannot be served.
pub(super) fn start(base: &Foundation, listeners: Listeners) -> Result<Part, NodeError> {
    let mut settings = dns_settings(&base.settings)?;
    let config = &base.settings.config.dns;
    let rate_limit = (config.rate_limit > 0).then_some(RateLimit {
        replies_per_second: config.rate_limit,
        slip: config.rate_limit_slip,
    });
    let limits = Limits { rate_limit, ..Limits::default() };
    let view = Arc::clone(&base.shared.view);
    let server = Server::start(listeners, settings.clone(), limits, view)?;
    base.observer.collect(observe::Dns::new(server.stats()));
    let mut part = Part::new("dns", Phase::Last);
    let (ttl, mut ttls) = watch::channel(settings.ttl);
    part.on_reload(move |new| _ = ttl.send_replace(new.dns_ttl));
    let stop = part.stop.clone();
    part.tasks.spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(ttls.changed()).await {
            settings.ttl = *ttls.borrow_and_update();
            server.reload(settings.clone());
        }
        server.shutdown().await;
    });
    Ok(part)
}

fn dns_settings(settings: &NodeSettings) -> Result<DnsSettings, NodeError> {
    let config = &settings.config.dns;
    let domain = Domain::parse(config.domain.as_str())
        .map_err(|_| NodeError::Domain(config.domain.as_str().to_owned()))?;
    let mut dns = DnsSettings::new(domain, settings.name.clone());
    dns.ttl = config.ttl;
    dns.udp_payload = config.udp_payload;
    dns.upstreams = config.upstreams.clone();
    Ok(dns)
}
