//! A server that sends the same answer to every request, with a thread for each connection. Any other server needs at
//! least its time, which the kernel and the machine take.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::{fs, thread};

use anyhow::{Context, Result};

/// The octets of one read, into which any request of a bench fits.
const MAX_REQUEST: usize = 4096;

/// Serves until it is killed, with a thread for each connection.
pub(crate) fn serve(listen: SocketAddr, answer: &Path) -> Result<()> {
    let answer = fs::read(answer).with_context(|| format!("cannot read {}", answer.display()))?;
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot use {listen}"))?;
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let (stream, answer) = (stream?, &answer);
            scope.spawn(move || answer_all(stream, answer));
        }
        Ok(())
    })
}

/// Answers until the connection ends.
fn answer_all(mut stream: TcpStream, answer: &[u8]) {
    let mut request = [0; MAX_REQUEST];
    while let Ok(octets) = stream.read(&mut request)
        && octets > 0
        && stream.write_all(answer).is_ok()
    {}
}
