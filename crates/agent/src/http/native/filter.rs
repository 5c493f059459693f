//! The instances of a service that a client wants.

use dunlin_core::catalog::{Endpoint, ServiceView};
use dunlin_core::model::{Health, ZoneName, limits};

use super::problem::Problem;

/// The health that a client wants instances to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum WantedHealth {
    /// Instances that answers hold: healthy ones, and those that guard or panic mode put there.
    #[default]
    Healthy,
    /// Instances without any complaint.
    Passing,
    /// All instances that are registered.
    Any,
}

/// The instances that a client wants. The default is what lookups answer: all healthy ones of all zones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Filter {
    /// One zone alone, or all zones.
    pub(super) zone: Option<ZoneName>,
    /// Instances of this health.
    pub(super) wanted: WantedHealth,
    /// The greatest number of instances, nearest first.
    pub(super) limit: Option<usize>,
    /// Tags that an instance must have, sorted.
    tags: Vec<String>,
}

impl Filter {
    pub(super) fn add_tag(&mut self, tag: &str) -> Result<(), Problem> {
        if self.tags.len() == limits::MAX_TAGS {
            return Err(Problem::bad(format!("query: more than {} tags", limits::MAX_TAGS)));
        }
        // Sorted, so that the same wish in another order finds the same cached encoding.
        if let Err(at) = self.tags.binary_search_by(|t| t.as_str().cmp(tag)) {
            self.tags.insert(at, tag.to_owned());
        }
        Ok(())
    }

    /// The endpoints of a service that are wanted, nearest first.
    pub(super) fn of<'a>(&'a self, service: &'a ServiceView) -> impl Iterator<Item = &'a Endpoint> {
        let wanted = service.endpoints.iter().filter(|e| self.wants(e));
        wanted.take(self.limit.unwrap_or(usize::MAX))
    }

    fn wants(&self, endpoint: &Endpoint) -> bool {
        let by_health = match self.wanted {
            WantedHealth::Healthy => endpoint.is_answered(),
            WantedHealth::Passing => endpoint.health == Health::Passing,
            WantedHealth::Any => true,
        };
        let tags = &endpoint.instance.profile.tags;
        by_health
            && self.zone.as_ref().is_none_or(|zone| *zone == endpoint.node.zone)
            && self.tags.iter().all(|wish| tags.iter().any(|tag| **tag == **wish))
    }
}
