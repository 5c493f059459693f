//! Ctrl-C and SIGTERM, noted so that whoever waits can end in good order.
//!
//! One audited module that opts out of the ban on `unsafe`: the standard library has no signals.

#![allow(unsafe_code, reason = "signal(2); the block says why it is sound")]

use std::sync::atomic::{AtomicBool, Ordering};

static IS_WANTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    IS_WANTED.store(true, Ordering::Relaxed);
}

/// From now on signals are noted instead of ending this process.
pub(super) fn listen() {
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler does nothing but store an atomic, which is safe in a signal handler (signal-safety(7)).
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether somebody wants this process to end.
pub(super) fn is_wanted() -> bool {
    IS_WANTED.load(Ordering::Relaxed)
}
