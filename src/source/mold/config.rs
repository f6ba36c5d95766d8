//! Where packets come from.

use std::net::{Ipv4Addr, SocketAddr};

use super::ArbiterConfig;
use crate::source::{OnMalformed, SourceError};

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

    /// The feed's name in errors.
    pub(super) fn name(&self) -> String {
        let addresses: Vec<_> = self.lines.iter().map(|line| line.address.to_string()).collect();
        format!("mold {}", addresses.join(", "))
    }

    /// Whether it makes sense.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        if self.lines.is_empty() {
            let (feed, reason) = ("mold".into(), "there are no lines: give one at least".into());
            return Err(SourceError::Unsupported { feed, reason });
        }
        match self.lines.iter().find_map(|line| line.contradiction().map(|reason| (line, reason))) {
            None => Ok(()),
            Some((line, reason)) => {
                let feed = format!("mold {}", line.address);
                Err(SourceError::Unsupported { feed, reason: reason.into() })
            }
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

impl LineConfig {
    /// What is asked for that this kind of address does not have.
    fn contradiction(&self) -> Option<&'static str> {
        let is_group = self.address.ip().is_multicast();
        if (self.interface.is_some() || self.source.is_some()) && !(is_group && self.address.is_ipv4()) {
            return Some("`interface` and `source` are for IPv4 multicast groups: leave them out");
        }
        if self.interface_index != 0 && !(is_group && self.address.is_ipv6()) {
            return Some("`interface_index` is for IPv6 multicast groups: leave it out");
        }
        None
    }
}

impl From<SocketAddr> for LineConfig {
    fn from(address: SocketAddr) -> Self {
        Self { address, interface: None, source: None, interface_index: 0 }
    }
}
