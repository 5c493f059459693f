//! Datagrams in batches by `recvmmsg` and `sendmmsg`, with the local address that each was sent to.
//!
//! The one module of this crate that talks to the kernel by hand; nothing in it knows DNS. What always
//! holds: every pointer that is passed to the kernel is made right before the call from a buffer that
//! [`DatagramBatch`] owns, with that buffer's length, and is not kept after it.
#![allow(
    unsafe_code,
    reason = "std has no batched datagram calls; this module is small and audited"
)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use libc::{c_int, c_uint, iovec, mmsghdr, sockaddr_storage, socklen_t};

/// Datagrams of one call at most.
pub(super) const MAX_BATCH: usize = 32;
/// The longest question taken whole; a longer one is cut and so malformed.
const MAX_PACKET_OCTETS: usize = 4096;
/// Words for control data: one `in_pktinfo` or `in6_pktinfo` takes five, aligned.
const CONTROL_WORDS: usize = 8;

/// The buffers of one worker: a batch of datagrams, where each came from and which local address it
/// was sent to.
pub(super) struct DatagramBatch {
    packets: Box<[[u8; MAX_PACKET_OCTETS]]>,
    lengths: [usize; MAX_BATCH],
    peers: [sockaddr_storage; MAX_BATCH],
    peer_lengths: [socklen_t; MAX_BATCH],
    /// Control data as it came; sent back as it is, it makes the reply leave from the address that
    /// the question was sent to. `u64` for the alignment of `cmsghdr`.
    controls: [[u64; CONTROL_WORDS]; MAX_BATCH],
    control_lengths: [usize; MAX_BATCH],
    received: usize,
}

impl DatagramBatch {
    pub(super) fn new() -> Self {
        // SAFETY: all zeroes is a valid `sockaddr_storage`: integers and arrays of integers.
        let nobody = unsafe { MaybeUninit::<sockaddr_storage>::zeroed().assume_init() };
        Self {
            packets: vec![[0; MAX_PACKET_OCTETS]; MAX_BATCH].into(),
            lengths: [0; MAX_BATCH],
            peers: [nobody; MAX_BATCH],
            peer_lengths: [0; MAX_BATCH],
            controls: [[0; CONTROL_WORDS]; MAX_BATCH],
            control_lengths: [0; MAX_BATCH],
            received: 0,
        }
    }

    /// Waits for at least one datagram and takes those that are there, at most [`MAX_BATCH`].
    ///
    /// # Errors
    /// As the kernel says; `WouldBlock` when the socket's receive timeout has passed.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        let mut vectors = [EMPTY_VECTOR; MAX_BATCH];
        let mut headers = empty_headers();
        for (index, header) in headers.iter_mut().enumerate() {
            vectors[index] = iovec {
                iov_base: self.packets[index].as_mut_ptr().cast(),
                iov_len: MAX_PACKET_OCTETS,
            };
            let message = &mut header.msg_hdr;
            message.msg_iov = &raw mut vectors[index];
            message.msg_iovlen = 1;
            message.msg_name = (&raw mut self.peers[index]).cast();
            message.msg_namelen = socklen_of::<sockaddr_storage>();
            message.msg_control = self.controls[index].as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&self.controls[index]);
        }
        // SAFETY: the descriptor is open while `socket` is borrowed. Every header points to a vector,
        // a packet, a peer and a control buffer that live in `vectors` and `self` beyond the call, are
        // not otherwise borrowed, and have the lengths given. No timeout is passed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MAX_BATCH as c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let count = count.min(MAX_BATCH);
        for (index, header) in headers.iter().take(count).enumerate() {
            self.lengths[index] = (header.msg_len as usize).min(MAX_PACKET_OCTETS);
            self.peer_lengths[index] = header.msg_hdr.msg_namelen;
            let control = header.msg_hdr.msg_controllen;
            self.control_lengths[index] = control.min(size_of_val(&self.controls[index]));
        }
        self.received = count;
        Ok(count)
    }

    /// One datagram of the last batch.
    pub(super) fn packet(&self, index: usize) -> &[u8] {
        &self.packets[index][..self.lengths[index]]
    }

    /// The sender of a datagram; `None` for an address family that the sockets here do not have.
    pub(super) fn peer(&self, index: usize) -> Option<SocketAddr> {
        let peer = &self.peers[index];
        let family = c_int::from(peer.ss_family);
        let len = self.peer_lengths[index];
        if family == libc::AF_INET && len >= socklen_of::<libc::sockaddr_in>() {
            // SAFETY: the kernel wrote a `sockaddr_in` here, as family and length say;
            // `sockaddr_storage` is large enough and aligned for it.
            let v4 = unsafe { &*(&raw const *peer).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
            return Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)));
        }
        if family == libc::AF_INET6 && len >= socklen_of::<libc::sockaddr_in6>() {
            // SAFETY: as above, for `sockaddr_in6`.
            let v6 = unsafe { &*(&raw const *peer).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            let full = SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id);
            return Some(full.into());
        }
        None
    }

    /// Sends `replies[i]` to the sender of datagram `i` of the last batch, and skips empty replies. The call does not
    /// wait: replies that the socket or the network refuses are dropped. Returns how many were dropped.
    pub(super) fn send(&mut self, socket: &UdpSocket, replies: &[Vec<u8>]) -> usize {
        let mut vectors = [EMPTY_VECTOR; MAX_BATCH];
        let mut headers = empty_headers();
        let mut count = 0;
        for (index, reply) in replies.iter().take(self.received).enumerate() {
            if reply.is_empty() {
                continue;
            }
            vectors[count] =
                iovec { iov_base: reply.as_ptr().cast_mut().cast(), iov_len: reply.len() };
            let message = &mut headers[count].msg_hdr;
            message.msg_iov = &raw mut vectors[count];
            message.msg_iovlen = 1;
            message.msg_name = (&raw mut self.peers[index]).cast();
            message.msg_namelen = self.peer_lengths[index];
            if self.control_lengths[index] > 0 {
                message.msg_control = self.controls[index].as_mut_ptr().cast();
                message.msg_controllen = self.control_lengths[index];
            }
            count += 1;
        }
        let (mut at, mut dropped) = (0, 0);
        while at < count {
            let left = &mut headers[at..count];
            // SAFETY: the descriptor is open while `socket` is borrowed. Every header in `left` points
            // to a vector, a reply, a peer and control data that live beyond the call, with the lengths
            // given; the kernel only reads them (and writes `msg_len`, which is within `headers`).
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => at += sent,
                // The first of `left` cannot be sent, e.g. to port 0: go on with the others.
                Ok(_) | Err(_) => {
                    at += 1;
                    dropped += 1;
                }
            }
        }
        dropped
    }
}

