//! SIGINT and SIGTERM, which are noted so that threads that wait can end gracefully.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

static IS_WANTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Notes signals from now on, instead of letting them end this process.
pub(super) fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        let noted = Arc::clone(&IS_WANTED);
        signal_hook::flag::register(signal, noted).context("signals cannot be listened to")?;
    }
    Ok(())
}

/// Whether a signal to end has come.
pub(super) fn is_wanted() -> bool {
    IS_WANTED.load(Ordering::Relaxed)
}
