//! ROUTE-REFRESH (RFC 2918, RFC 7313).
//!
//! | AFI u16 | subtype u8 | SAFI u8 | [outbound route filter, ignored] |

use super::{BgpError, Cursor, Family, HEADER_OCTETS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    pub family: Family,
    /// RFC 7313: 0 request, 1 beginning, 2 end of a refresh.
    pub subtype: u8,
}

impl RouteRefresh {
    pub(super) fn parse(body: &[u8]) -> Result<Self, BgpError> {
        let mut cursor = Cursor::new(body, HEADER_OCTETS);
        let malformed = |error| BgpError { code: 7, subcode: 1, data: Vec::new(), error };
        let afi = cursor.u16("AFI").map_err(malformed)?;
        let subtype = cursor.u8("subtype").map_err(malformed)?;
        let safi = cursor.u8("SAFI").map_err(malformed)?;
        Ok(Self { family: Family { afi, safi }, subtype })
    }
}
