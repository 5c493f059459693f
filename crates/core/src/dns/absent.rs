//! Answers about names that do not exist: one template for all names of the same length.
//!
//! The number of these names is unbounded, so no cache could hold the answers. But all that the answers contain is the
//! domain's SOA record. They differ only in the position of the domain within the question, to which the record refers.

use super::answer::{Answer, Depends};
use super::query::{QuestionKey, Rcode};
use super::reading;
use super::record::{Builder, Owner};
use super::settings::DnsSettings;
use crate::catalog::CatalogView;

/// The answer to a question for a name within the domain that does not exist.
#[must_use]
pub fn no_such_name(key: &QuestionKey, view: &CatalogView, settings: &DnsSettings) -> Answer {
    let inner = reading::inside(key.name(), settings.domain.wire()).map(<[u8]>::len);
    let mut builder = Builder::new(settings, inner, &[]);
    builder.authority_soa(Owner::Domain, &view.topology().own_zone, serial(view));
    builder.finish(Rcode::NxDomain, Depends::Layout)
}

/// The serial of the SOA record, which grows whenever a name is added or removed, and wraps around (RFC 1982).
#[allow(clippy::cast_possible_truncation, reason = "serials are modulo 2^32")]
pub(super) fn serial(view: &CatalogView) -> u32 {
    view.layout_index() as u32
}

/// The answers about names that do not exist, by the length of the name. There are at most as many as a name has octets.
#[derive(Debug, Default)]
pub struct AbsentNames {
    made: Vec<Option<Answer>>,
    /// The [`CatalogView::layout_index`] for which they were made.
    layout_index: u64,
}

impl AbsentNames {
    /// The answer of [`no_such_name`]. The settings must not change without a call of [`clear`](Self::clear).
    pub fn answer(
        &mut self,
        key: &QuestionKey,
        view: &CatalogView,
        settings: &DnsSettings,
    ) -> &Answer {
        if self.layout_index != view.layout_index() {
            self.clear();
            self.layout_index = view.layout_index();
        }
        let at = key.name().len();
        if at >= self.made.len() {
            self.made.resize_with(at + 1, || None);
        }
        self.made[at].get_or_insert_with(|| no_such_name(key, view, settings))
    }

    /// Removes all answers, because the settings have changed.
    pub fn clear(&mut self) {
        self.made.clear();
    }
}
