//! A bare UDP echo, whose cost is a part of that of any server.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use dunlin_bench::rig::datagrams::Batch;

/// Serves until it is killed.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let mut batch = Batch::default();
    loop {
        batch.receive(&socket, true)?;
        batch.send_back(&socket)?;
    }
}
