//! Bytes: parsers and encoders of the protocols that the product speaks.
//!
//! Pure and without copies; every parser takes any bytes, never panics, and
//! says where it stopped and why ([`error::WireError`]).

pub mod bgp;
pub mod bmp;
pub mod dns;
pub mod dnstap;
pub mod element;
pub mod error;
pub mod framestream;
pub mod ipfix;
pub mod mrt;
pub mod netflow5;
pub mod netflow9;
pub mod nfdump;
pub mod packet;
pub mod sflow;
pub mod structured;
