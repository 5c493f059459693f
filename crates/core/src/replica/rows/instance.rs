//! The row of an instance.

use std::sync::Arc;

use super::{Kind, RowDecoder, RowKey, RowProblem};
use crate::fields::{FieldReader, FieldWriter};
use crate::model::{Instance, Mode, Profile};

impl Kind for Instance {
    const OCTET: u8 = 1;
    /// The instance can no longer be used.
    const IS_BAD_NEWS_WHEN_GONE: bool = true;

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { id, service, address, port, weight, profile } = self;
        let Profile { tags, meta, provider, mode } = &**profile;
        let first = (id, service, address, port, weight, tags, meta, provider, mode);
        FieldWriter::new(out, &first).finish();
    }

    fn decode<'a>(
        octets: &'a [u8],
        key: &RowKey,
        decoder: &mut RowDecoder,
    ) -> Result<(Arc<Self>, &'a [u8]), RowProblem> {
        let (first, appended) = FieldReader::new(octets)?;
        let (id, service, address, port, weight, tags, meta, provider, mode) = first;
        let profile = Arc::new(Profile { tags, meta, provider, mode });
        let mut instance = Self { id, service, address, port, weight, profile };
        share(&mut instance, key, decoder.last_instance.as_deref());
        let instance = Arc::new(instance);
        decoder.last_instance = Some(Arc::clone(&instance));
        Ok((instance, appended.rest()))
    }

    fn approx_size(&self) -> usize {
        self.approx_octets()
    }

    /// The instance is being drained, or an operator took it out of answers.
    fn is_bad_news(&self) -> bool {
        self.profile.mode != Mode::Active
    }

    fn fits(&self, key: &RowKey) -> bool {
        matches!(key, RowKey::Instance(id) if *id == self.id)
    }
}

/// Lets an instance have its texts in common with its key and with the last instance that was read.
fn share(instance: &mut Instance, key: &RowKey, last: Option<&Instance>) {
    fn adopt<T: PartialEq + Clone>(value: &mut T, other: &T) {
        if value == other {
            value.clone_from(other);
        }
    }
    if let RowKey::Instance(id) = key {
        adopt(&mut instance.id, id);
    }
    if let Some(last) = last {
        adopt(&mut instance.service, &last.service);
        adopt(&mut instance.profile, &last.profile);
        // Unless the whole profile is shared, parts of it may be.
        if let Some(profile) = Arc::get_mut(&mut instance.profile) {
            adopt(&mut profile.provider, &last.profile.provider);
            adopt(&mut profile.tags, &last.profile.tags);
            adopt(&mut profile.meta, &last.profile.meta);
        }
    }
}
