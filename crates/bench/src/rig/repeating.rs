//! A thread that does one thing again and again until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// A running thread and what it works on.
pub struct Repeating<T> {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<T>>,
}

impl<T: Send + 'static> Repeating<T> {
    /// Calls `act` at a steady interval, without any pause if that is zero. Time that `act` takes too long is made up
    /// for. The first error ends the thread.
    pub fn start(
        mut state: T,
        interval: Duration,
        mut act: impl FnMut(&mut T) -> Result<()> + Send + 'static,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !flag.load(Ordering::Relaxed) {
                act(&mut state)?;
                due += interval;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(state)
        });
        Self { is_over, thread }
    }

    /// Lets the thread end after what it is doing now, and does not wait for that.
    pub fn halt(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Ends the thread and returns what it worked on.
    ///
    /// # Errors
    /// If `act` failed or panicked.
    pub fn stop(self) -> Result<T> {
        self.halt();
        self.thread.join().map_err(|_| anyhow!("a thread of the load generator panicked"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_works_until_it_is_stopped_and_returns_what_it_worked_on() {
        let (sender, acted) = std::sync::mpsc::sync_channel(1);
        let counting = Repeating::start(0_u32, Duration::ZERO, move |count| {
            *count += 1;
            // The receiver takes one message and no more.
            let _ = sender.try_send(());
            Ok(())
        });
        acted.recv().unwrap();
        assert!(counting.stop().unwrap() > 0);
    }

    #[test]
    fn an_error_ends_the_thread() {
        let (sender, acted) = std::sync::mpsc::sync_channel(1);
        let failing = Repeating::start((), Duration::ZERO, move |()| {
            sender.try_send(())?;
            Err(anyhow!("no"))
        });
        // A thread that is stopped before it has begun does nothing, and so does not fail.
        acted.recv().unwrap();
        assert_eq!(failing.stop().unwrap_err().to_string(), "no");
    }
}
