//! The services folder as a part of the node.

use tokio::sync::mpsc;

use super::foundation::Foundation;
use super::parts::{Part, Phase};
use crate::handle::Handle;
use crate::providers::files::ServicesFolder;

/// Watches the services folder. Returns when the folder was read for the first time.
pub(super) async fn start(base: &Foundation, handle: &Handle) -> Part {
    let mut part = Part::new("services folder", Phase::Second);
    let (dir, address) = (base.settings.config.providers.dir.clone(), base.settings.address);
    let mut folder = ServicesFolder::new(dir, address, handle.clone());
    // An error means that the driver has stopped, which the driver says itself.
    let _ = folder.scan().await;
    let (rescan, rescans) = mpsc::channel(1);
    part.tasks.spawn(folder.watch(part.stop.clone(), rescans));
    // The queue is full only if a scan is due already.
    part.on_reload(move |_| _ = rescan.try_send(()));
    part
}
