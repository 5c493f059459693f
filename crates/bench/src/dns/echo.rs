//! A bare UDP echo: what any server pays at least.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use super::datagrams::Batch;

/// Serves until it is killed.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let mut batch = Batch::new();
    loop {
        batch.receive(&socket, true)?;
        batch.send_back(&socket)?;
    }
}
