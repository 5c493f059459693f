//! How fast the machine itself is at the moment. This is a floor under every figure, and shows whether other programs keep
//! the machine busy.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::finding::spread;

const SAMPLES: usize = 200;
/// A page, which is the least that a commit writes to SQLite's log.
const PAGE: [u8; 4_096] = [7; 4_096];

/// Measures an echo over TCP between two threads, and how long it takes to sync a page of a file whose blocks are
/// allocated already, as those of SQLite's log are. Both are measured with the pauses that a probe makes.
pub fn floor(target: &Path) -> Result<String> {
    let (echo, disk) = (echo()?, sync(&target.join("bench-control"))?);
    Ok(format!("control: TCP echo {}; write and sync 4 KiB {}", spread(&echo), spread(&disk)))
}

fn echo() -> Result<Vec<Duration>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    let server = thread::spawn(move || -> Result<()> {
        let mut octet = [0];
        while far.read(&mut octet)? > 0 {
            far.write_all(&octet)?;
        }
        Ok(())
    });
    let samples = sample(|| {
        near.write_all(&[1])?;
        Ok(near.read_exact(&mut [0])?)
    })?;
    drop(near);
    server.join().map_err(|_| anyhow!("the echo panicked"))??;
    Ok(samples)
}

fn sync(path: &Path) -> Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    file.write_all(&[1; PAGE.len() * SAMPLES])?;
    file.sync_all()?;
    file.rewind()?;
    let samples = sample(|| {
        file.write_all(&PAGE)?;
        Ok(file.sync_data()?)
    });
    fs::remove_file(path)?;
    samples
}

fn sample(mut once: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        once()?;
        samples.push(start.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    Ok(samples)
}
