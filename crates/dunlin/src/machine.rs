//! What the standard library does not tell of the machine, from libc: the only unsafe code of the binary.
#![allow(unsafe_code, reason = "libc calls; each block says why it is sound")]

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The host's name as the kernel knows it.
pub(crate) fn host_name() -> io::Result<String> {
    let mut buffer = [0_u8; 256];
    // SAFETY: the buffer is writable for the length given, one less than it has, so a NUL remains.
    let result = unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(buffer.len());
    Ok(String::from_utf8_lossy(&buffer[..end]).into_owned())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // SAFETY: reads one number; cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends a signal to a process.
pub(crate) fn send_signal(process: u32, signal: i32) -> io::Result<()> {
    let process = libc::pid_t::try_from(process).map_err(io::Error::other)?;
    // SAFETY: touches no memory of ours.
    if unsafe { libc::kill(process, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets a read from the terminal fail while another program has it, instead of stopping this process.
pub(crate) fn fail_reads_in_background() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGTTIN, libc::SIG_IGN) };
}

/// Whether a read failed since another program has the terminal.
pub(crate) fn is_background_read(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Octets free for this user on the file system of a path.
pub(crate) fn free_octets(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is a valid value of it; it is plain numbers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with NUL and both outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// How many files this process may have open.
pub(crate) fn open_files_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is writable and outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
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

/// What the allocator may hold beyond what is in use, in octets: freed memory that is soon used again.
#[cfg(target_env = "gnu")]
const SPARE: usize = 32 << 20;

/// Gives freed memory back to the system where the allocator holds much of it. glibc does so by itself only at the
/// end of a heap: what served ten thousand watches, or a newcomer, would stay with this process for ever.
/// Takes some milliseconds for each hundred megabytes.
#[cfg(target_env = "gnu")]
pub(crate) fn release_memory() {
    // SAFETY: reads counters of the allocator, under its own locks.
    let counted = unsafe { libc::mallinfo2() };
    let used = counted.uordblks.saturating_add(counted.hblkhd);
    if anonymous_memory().is_some_and(|resident| resident > used.saturating_add(SPARE)) {
        // SAFETY: touches only what is free, under the allocator's own locks.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Other allocators look after that themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn release_memory() {}

/// Octets of this process in RAM that no file stands behind (proc(5)).
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
        assert!(!host_name().unwrap().is_empty());
        assert!(interface_addresses().unwrap().iter().any(IpAddr::is_loopback));
        assert!(open_files_limit().unwrap() > 0);
        assert!(free_octets(Path::new("/")).is_ok());
        assert!(free_octets(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn signal_zero_only_asks_whether_the_process_is_there() {
        assert!(send_signal(std::process::id(), 0).is_ok());
        assert!(send_signal(u32::MAX, 0).is_err());
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
