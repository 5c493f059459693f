//! `dunlin services`

use anyhow::Result;
use dunlin_api::ServiceList;

use crate::context::Context;
use crate::failure::DONE;
use crate::render;

pub(crate) async fn services(context: &Context) -> Result<u8> {
    let list: ServiceList = context.agent().get("/api/services").await?;
    context.out.list(&list, &render::services(&list), "No services are registered.");
    Ok(DONE)
}
