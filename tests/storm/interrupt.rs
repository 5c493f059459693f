//! Ctrl-C and SIGTERM, noted so that whatever waits can end in good order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

static IS_WANTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on signals are noted instead of ending this process.
pub(super) fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        let noted = Arc::clone(&IS_WANTED);
        signal_hook::flag::register(signal, noted).context("signals cannot be listened to")?;
    }
    Ok(())
}

/// Whether somebody wants this process to end.
pub(super) fn is_wanted() -> bool {
    IS_WANTED.load(Ordering::Relaxed)
}
