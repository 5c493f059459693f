//! What the standard library does not tell of the machine: by rustix where that knows it, else by libc, which is the only
//! unsafe code of the binary. rustix has no `getifaddrs`, sets no signal handlers and knows no allocator; the crate
//! `if-addrs` does not tell which interfaces are up.
#![allow(unsafe_code, reason = "libc calls; each block says why it is sound")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Signal, geteuid, getrlimit, kill_process, test_kill_process};
use rustix::system::uname;

/// The host's name as the kernel knows it.
pub(crate) fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Sends a signal to a process.
pub(crate) fn send_signal(process: u32, signal: i32) -> io::Result<()> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = process.ok_or(Errno::SRCH)?;
    match Signal::from_named_raw(signal) {
        Some(signal) => Ok(kill_process(process, signal)?),
        // Zero only asks whether the process is there (kill(2)).
        None if signal == 0 => Ok(test_kill_process(process)?),
        None => Err(Errno::INVAL.into()),
    }
}

/// Lets a read from the terminal fail while another program has it, instead of stopping this process.
pub(crate) fn fail_reads_in_background() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGTTIN, libc::SIG_IGN) };
}

/// Whether a read failed since another program has the terminal.
pub(crate) fn is_background_read(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

/// Octets free for this user on the file system of a path.
pub(crate) fn free_octets(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// How many files this process may have open; a limit that is not set is the highest number.
pub(crate) fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Addresses of interfaces that are up, in the system's order.
pub(crate) fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes the head of a list that we free below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: each entry of the list is valid until freeifaddrs; the last one's successor is null.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        let is_up = i32::try_from(entry.ifa_flags).is_ok_and(|f| f & libc::IFF_UP != 0);
        if is_up {
            // SAFETY: the kernel filled in the address that the entry points to, if any.
            addresses.extend(unsafe { address_of(entry.ifa_addr) });
        }
    }
    // SAFETY: the list came from getifaddrs and is not used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// Octets that the allocator may hold beyond those in use: freed memory that is soon used again.
#[cfg(target_env = "gnu")]
const MAX_SPARE_OCTETS: usize = 32 << 20;

/// Gives freed memory back to the system if the allocator holds much of it. glibc does so by itself only at the end of a
/// heap, so the memory that served ten thousand watches, or a newcomer, would stay with this process for ever. This takes
/// some milliseconds for each hundred megabytes.
#[cfg(target_env = "gnu")]
pub(crate) fn release_memory() {
    // SAFETY: reads counters of the allocator, under its own locks.
    let counted = unsafe { libc::mallinfo2() };
    let used = counted.uordblks.saturating_add(counted.hblkhd);
    if anonymous_memory().is_some_and(|resident| resident > used.saturating_add(MAX_SPARE_OCTETS)) {
        // SAFETY: touches only what is free, under the allocator's own locks.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Other allocators than glibc's give memory back themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn release_memory() {}

/// Resident octets of this process that no file stands behind (proc(5)).
#[cfg(target_env = "gnu")]
fn anonymous_memory() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}

/// # Safety
/// The pointer is null or points to a socket address of the size its family has.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: promised by the caller.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the family says which struct it is; libc aligns what it allocates.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_answers() {
        assert!(!host_name().is_empty());
        assert!(interface_addresses().unwrap().iter().any(IpAddr::is_loopback));
        assert!(open_files_limit() > 0);
        assert!(free_octets(Path::new("/")).is_ok());
        assert!(free_octets(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn signal_zero_only_asks_whether_the_process_is_there() {
        assert!(send_signal(std::process::id(), 0).is_ok());
        assert!(send_signal(u32::MAX, 0).is_err());
        assert!(send_signal(0, 0).is_err(), "the whole process group");
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn freed_memory_behind_what_is_in_use_is_given_back() {
        const PIECE: usize = 1 << 10;
        let mut pieces: Vec<Box<[u8; PIECE]>> =
            (0..128 << 10).map(|_| Box::new([1; PIECE])).collect();
        let full = anonymous_memory().unwrap();
        // What stays lies at the end of the heap, so that nothing goes by itself.
        let last = pieces.pop();
        drop(pieces);
        release_memory();
        let freed = full.saturating_sub(anonymous_memory().unwrap());
        assert!(freed > 64 << 20, "{freed} octets");
        drop(last);
    }
}