/// Makes the kernel say which local address each datagram was sent to. This is only needed on a socket that is bound to
/// all addresses: there, a reply could otherwise leave from another address than the one that was asked.
///
/// # Errors
/// As the kernel says.
pub(super) fn announce_local_address(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()?.ip() {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: c_int = 1;
    // SAFETY: the descriptor is open while `socket` is borrowed; the option's value is an int that
    // lives beyond the call, with its length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            socklen_of::<c_int>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const EMPTY_VECTOR: iovec = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn empty_headers() -> [mmsghdr; MAX_BATCH] {
    // SAFETY: all zeroes is a valid `mmsghdr`: null pointers, zero lengths, no flags.
    unsafe { MaybeUninit::<[mmsghdr; MAX_BATCH]>::zeroed().assume_init() }
}

fn socklen_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("socket structures have some hundred octets at most")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair(listen: &str) -> (UdpSocket, UdpSocket) {
        let server = UdpSocket::bind(listen).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (server, client)
    }

    #[test]
    fn each_reply_goes_to_who_asked() {
        let (server, one) = pair("127.0.0.1:0");
        let two = UdpSocket::bind("127.0.0.1:0").unwrap();
        two.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let to = server.local_addr().unwrap();
        one.send_to(b"one", to).unwrap();
        two.send_to(b"two", to).unwrap();
        let mut batch = DatagramBatch::new();
        let mut seen = 0;
        while seen < 2 {
            let count = batch.receive(&server).unwrap();
            let replies: Vec<Vec<u8>> = (0..count)
                .map(|i| {
                    let from = batch.peer(i).unwrap();
                    let expected: &[u8] =
                        if from == one.local_addr().unwrap() { b"one" } else { b"two" };
                    assert_eq!(batch.packet(i), expected);
                    batch.packet(i).repeat(2)
                })
                .collect();
            assert_eq!(batch.send(&server, &replies), 0);
            seen += count;
        }
        let mut buffer = [0; 16];
        assert_eq!(one.recv(&mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"oneone");
        assert_eq!(two.recv(&mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"twotwo");
    }

    #[test]
    fn a_socket_on_all_addresses_answers_from_the_one_that_was_asked() {
        let (server, client) = pair("0.0.0.0:0");
        announce_local_address(&server).unwrap();
        let port = server.local_addr().unwrap().port();
        let asked = SocketAddr::from(([127, 0, 0, 77], port));
        client.send_to(b"x", asked).unwrap();
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&server).unwrap(), 1);
        assert_eq!(batch.send(&server, &[b"y".to_vec()]), 0);
        let mut buffer = [0; 16];
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (1, asked));
    }

    #[test]
    fn long_datagrams_are_cut_and_empty_replies_skipped() {
        let (server, client) = pair("127.0.0.1:0");
        let to = server.local_addr().unwrap();
        client.send_to(&[7; MAX_PACKET_OCTETS + 100], to).unwrap();
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&server).unwrap(), 1);
        assert_eq!(batch.packet(0), [7; MAX_PACKET_OCTETS]);
        assert_eq!(batch.send(&server, &[vec![]]), 0);
    }

    #[test]
    fn waiting_ends_with_the_receive_timeout() {
        let (server, _client) = pair("127.0.0.1:0");
        server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let error = DatagramBatch::new().receive(&server).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn ipv6_peers_are_read_too() {
        let Ok(server) = UdpSocket::bind("[::1]:0") else {
            return; // A host without IPv6 has nothing to read.
        };
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        let mut batch = DatagramBatch::new();
        assert_eq!(batch.receive(&server).unwrap(), 1);
        assert_eq!(batch.peer(0), Some(client.local_addr().unwrap()));
    }
}
