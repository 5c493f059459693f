//! Some time after healing, the checks of each host have seen its servers as they are, and every view shows what they
//! saw.

use std::time::Duration;

use dunlin_core::catalog::Endpoint;
use dunlin_core::model::CheckStatus;

use super::{Violation, live};
use crate::client::Client;
use crate::node::SimNode;

pub(super) fn check(now: Duration, nodes: &[SimNode], client: &Client) -> Result<(), Violation> {
    for node in live(nodes) {
        let Some(host) = node.host() else { continue };
        for endpoint in host.view().services().flat_map(|service| service.endpoints.iter()) {
            let on = live(nodes).find(|other| other.identity.id == endpoint.node_id);
            let Some(on) = on else { continue };
            let is_up = client.is_up(on.identity.index, &endpoint.instance.id);
            if let Some(problem) = problem(endpoint, is_up) {
                let what = format!(
                    "n{} shows of {:?} that {problem}; it answers: {is_up}",
                    node.identity.index,
                    endpoint.key()
                );
                return Err(Violation::new("health", now, what));
            }
        }
    }
    Ok(())
}

/// What is wrong with what a check of a server says.
fn problem(endpoint: &Endpoint, is_up: bool) -> Option<String> {
    let (_, row) = endpoint.checks.iter().find(|(id, _)| id.as_str() == "tcp")?;
    let is_held = row.output.starts_with("held critical");
    let is_right = (row.status == CheckStatus::Passing) == is_up;
    let is_excused = is_up && is_held;
    (!is_right && !is_excused).then(|| format!("{:?}: {}", row.status, row.output))
}
