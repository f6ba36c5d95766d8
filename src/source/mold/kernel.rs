//! What the kernel tells about a socket, and the one structure of its interface that has to cross threads.
#![allow(unsafe_code, reason = "a socket option that no crate offers, and headers that hold pointers into themselves")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::MultiHeaders;

/// How full a socket's receive buffer is, and what it has dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemInfo {
    /// Memory of the packets that wait, in bytes; that is more than they have themselves.
    pub(super) waiting_bytes: u32,
    /// Packets dropped since the socket was opened, modulo 2³².
    pub(super) drops: u32,
}

/// `SK_MEMINFO_DROPS`, the last of the nine values of `SO_MEMINFO` (linux/sock_diag.h).
const DROPS: usize = 8;

impl MemInfo {
    /// Asks the kernel (`SO_MEMINFO`, Linux 4.12).
    ///
    /// # Errors
    /// When it does not know that.
    pub(super) fn read(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let mut values = [0u32; DROPS + 1];
        let mut bytes = size_of_val(&values) as libc::socklen_t;
        // SAFETY: the socket is open for as long as it is borrowed; the kernel writes at most `bytes` bytes to `values`,
        // which is as long, and any bytes are valid there.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { waiting_bytes: values[libc::SK_MEMINFO_RMEM_ALLOC as usize], drops: values[DROPS] })
    }
}

/// Headers of packets to receive, without the sender's address.
pub(super) struct Headers(pub(super) MultiHeaders<()>);

// SAFETY: the pointers in it go to control buffers on the heap, which it owns and nothing else knows; and to the buffers of
// the last call, which sets them anew before they are used. Nothing in it belongs to a thread.
unsafe impl Send for Headers {}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers").finish_non_exhaustive()
    }
}
