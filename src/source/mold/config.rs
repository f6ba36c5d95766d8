//! Where packets come from.

use std::net::{Ipv4Addr, SocketAddr};

use super::ArbiterConfig;
use crate::source::OnMalformed;

/// A feed over MoldUDP64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoldConfig {
    /// The lines, which carry the same messages: usually A and B.
    pub lines: Vec<LineConfig>,
    /// Receive buffer of each socket, in bytes. Default 8 MiB. The system gives at most `net.core.rmem_max`.
    pub receive_buffer: usize,
    /// The server that is asked for what is missing. Default none. Where there is one, it decides
    /// [`ArbiterConfig::can_request`].
    pub rerequest: Option<SocketAddr>,
    /// How long to wait, what to ask for, and how much to keep.
    pub arbiter: ArbiterConfig,
    /// What to do about messages that cannot be decoded. Packets that are malformed are counted and left out in any case,
    /// since anybody may send them.
    pub on_malformed: OnMalformed,
}

impl MoldConfig {
    /// Lines, and defaults for the rest.
    pub fn new(lines: impl IntoIterator<Item = LineConfig>) -> Self {
        Self {
            lines: lines.into_iter().collect(),
            receive_buffer: 8 << 20,
            rerequest: None,
            arbiter: ArbiterConfig::default(),
            on_malformed: OnMalformed::default(),
        }
    }
}

/// A line of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineConfig {
    /// A multicast group and its port; or an own address to listen on, where the feed is sent to that.
    pub address: SocketAddr,
    /// For an IPv4 group: the address of the interface that it comes in on. Default: the system's choice.
    pub interface: Option<Ipv4Addr>,
    /// For an IPv4 group: the only sender to hear (source-specific multicast, RFC 4607). Default: any.
    pub source: Option<Ipv4Addr>,
    /// For an IPv6 group: the index of the interface that it comes in on. Default 0: the system's choice.
    pub interface_index: u32,
}

impl From<SocketAddr> for LineConfig {
    fn from(address: SocketAddr) -> Self {
        Self { address, interface: None, source: None, interface_index: 0 }
    }
}
