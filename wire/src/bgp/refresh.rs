//! ROUTE-REFRESH (RFC 2918, RFC 7313).
//!
//! | AFI u16 | subtype u8 | SAFI u8 | [outbound route filter, ignored] |

use super::{BgpError, Cursor, Family, HEADER_OCTETS, kind};
use crate::error::{Why, WireError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    pub family: Family,
    /// RFC 7313: 0 request, 1 beginning, 2 end of a refresh.
    pub subtype: u8,
}

impl RouteRefresh {
    pub(super) fn parse(body: &[u8]) -> Result<Self, BgpError> {
        let mut cursor = Cursor::new(body, HEADER_OCTETS);
        // RFC 7313 5: the data is the whole message.
        let malformed = |error| {
            let length = (HEADER_OCTETS + body.len()) as u16;
            let data = [&[0xff; 16][..], &length.to_be_bytes(), &[kind::ROUTE_REFRESH], body].concat();
            BgpError { code: 7, subcode: 1, data, error }
        };
        let afi = cursor.u16("AFI").map_err(malformed)?;
        let subtype = cursor.u8("subtype").map_err(malformed)?;
        let safi = cursor.u8("SAFI").map_err(malformed)?;
        // RFC 7313 5: marks have nothing behind them.
        if matches!(subtype, 1 | 2) && !cursor.rest.is_empty() {
            let why = Why::Length(body.len() as u32);
            return Err(malformed(WireError { offset: 16, reading: "length of a mark", why }));
        }
        Ok(Self { family: Family { afi, safi }, subtype })
    }
}
