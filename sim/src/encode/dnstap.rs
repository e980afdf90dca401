//! dnstap (dnstap.info, dnstap.proto) in Frame Streams (fstrm, `control.h`).
//!
//! A data frame is its length and its octets; a control frame is a length of 0,
//! its own length, its type, and fields.

use std::net::IpAddr;

use super::Put as _;

pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Control {
    Accept = 1,
    Start = 2,
    Stop = 3,
    Ready = 4,
    Finish = 5,
}

pub fn control(kind: Control) -> Vec<u8> {
    let mut body = Vec::new();
    body.u32(kind as u32);
    if matches!(kind, Control::Ready | Control::Start | Control::Accept) {
        body.u32(1);
        body.u32(CONTENT_TYPE.len() as u32);
        body.extend_from_slice(CONTENT_TYPE);
    }
    let mut out = Vec::with_capacity(body.len() + 8);
    out.u32(0);
    out.u32(body.len() as u32);
    out.extend_from_slice(&body);
    out
}

pub fn data(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    out.u32(payload.len() as u32);
    out.extend_from_slice(payload);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3));
    varint(out, value);
}

fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    varint(out, u64::from(field << 3 | 5));
    out.extend_from_slice(&value.to_le_bytes());
}

fn octets(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field << 3 | 2));
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A resolver's answer to a client.
#[derive(Clone, Debug)]
pub struct ClientResponse<'a> {
    pub identity: &'a str,
    pub client: IpAddr,
    pub client_port: u16,
    pub resolver: IpAddr,
    pub query_ms: i64,
    pub response_ms: i64,
    /// The DNS message.
    pub response: &'a [u8],
}

/// The protobuf message, without a frame.
pub fn client_response(tap: &ClientResponse<'_>) -> Vec<u8> {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut message = Vec::with_capacity(tap.response.len() + 96);
    // CLIENT_RESPONSE, family, UDP.
    number(&mut message, 1, 6);
    number(&mut message, 2, if tap.client.is_ipv4() { 1 } else { 2 });
    number(&mut message, 3, 1);
    octets(&mut message, 4, &address(tap.client));
    octets(&mut message, 5, &address(tap.resolver));
    number(&mut message, 6, u64::from(tap.client_port));
    number(&mut message, 7, 53);
    let time = |ms: i64| ((ms / 1000) as u64, (ms % 1000) as u32 * 1_000_000);
    let (second, nanosecond) = time(tap.query_ms);
    number(&mut message, 8, second);
    fixed32(&mut message, 9, nanosecond);
    let (second, nanosecond) = time(tap.response_ms);
    number(&mut message, 12, second);
    fixed32(&mut message, 13, nanosecond);
    octets(&mut message, 14, tap.response);
    let mut out = Vec::with_capacity(message.len() + 48);
    octets(&mut out, 1, tap.identity.as_bytes());
    octets(&mut out, 2, b"benocs simulated resolver");
    octets(&mut out, 14, &message);
    number(&mut out, 15, 1);
    out
}
