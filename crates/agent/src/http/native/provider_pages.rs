//! Providers as JSON, each encoded once for each change of what is reported of it.
//!
//! A report looks at every instance that the provider states, which may be ten thousand.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use dunlin_api as api;
use dunlin_core::host::{MAX_PROVIDERS, Registry, Report};
use dunlin_core::model::{InstanceId, ProviderId};

/// The pages that were asked for, each with the revision that it shows.
#[derive(Debug, Default)]
pub(super) struct ProviderPages(Mutex<BTreeMap<ProviderId, (u64, Bytes)>>);

impl ProviderPages {
    /// One provider; `None` if there is none of this id.
    pub(super) fn one(&self, registry: &Registry, id: &ProviderId) -> Option<Bytes> {
        let revision = registry.revision_of(id)?;
        let known = self.lock().get(id).cloned();
        if let Some((_, page)) = known.filter(|(of, _)| *of == revision) {
            return Some(page);
        }
        let provider = provider(&registry.report_of(id)?);
        let page = Bytes::from(serde_json::to_vec(&provider).expect("plain data always encodes"));
        let mut pages = self.lock();
        if pages.len() >= MAX_PROVIDERS {
            pages.retain(|id, _| registry.revision_of(id).is_some());
        }
        pages.insert(id.clone(), (revision, page.clone()));
        Some(page)
    }

    /// All providers by name, as [`api::ProviderList`].
    pub(super) fn all(&self, registry: &Registry) -> Bytes {
        let mut ids: Vec<(String, &ProviderId)> =
            registry.providers().map(|(id, _)| (id.to_string(), id)).collect();
        ids.sort_unstable();
        let pages = ids.iter().filter_map(|(_, id)| self.one(registry, id));
        let mut list = b"{\"providers\":[".to_vec();
        for (at, page) in pages.enumerate() {
            if at > 0 {
                list.push(b',');
            }
            list.extend_from_slice(&page);
        }
        list.extend_from_slice(b"]}");
        list.into()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProviderId, (u64, Bytes)>> {
        // No code panics while holding it; if one did, the map would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn provider(report: &Report) -> api::Provider {
    let conflict = |(id, holder): &(InstanceId, ProviderId)| format!("{id} (held by {holder})");
    let taken_out = |id: &InstanceId| format!("{id} (taken out: critical for too long)");
    let conflicts = report.conflicts.iter().map(conflict);
    api::Provider {
        provider: report.provider.to_string(),
        instances: report.instances,
        error: report.error.clone(),
        conflicts: conflicts.chain(report.suppressed.iter().map(taken_out)).collect(),
        changed: report.changed.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::model::Timestamp;

    use super::*;
    use crate::providers::files::parse;

    fn state(registry: &mut Registry, provider: &ProviderId, ids: &[&str]) {
        let one = |id: &&str| format!("[[instance]]\nid = \"{id}\"\nservice = \"web\"\nport = 1\n");
        let text: String = ids.iter().map(one).collect();
        let address = [127, 0, 0, 1].into();
        let instances = parse("a.toml", text.as_bytes(), provider, address).unwrap();
        registry.state(Timestamp::default(), provider, instances, None).unwrap();
    }

    #[test]
    fn a_page_is_encoded_again_only_when_its_report_changes() {
        let provider = |text: &str| ProviderId::parse(text).unwrap();
        let (a, b, c) = (provider("http:a"), provider("http:b"), provider("http:c"));
        let (pages, mut registry) = (ProviderPages::default(), Registry::default());
        state(&mut registry, &a, &["1", "2"]);
        state(&mut registry, &b, &["2", "3"]);
        let page = |registry: &Registry, id| pages.one(registry, id).unwrap();
        let (first_a, first_b) = (page(&registry, &a), page(&registry, &b));
        let text = String::from_utf8(first_b.to_vec()).unwrap();
        assert!(text.contains("2 (held by http:a)"), "{text}");
        state(&mut registry, &c, &["4"]);
        assert_eq!(page(&registry, &a).as_ptr(), first_a.as_ptr());
        assert_eq!(page(&registry, &b).as_ptr(), first_b.as_ptr());
        // The id goes to the provider that waited for it, of which another waits in turn.
        state(&mut registry, &c, &["2", "4"]);
        state(&mut registry, &a, &["1"]);
        let text = |id| String::from_utf8(page(&registry, id).to_vec()).unwrap();
        assert!(text(&b).contains("\"instances\":2,") || text(&b).contains("\"instances\":2}"));
        assert!(!text(&b).contains("held by"));
        assert!(text(&c).contains("2 (held by http:b)"));
        let all: api::ProviderList = serde_json::from_slice(&pages.all(&registry)).unwrap();
        let names: Vec<_> = all.providers.iter().map(|p| p.provider.as_str()).collect();
        assert_eq!(names, ["http:a", "http:b", "http:c"]);
    }
}
