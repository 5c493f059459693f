//! Datagrams in batches, which cost the fewest system calls: a load generator must cost less than what it measures.
//!
//! This is the only module of the crate that makes system calls itself, since rustix sends batches but receives none.
//! Every pointer that is passed to the kernel is made right before the call, from a buffer that lives beyond the call,
//! and with the length of that buffer.
#![allow(
    unsafe_code,
    reason = "std has no batched datagram calls; this module is small and audited"
)]

use std::io;
use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use libc::{c_uint, iovec, mmsghdr, sockaddr_storage, socklen_t};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

/// The most datagrams that one call sends or receives.
pub const MAX_BATCH: usize = 32;
/// Octets of the longest answer that is asked for.
const MAX_PACKET_OCTETS: usize = 4096;
const RECEIVE_BUFFER_OCTETS: usize = 4 << 20;

/// Datagrams that came together, and the addresses that they came from.
pub struct Batch {
    packets: Box<[[u8; MAX_PACKET_OCTETS]]>,
    lengths: [usize; MAX_BATCH],
    peers: [sockaddr_storage; MAX_BATCH],
    peer_lengths: [socklen_t; MAX_BATCH],
    count: usize,
}

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: all zeroes is a valid `sockaddr_storage`: integers and arrays of integers.
        let nobody = unsafe { MaybeUninit::<sockaddr_storage>::zeroed().assume_init() };
        Self {
            packets: vec![[0; MAX_PACKET_OCTETS]; MAX_BATCH].into(),
            lengths: [0; MAX_BATCH],
            peers: [nobody; MAX_BATCH],
            peer_lengths: [0; MAX_BATCH],
            count: 0,
        }
    }
}

impl Batch {
    /// Takes what is there: waits for at least one datagram, or does not wait at all. Returns how many came.
    ///
    /// # Errors
    /// If the socket fails in another way than by having nothing to receive.
    pub fn receive(&mut self, socket: &UdpSocket, waits: bool) -> io::Result<usize> {
        let (mut vectors, mut headers) = empty();
        for (index, header) in headers.iter_mut().enumerate() {
            vectors[index].iov_base = self.packets[index].as_mut_ptr().cast();
            vectors[index].iov_len = MAX_PACKET_OCTETS;
            let message = &mut header.msg_hdr;
            message.msg_iov = &raw mut vectors[index];
            message.msg_iovlen = 1;
            if waits {
                // Only a server waits, and only a server has to know where the question came from.
                message.msg_name = (&raw mut self.peers[index]).cast();
                message.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            }
        }
        let flags = if waits { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: the descriptor is open while `socket` is borrowed. Every header points to a vector, a packet and
        // a peer in `vectors` and `self`, which live beyond the call, with the lengths given. No timeout is passed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MAX_BATCH as c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        self.count = 0;
        match usize::try_from(count) {
            Ok(count) => self.count = count.min(MAX_BATCH),
            Err(_) => none_yet(io::Error::last_os_error())?,
        }
        for (index, header) in headers.iter().take(self.count).enumerate() {
            self.lengths[index] = (header.msg_len as usize).min(MAX_PACKET_OCTETS);
            self.peer_lengths[index] = header.msg_hdr.msg_namelen;
        }
        Ok(self.count)
    }

    /// The datagrams that came with the last call.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.packets.iter().zip(self.lengths);
        all.take(self.count).map(|(packet, length)| &packet[..length])
    }

    /// Sends every datagram of the last batch, which must have been waited for, back to where it came from.
    ///
    /// # Errors
    /// If the socket fails in another way than by having no room.
    pub fn send_back(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let (mut vectors, mut headers) = empty();
        for (index, header) in headers.iter_mut().take(self.count).enumerate() {
            vectors[index].iov_base = self.packets[index].as_mut_ptr().cast();
            vectors[index].iov_len = self.lengths[index];
            let message = &mut header.msg_hdr;
            message.msg_iov = &raw mut vectors[index];
            message.msg_iovlen = 1;
            message.msg_name = (&raw mut self.peers[index]).cast();
            message.msg_namelen = self.peer_lengths[index];
        }
        send_all(socket, &mut headers[..self.count]).map(drop)
    }
}

/// Sends at most a batch of datagrams to where the socket is connected to. Returns how many were taken.
///
/// # Errors
/// If the socket fails in another way than by having no room.
pub fn send<'a>(socket: &UdpSocket, packets: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
    let (mut vectors, mut headers) = empty();
    let mut count = 0;
    for (packet, (vector, header)) in packets.zip(vectors.iter_mut().zip(&mut headers)) {
        vector.iov_base = packet.as_ptr().cast_mut().cast();
        vector.iov_len = packet.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    send_all(socket, &mut headers[..count])
}

/// Lets a socket hold all answers that may come at once, beyond the system's usual limit where that is allowed.
pub fn enlarge_receive_buffer(socket: &UdpSocket) -> io::Result<()> {
    set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_OCTETS)
        .or_else(|_| set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_OCTETS))
        .map_err(io::Error::from)
}

/// Every header must point to what lives until this returns.
fn send_all(socket: &UdpSocket, headers: &mut [mmsghdr]) -> io::Result<usize> {
    // SAFETY: the descriptor is open while `socket` is borrowed. Both callers made the headers in this very call of
    // theirs from packets, peers and vectors that they hold, with their lengths; the kernel only reads these.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as c_uint, 0)
    };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => none_yet(io::Error::last_os_error()).map(|()| 0),
    }
}

/// Passes over errors after which the caller tries again. The kernel also reports here that an earlier datagram found no
/// listener.
fn none_yet(error: io::Error) -> io::Result<()> {
    let expected =
        [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted, io::ErrorKind::ConnectionRefused];
    if expected.contains(&error.kind()) { Ok(()) } else { Err(error) }
}

fn empty() -> ([iovec; MAX_BATCH], [mmsghdr; MAX_BATCH]) {
    // SAFETY: all zeroes is a valid `mmsghdr`: null pointers, zero lengths, no flags.
    let headers = unsafe { MaybeUninit::<[mmsghdr; MAX_BATCH]>::zeroed().assume_init() };
    ([iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_BATCH], headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_a_batch_comes_back_from_an_echo() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        enlarge_receive_buffer(&client).unwrap();
        let words: [&[u8]; 3] = [b"one", b"two", b"three"];
        let (mut here, mut there) = (Batch::default(), Batch::default());
        assert_eq!(here.receive(&client, false).unwrap(), 0);
        assert_eq!(send(&client, words.into_iter()).unwrap(), 3);
        let mut seen = 0;
        while seen < 3 {
            seen += there.receive(&server, true).unwrap();
            there.send_back(&server).unwrap();
        }
        // Loopback delivers before a send returns.
        assert_eq!(here.receive(&client, false).unwrap(), 3);
        assert_eq!(here.packets().collect::<Vec<_>>(), words);
    }
}
