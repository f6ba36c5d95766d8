//! Sockets that packets are received from.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::LineConfig;
use super::kernel::{Headers, MemInfo};
use crate::source::SourceError;

/// Packets of one system call.
pub(super) const BATCH: usize = 32;
/// The longest packet that is taken: an Ethernet jumbo frame's.
pub(super) const PACKET_BYTES: usize = 9216;

/// A socket, and room for a batch of packets.
#[derive(Debug)]
pub(in crate::source) struct Receiver {
    socket: Socket,
    address: SocketAddr,
    /// Bytes of the receive buffer.
    granted_bytes: usize,
    buffers: Box<[u8]>,
    headers: Headers,
    /// What the kernel had dropped when it was asked last.
    drops: u32,
    knows_meminfo: bool,
}

/// A packet as it was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    pub(super) bytes: &'a [u8],
    /// When the kernel got it: nanoseconds since the Unix epoch; 0 where it does not say.
    pub(super) receive_ns: u64,
    pub(super) is_truncated: bool,
}

impl Receiver {
    /// Bytes of memory of one, beside the kernel's buffer.
    pub(super) const MEMORY_BYTES: u64 = (BATCH * (PACKET_BYTES + 256)) as u64;

    /// Listens on a line.
    pub(super) fn line(line: &LineConfig, buffer_bytes: usize) -> Result<Self, SourceError> {
        let address = line.address;
        let socket = open(address)?;
        if address.ip().is_multicast() {
            // Others on this machine may listen to the same group.
            socket.set_reuse_address(true).map_err(failed(address, "share the port"))?;
        }
        socket.bind(&scoped(line).into()).map_err(failed(address, "listen there"))?;
        join(&socket, line).map_err(|error| SourceError::Network {
            address: match line.interface {
                Some(interface) => format!("{address}, interface {interface}"),
                None => address.to_string(),
            },
            action: "join the multicast group",
            error,
        })?;
        Self::new(socket, address, buffer_bytes)
    }

    /// A socket of any port, which sends to `server` and hears nobody else.
    pub(super) fn connected(server: SocketAddr, buffer_bytes: usize) -> Result<Self, SourceError> {
        let socket = open(server)?;
        socket.connect(&server.into()).map_err(failed(server, "connect to the re-request server"))?;
        Self::new(socket, server, buffer_bytes)
    }

    fn new(socket: Socket, address: SocketAddr, buffer_bytes: usize) -> Result<Self, SourceError> {
        setsockopt(&socket, ReceiveTimestampns, &true)
            .map_err(|errno| failed(address, "have receive times")(errno.into()))?;
        let granted_bytes = set_buffer(&socket, buffer_bytes).map_err(failed(address, "set the receive buffer"))?;
        if granted_bytes < buffer_bytes {
            tracing::warn!(
                %address, asked_bytes = buffer_bytes, granted_bytes,
                "the receive buffer is smaller than asked for: raise net.core.rmem_max (sysctl)"
            );
        }
        let headers = Headers(MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec))));
        let buffers = vec![0; BATCH * PACKET_BYTES].into_boxed_slice();
        let drops = MemInfo::read(socket.as_fd()).map(|info| info.drops);
        let knows_meminfo = drops.is_ok();
        Ok(Self { socket, address, granted_bytes, buffers, headers, drops: drops.unwrap_or(0), knows_meminfo })
    }

    /// Receives what is there, up to [`BATCH`] packets, and does not wait. Returns how many.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Datagram<'_>)) -> Result<usize, SourceError> {
        let mut buffers = self.buffers.chunks_exact_mut(PACKET_BYTES);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
        let socket = self.socket.as_raw_fd();
        let packets = match recvmmsg(socket, &mut self.headers.0, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(packets) => packets,
            // Refused: the re-request server is not there. Its silence is dealt with elsewhere.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(0),
            Err(errno) => return Err(failed(self.address, "receive")(errno.into())),
        };
        let mut count = 0;
        for packet in packets {
            count += 1;
            each(Datagram {
                bytes: packet.iovs().next().unwrap_or_default(),
                receive_ns: packet.cmsgs().ok().and_then(|mut all| all.find_map(receive_ns)).unwrap_or(0),
                is_truncated: packet.flags.contains(MsgFlags::MSG_TRUNC),
            });
        }
        Ok(count)
    }

    /// Sends a packet to the server it is connected to. What cannot be sent is lost, as any packet may be.
    pub(super) fn send(&self, bytes: &[u8]) {
        if let Err(error) = self.socket.send(bytes) {
            tracing::debug!(address = %self.address, %error, "a request could not be sent");
        }
    }

    /// Bytes of memory that wait in the kernel, and packets that it has dropped since this was called before.
    pub(super) fn kernel_state(&mut self) -> (u64, u64) {
        if !self.knows_meminfo {
            return (0, 0);
        }
        let Ok(info) = MemInfo::read(self.socket.as_fd()) else { return (0, 0) };
        let dropped = dropped_between(self.drops, info.drops);
        self.drops = info.drops;
        (info.waiting_bytes.into(), dropped)
    }

    pub(super) fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).unwrap_or(self.address)
    }

    pub(super) fn granted_bytes(&self) -> usize {
        self.granted_bytes
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The kernel's count wraps around.
fn dropped_between(before: u32, after: u32) -> u64 {
    after.wrapping_sub(before).into()
}

fn open(address: SocketAddr) -> Result<Socket, SourceError> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP));
    let socket = socket.map_err(failed(address, "open a socket"))?;
    socket.set_nonblocking(true).map_err(failed(address, "open a socket"))?;
    Ok(socket)
}

/// The address to bind to: a group that is known on one interface only has to say which.
fn scoped(line: &LineConfig) -> SocketAddr {
    let mut address = line.address;
    if let SocketAddr::V6(address) = &mut address
        && address.ip().is_multicast()
        && line.interface_index != 0
    {
        address.set_scope_id(line.interface_index);
    }
    address
}

/// Joins the line's group, if its address is one.
fn join(socket: &Socket, line: &LineConfig) -> io::Result<()> {
    let interface = line.interface.unwrap_or(Ipv4Addr::UNSPECIFIED);
    match line.address {
        SocketAddr::V4(group) if group.ip().is_multicast() => {
            socket.set_multicast_all_v4(false)?;
            match line.source {
                Some(source) => socket.join_ssm_v4(&source, group.ip(), &interface),
                None => socket.join_multicast_v4(group.ip(), &interface),
            }
        }
        SocketAddr::V6(group) if group.ip().is_multicast() => {
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(group.ip(), line.interface_index)
        }
        _ => Ok(()),
    }
}

/// Asks for a receive buffer, and says what the kernel gave.
fn set_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    socket.set_recv_buffer_size(bytes)?;
    // The kernel doubles what it is asked for, to have room for its own, and tells the double; socket(7).
    Ok(socket.recv_buffer_size()? / 2)
}

fn receive_ns(message: ControlMessageOwned) -> Option<u64> {
    let ControlMessageOwned::ScmTimestampns(time) = message else { return None };
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec() as u64))
}

fn failed(address: SocketAddr, action: &'static str) -> impl FnOnce(io::Error) -> SourceError {
    move |error| SourceError::Network { address: address.to_string(), action, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_drops_wraps() {
        assert_eq!(dropped_between(3, 5), 2);
        assert_eq!(dropped_between(u32::MAX, 1), 2);
    }
}
