//! Frame Streams: length-prefixed frames with a handshake (farsightsec/fstrm, no RFC).
//!
//!   data frame:    | length u32 > 0 | payload |
//!   control frame: | 0 u32 | length u32 | type u32 | fields: type u32, length u32, octets ... |
//!
//! Bidirectional: READY, ACCEPT, START, data ..., STOP, FINISH. Unidirectional
//! (files, sockets without a way back): START, data ..., STOP.

use crate::error::{Why, WireError};

/// What DNS servers send.
pub const DNSTAP: &[u8] = b"protobuf:dnstap.Dnstap";
/// Longest control frame, as the reference implementation has it.
pub const CONTROL_OCTETS_MAX: usize = 512;
/// Content types that are looked at in one control frame.
const CONTENT_TYPES_MAX: usize = 16;
const FIELD_CONTENT_TYPE: u32 = 1;

/// Type of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlType(pub u32);

impl ControlType {
    pub const ACCEPT: Self = Self(1);
    pub const START: Self = Self(2);
    pub const STOP: Self = Self(3);
    pub const READY: Self = Self(4);
    pub const FINISH: Self = Self(5);
}

/// A control frame; `fields` holds its content types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    pub kind: ControlType,
    fields: &'a [u8],
}

impl<'a> Control<'a> {
    fn parse(payload: &'a [u8], offset: usize) -> Result<Self, WireError> {
        let error = |at: usize, reading, why| WireError { offset: offset + at, reading, why };
        let Some((kind, fields)) = payload.split_first_chunk() else {
            return Err(error(0, "control frame type", Why::Truncated { left: payload.len() }));
        };
        let control = Self { kind: ControlType(u32::from_be_bytes(*kind)), fields };
        let mut rest = fields;
        while !rest.is_empty() {
            let Some((_, after)) = field(rest) else {
                let at = payload.len() - rest.len();
                return Err(error(at, "control frame field", Why::Truncated { left: rest.len() }));
            };
            rest = after;
        }
        Ok(control)
    }

    pub fn content_types(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let ((kind, octets), after) = field(rest)?;
            rest = after;
            Some((kind, octets))
        })
        .filter(|(kind, _)| *kind == FIELD_CONTENT_TYPE)
        .map(|(_, octets)| octets)
        .take(CONTENT_TYPES_MAX)
    }

    /// Whether the other side offers, or begins, this content. No type means any.
    pub fn offers(&self, content_type: &[u8]) -> bool {
        let mut any = true;
        for offered in self.content_types() {
            if offered == content_type {
                return true;
            }
            any = false;
        }
        any
    }
}

fn field(input: &[u8]) -> Option<((u32, &[u8]), &[u8])> {
    let (kind, rest) = input.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (octets, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some(((u32::from_be_bytes(*kind), octets), rest))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Data(&'a [u8]),
    Control(Control<'a>),
}

/// The first frame of `input` and its length with its prefix; `None` where more input is needed.
/// A frame longer than `octets_max` is an error as soon as its length is seen.
pub fn next(input: &[u8], octets_max: usize) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Some((len, rest)) = input.split_first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*len);
    if len > 0 {
        if len as usize > octets_max {
            return Err(WireError { offset: 0, reading: "data frame", why: Why::Length(len) });
        }
        return Ok(rest.get(..len as usize).map(|payload| (Frame::Data(payload), 4 + len as usize)));
    }
    let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*len);
    if !(4..=CONTROL_OCTETS_MAX).contains(&(len as usize)) {
        return Err(WireError { offset: 4, reading: "control frame", why: Why::Length(len) });
    }
    let Some(payload) = rest.get(..len as usize) else { return Ok(None) };
    Ok(Some((Frame::Control(Control::parse(payload, 8)?), 8 + len as usize)))
}

/// A control frame with its prefix, as it is sent.
pub fn control(kind: ControlType, content_type: Option<&[u8]>) -> Vec<u8> {
    let field_len = content_type.map_or(0, |octets| 8 + octets.len());
    let mut frame = Vec::with_capacity(12 + field_len);
    frame.extend_from_slice(&0u32.to_be_bytes());
    frame.extend_from_slice(&(4 + field_len as u32).to_be_bytes());
    frame.extend_from_slice(&kind.0.to_be_bytes());
    if let Some(octets) = content_type {
        frame.extend_from_slice(&FIELD_CONTENT_TYPE.to_be_bytes());
        frame.extend_from_slice(&(octets.len() as u32).to_be_bytes());
        frame.extend_from_slice(octets);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut stream = control(ControlType::START, Some(DNSTAP));
        stream.extend_from_slice(&[0, 0, 0, 3, b'a', b'b', b'c']);
        stream.extend(control(ControlType::STOP, None));
        let (first, len) = next(&stream, 100).expect("well formed").expect("complete");
        let Frame::Control(start) = first else { panic!("a control frame comes first") };
        assert_eq!(start.kind, ControlType::START);
        assert!(start.offers(DNSTAP) && !start.offers(b"other"));
        let (second, used) = next(&stream[len..], 100).expect("well formed").expect("complete");
        assert_eq!((second, used), (Frame::Data(b"abc"), 7));
        let Some((Frame::Control(stop), _)) = next(&stream[len + used..], 100).expect("well formed") else {
            panic!("a control frame comes last")
        };
        assert_eq!(stop.kind, ControlType::STOP);
        assert!(stop.offers(DNSTAP), "without a type any is meant");
        for end in 0..len {
            assert_eq!(next(&stream[..end], 100), Ok(None), "prefix of {end} octets");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let error = next(&[0, 0, 1, 0], 255).expect_err("too long");
        assert_eq!((error.offset, error.why), (0, Why::Length(256)));
        for len in [0u32, 3, 513, u32::MAX] {
            let mut frame = vec![0; 4];
            frame.extend_from_slice(&len.to_be_bytes());
            assert_eq!(next(&frame, 255).expect_err("too long").why, Why::Length(len));
        }
        // A field that is longer than its frame.
        let frame = [0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(next(&frame, 255).expect_err("cut").offset, 12);
    }
}
