//! What every kind of row says of itself.

use std::sync::Arc;

use super::{RowDecoder, RowKey, RowProblem};

/// A kind of row, implemented by what its rows hold.
pub(super) trait Kind: Sized {
    /// The first octet of keys and rows of this kind. It is never given to another kind.
    const OCTET: u8;

    /// Whether it is bad news that a row of this kind is gone, see [`Kind::is_bad_news`].
    const IS_BAD_NEWS_WHEN_GONE: bool;

    /// Appends the fields of the row. They grow by the rules of [`crate::fields`] alone.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads the fields of the row with this key, and returns the octets behind those that are known. The decoder holds
    /// what rows of this kind may share with earlier ones.
    ///
    /// # Errors
    /// When the fields of the first version are not all there, or the octets are malformed.
    fn decode<'a>(
        octets: &'a [u8],
        key: &RowKey,
        decoder: &mut RowDecoder,
    ) -> Result<(Arc<Self>, &'a [u8]), RowProblem>;

    /// About how many octets the row has when it is encoded.
    fn approx_size(&self) -> usize;

    /// Whether the row says that something must not be used any longer. Commits with bad news are urgent: they travel in
    /// datagrams, ahead of everything else.
    fn is_bad_news(&self) -> bool;

    /// Whether the row does not contradict its key, which is of this kind.
    fn fits(&self, _key: &RowKey) -> bool {
        true
    }
}
