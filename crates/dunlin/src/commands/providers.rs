//! `dunlin providers`

use anyhow::Result;
use dunlin_api::ProviderList;

use crate::context::Context;
use crate::failure::{DONE, NOT_FOUND};
use crate::render;

/// Ends with exit code 1 when a provider is in trouble, so that a script can watch for it.
pub(crate) async fn providers(context: &Context) -> Result<u8> {
    let list: ProviderList = context.agent().get("/api/providers").await?;
    let empty = "Nothing states instances on this host.";
    context.out.list(&list, &render::providers(&list), empty);
    let is_troubled = list.providers.iter().any(|p| p.error.is_some() || !p.conflicts.is_empty());
    Ok(if is_troubled { NOT_FOUND } else { DONE })
}
