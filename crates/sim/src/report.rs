//! docs/scaling.md with its two plots, and how they are made.

mod plot;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use plot::{Line, Plot};

use crate::scale::{Scale, measure};

/// The sizes that are shown.
pub const SIZES: [usize; 5] = [10, 100, 1_000, 2_000, 10_000];
const TARGET_OCTETS: f64 = 8.0 * 1024.0;

/// Measures clusters of these sizes and writes the page and its plots into a folder. `told` is called after each.
///
/// # Errors
/// When a file cannot be written.
pub fn write_report(
    folder: &Path,
    sizes: &[usize],
    rounds: usize,
    command: &str,
    mut told: impl FnMut(&Scale),
) -> io::Result<()> {
    let mut scales = Vec::new();
    for nodes in sizes {
        let scale = measure(*nodes, rounds, 1, false);
        told(&scale);
        scales.push(scale);
    }
    std::fs::write(folder.join("scaling-propagation.svg"), propagation(&scales))?;
    std::fs::write(folder.join("scaling-traffic.svg"), traffic(&scales))?;
    std::fs::write(folder.join("scaling.md"), page(&scales, rounds, command))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn propagation(scales: &[Scale]) -> String {
    let line = |name, color, value: fn(&Scale) -> Duration| Line {
        name,
        color,
        points: scales.iter().map(|s| (s.nodes as f64, millis(value(s)))).collect(),
    };
    Plot {
        title: "Time until nodes show a change",
        unit: "milliseconds",
        limit: Some((1_000.0, "target: urgent news everywhere within 1 s")),
        lines: vec![
            line("urgent, 99 % of nodes", "#b3261e", |s| s.urgent.to_most),
            line("urgent, all nodes (worst)", "#e58a84", |s| s.urgent.to_all),
            line("normal, 99 % of nodes", "#1f5fa8", |s| s.normal.to_most),
            line("normal, all nodes (worst)", "#86aedb", |s| s.normal.to_all),
        ],
    }
    .render()
}

fn traffic(scales: &[Scale]) -> String {
    let points = scales.iter().map(|s| (s.nodes as f64, s.idle_octets)).collect();
    Plot {
        title: "What one node of a calm cluster sends",
        unit: "octets per second",
        limit: Some((TARGET_OCTETS, "target: 8 KiB/s")),
        lines: vec![Line { name: "sent per node", color: "#1f5fa8", points }],
    }
    .render()
}

fn page(scales: &[Scale], rounds: usize, command: &str) -> String {
    let mut page = String::from(HEAD);
    let sizes: Vec<String> = scales.iter().map(|scale| scale.nodes.to_string()).collect();
    let _ = write!(
        page,
        "Made by `{command}`. Sizes that were run: {}. Each row is of {rounds} urgent and {rounds} normal changes, \
         one after the other: the median until 99 % of the nodes show it, and the slowest of all until the last does.\n\n",
        sizes.join(", ")
    );
    page.push_str(
        "| nodes | urgent, 99 % | urgent, all | normal, 99 % | normal, all | packets per urgent change and node | \
         frames per change and node |\n|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for scale in scales {
        let nodes = scale.nodes as f64;
        let _ = writeln!(
            page,
            "| {} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.1} | {:.1} |",
            scale.nodes,
            millis(scale.urgent.to_most),
            millis(scale.urgent.to_all),
            millis(scale.normal.to_most),
            millis(scale.normal.to_all),
            scale.urgent.datagrams / nodes,
            scale.normal.frames / nodes,
        );
    }
    page.push_str(
        "\n![Time until nodes show a change](scaling-propagation.svg)\n\n## A calm cluster\n\n",
    );
    page.push_str("| nodes | links | packets/s | frames/s | octets/s |\n|--:|--:|--:|--:|--:|\n");
    for scale in scales {
        let _ = writeln!(
            page,
            "| {} | {:.1} | {:.1} | {:.1} | {:.0} |",
            scale.nodes, scale.links, scale.idle_datagrams, scale.idle_frames, scale.idle_octets,
        );
    }
    page.push_str("\n![What one node of a calm cluster sends](scaling-traffic.svg)\n");
    page.push_str(TAIL);
    page
}

const HEAD: &str = "\
# Scaling

How long news travels and what a calm cluster costs, in simulated clusters: the agent's own engine without catalog,
guard and checks (`Host::bare`), on a virtual network. An urgent change drains an instance, a normal one registers it.
Simulated nodes ping the members they have links to every 5 s, agents every second: an agent sends 14 to 18 packets of
some 80 octets more each second.

Zones have 200 nodes; a packet takes 1 ms within a zone and 80 ms between zones, up to a tenth more by chance; 1 % of
the packets are lost, and streams repeat what was lost. Time includes the writer's disk (0.5 to 4.5 ms) and not the
processors' work.

";

const TAIL: &str = "
Octets are what is sent, with everything around it: 62 octets for each packet (IP, UDP, the seal), and 142 for each
1,400 octets of a frame (IP, TCP, the TLS record, the acknowledgement).

Every node holds every other's rows and who it is, as it must: ten thousand of them are a hundred million pairs. The
simulated replicas share what none of them has changed. Even so, ten thousand nodes take more than 24 GB: a machine with
less ends the run before the page is written.
";
