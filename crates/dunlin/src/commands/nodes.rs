//! `dunlin nodes`

use anyhow::Result;
use dunlin_api::NodeList;

use crate::context::Context;
use crate::failure::DONE;
use crate::render;

pub(crate) async fn nodes(context: &Context) -> Result<u8> {
    let list: NodeList = context.agent().get("/api/nodes").await?;
    context.out.list(&list, &render::nodes(&list), "No nodes are known.");
    Ok(DONE)
}
