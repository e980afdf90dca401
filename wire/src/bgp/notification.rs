//! NOTIFICATION (RFC 4271 4.5, RFC 4486, RFC 9003).
//!
//! | code u8 | subcode u8 | data |

use std::borrow::Cow;
use std::fmt;

use super::{BgpError, Cursor, HEADER_OCTETS};

/// RFC 4271 4.5.
pub const CEASE: u8 = 6;
/// RFC 9003 2: octets of a shutdown message.
const TEXT_OCTETS_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    pub code: u8,
    pub subcode: u8,
    pub data: &'a [u8],
}

impl<'a> Notification<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, BgpError> {
        let mut cursor = Cursor::new(body, HEADER_OCTETS);
        let malformed = |error| BgpError { code: 1, subcode: 2, data: Vec::new(), error };
        let code = cursor.u8("error code").map_err(malformed)?;
        let subcode = cursor.u8("error subcode").map_err(malformed)?;
        Ok(Self { code, subcode, data: cursor.rest })
    }

    /// RFC 9003: what the other side's operator wrote, where it is an administrative shutdown or reset.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        if self.code != CEASE || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (&length, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(length)).filter(|text| !text.is_empty())?;
        Some(String::from_utf8_lossy(text))
    }
}

impl fmt::Display for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            1 => "message header error",
            2 => "open message error",
            3 => "update message error",
            4 => "hold timer expired",
            5 => "finite state machine error",
            6 => "cease",
            7 => "route refresh error",
            _ => "error",
        };
        write!(f, "{code} ({}/{})", self.code, self.subcode)?;
        if self.code == CEASE {
            // RFC 4486 3, RFC 8538, RFC 9384.
            let subcode = match self.subcode {
                1 => ": maximum number of prefixes reached",
                2 => ": administrative shutdown",
                3 => ": peer de-configured",
                4 => ": administrative reset",
                5 => ": connection rejected",
                6 => ": other configuration change",
                7 => ": connection collision resolution",
                8 => ": out of resources",
                9 => ": hard reset",
                10 => ": BFD down",
                _ => "",
            };
            f.write_str(subcode)?;
        }
        match self.text() {
            // The other side's words: control characters would reach a terminal.
            Some(text) => write!(f, " {:?}", text),
            None => Ok(()),
        }
    }
}

/// Data of an administrative shutdown or reset (RFC 9003 2), cut at a character's end.
pub fn shutdown_message(text: &str) -> Vec<u8> {
    let mut end = text.len().min(TEXT_OCTETS_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut data = vec![end as u8];
    data.extend_from_slice(&text.as_bytes()[..end]);
    data
}
