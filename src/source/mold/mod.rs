//! MoldUDP64 over UDP: numbered messages in packets, the same on several lines, and a server that sends them again.
//!
//! The format is that of Nasdaq's *MoldUDP64 Protocol Specification V1.00*. A [`MoldSource`] is a
//! [`Source`](crate::source::Source): it makes one stream of the lines with an [`Arbiter`], which takes the first copy of
//! each message, puts them in order, asks for what is missing, and announces what does not come. The arbiter and the
//! packets stand by themselves, for captures.

mod arbiter;
mod config;
mod holes;
mod kernel;
mod packet;
mod server;
pub(super) mod sink;
mod socket;
mod source;
mod store;

pub use arbiter::{Arbiter, ArbiterConfig, ArbiterStats, Line, Output};
pub use config::{LineConfig, MoldConfig};
pub use packet::{
    END_OF_SESSION, HEADER_BYTES, HEARTBEAT, Header, MAX_COUNT, Messages, Packet, PacketError, PacketWriter, Session,
};
pub use server::{RerequestServer, SentMessages};
pub use source::MoldSource;
