//! What is wrong with a message, and what that means for the session (RFC 4271 6, RFC 7606).

use super::Family;
use crate::error::{Why, WireError};

pub(super) const MARKER: u8 = 1;
pub(super) const LENGTH: u8 = 2;
pub(super) const TYPE: u8 = 3;

/// An error that ends the session, with the code and subcode of the NOTIFICATION that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error} (notification {code}/{subcode})")]
pub struct BgpError {
    pub code: u8,
    pub subcode: u8,
    /// What the NOTIFICATION carries as data.
    pub data: Vec<u8>,
    /// Offsets count from the message's first octet.
    pub error: WireError,
}

impl BgpError {
    pub(super) fn header(offset: usize, reading: &'static str, subcode: u8, value: u32) -> Self {
        let (why, data) = match subcode {
            LENGTH => (Why::Length(value), (value as u16).to_be_bytes().to_vec()),
            TYPE => (Why::Value(value), vec![value as u8]),
            _ => (Why::Value(value), Vec::new()),
        };
        Self { code: 1, subcode, data, error: WireError { offset, reading, why } }
    }

    /// A message of which only `left` octets are there.
    pub(crate) fn cut(left: usize) -> Self {
        let error = WireError { offset: 0, reading: "message", why: Why::Truncated { left } };
        Self { code: 1, subcode: LENGTH, data: Vec::new(), error }
    }

    pub(super) fn open(subcode: u8, error: WireError) -> Self {
        Self { code: 2, subcode, data: Vec::new(), error }
    }

    pub(super) fn update(subcode: u8, error: WireError) -> Self {
        Self { code: 3, subcode, data: Vec::new(), error }
    }
}

/// What an error in an UPDATE does (RFC 7606 2), the weakest first; a session reset is a [`BgpError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The attribute is as if it were not there.
    AttributeDiscard,
    /// Some of the NLRI are as if they were not there (RFC 9552 8.2.2).
    NlriDiscard,
    /// The routes of the message are withdrawn.
    TreatAsWithdraw,
    /// All routes of the family go, and further ones are not taken in this session (RFC 4760 7).
    FamilyDisable(Family),
}

/// An error in an UPDATE that the session survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub class: Class,
    /// The attribute; 0 is none in particular.
    pub attribute: u8,
    pub error: WireError,
}
