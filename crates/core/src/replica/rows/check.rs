//! The row of a check: its last status.

use std::sync::Arc;

use super::{Kind, RowDecoder, RowKey, RowProblem};
use crate::fields::{FieldReader, FieldWriter};
use crate::model::{CheckRow, CheckStatus};

impl Kind for CheckRow {
    const OCTET: u8 = 2;
    /// An instance with one check fewer is at most healthier.
    const IS_BAD_NEWS_WHEN_GONE: bool = false;

    fn encode(&self, out: &mut Vec<u8>) {
        let Self { status, output, since, has_worked } = self;
        FieldWriter::new(out, &(status, output, since, has_worked)).finish();
    }

    fn decode<'a>(
        octets: &'a [u8],
        _key: &RowKey,
        _decoder: &mut RowDecoder,
    ) -> Result<(Arc<Self>, &'a [u8]), RowProblem> {
        let ((status, output, since, has_worked), appended) = FieldReader::new(octets)?;
        let check = Self { status, output, since, has_worked };
        Ok((Arc::new(check), appended.rest()))
    }

    fn approx_size(&self) -> usize {
        self.output.len() + 16
    }

    /// The check failed. One that has not run yet says nothing that anybody could have relied on.
    fn is_bad_news(&self) -> bool {
        self.status == CheckStatus::Critical && !self.is_unproven()
    }
}
