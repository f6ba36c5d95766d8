//! MoldUDP64 over UDP.

mod arbiter;
mod holes;
mod packet;
mod store;

pub use arbiter::{Arbiter, ArbiterConfig, ArbiterStats, Line, Output};
pub use packet::{
    END_OF_SESSION, HEADER_BYTES, HEARTBEAT, Header, MAX_COUNT, Messages, Packet, PacketError, PacketWriter, Session,
};
