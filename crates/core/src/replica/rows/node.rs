//! The row of a node itself.

use std::sync::Arc;

use super::{Kind, RowDecoder, RowKey, RowProblem};
use crate::fields::{FieldReader, FieldWriter};
use crate::model::{NodePhase, NodeRow};

impl Kind for NodeRow {
    const OCTET: u8 = 0;
    /// Nothing of the node can be used any more.
    const IS_BAD_NEWS_WHEN_GONE: bool = true;

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { name, zone, address, serves_dns, meta, phase } = self;
        FieldWriter::new(out, &(name, zone, address, serves_dns, meta, phase)).finish();
    }

    fn decode<'a>(
        octets: &'a [u8],
        _key: &RowKey,
        _decoder: &mut RowDecoder,
    ) -> Result<(Arc<Self>, &'a [u8]), RowProblem> {
        let ((name, zone, address, serves_dns, meta, phase), appended) = FieldReader::new(octets)?;
        let node = Self { name, zone, address, serves_dns, meta, phase };
        Ok((Arc::new(node), appended.rest()))
    }

    fn approx_size(&self) -> usize {
        let meta: usize = self.meta.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
        self.name.as_str().len() + self.zone.as_str().len() + 24 + meta
    }

    /// The node is being drained, or has left.
    fn is_bad_news(&self) -> bool {
        self.phase != NodePhase::Active
    }
}
