//! Answers about names that do not exist: one template for all of them that are equally long.
//!
//! There is no end of such names, so no cache could hold what was asked before. But all that their answers say is
//! that the domain exists: they differ only in the place of the domain within the question, which records refer to.

use super::answer::{Answer, Depends};
use super::query::{QuestionKey, Rcode};
use super::reading;
use super::record::{Builder, Owner};
use super::settings::Settings;
use crate::catalog::CatalogView;

/// The answer to a question for a name within the domain that does not exist.
#[must_use]
pub fn no_such_name(key: &QuestionKey, view: &CatalogView, settings: &Settings) -> Answer {
    let inner = reading::inside(key.name(), settings.domain.wire()).map(<[u8]>::len);
    let mut builder = Builder::new(settings, inner, &[]);
    builder.authority_soa(Owner::Domain, &view.topology().own_zone, serial(view));
    builder.finish(Rcode::NxDomain, Depends::Layout)
}

/// The SOA's serial: grows whenever names come or go, and wraps around (RFC 1982).
#[allow(clippy::cast_possible_truncation, reason = "serials are modulo 2^32")]
pub(super) fn serial(view: &CatalogView) -> u32 {
    view.layout_index() as u32
}

/// Such answers by the length of the question's name: at most as many as a name has octets.
#[derive(Debug, Default)]
pub struct AbsentNames {
    made: Vec<Option<Answer>>,
    /// [`CatalogView::layout_index`] when they were made.
    layout_index: u64,
}

impl AbsentNames {
    /// As [`no_such_name`]. The settings must be the same since the last [`clear`](Self::clear).
    pub fn answer(
        &mut self,
        key: &QuestionKey,
        view: &CatalogView,
        settings: &Settings,
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

    /// Forgets all, for other settings.
    pub fn clear(&mut self) {
        self.made.clear();
    }
}
