//! Whose table a peer's routes are, and for whom they answer.
//!
//! BMP (RFC 7854, 8671, 9069) tells of several tables of one router. What a router uses is its Loc-RIB; of the others
//! only the one after its inbound policy says something about it: routes that it may use. The rest is shown, and
//! answers for nobody.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RibView {
    /// What the router announces over a session with us: its best routes.
    #[default]
    Session,
    /// The router's own table.
    LocRib,
    /// What a neighbour told the router, after its inbound policy.
    AdjInPost,
    /// What a neighbour told the router.
    AdjInPre,
    /// What the router tells a neighbour, after its outbound policy.
    AdjOutPost,
    AdjOutPre,
    /// What somebody told whoever wrote a file.
    File,
}

impl RibView {
    pub fn text(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::LocRib => "loc-rib",
            Self::AdjInPost => "adj-rib-in-post",
            Self::AdjInPre => "adj-rib-in-pre",
            Self::AdjOutPost => "adj-rib-out-post",
            Self::AdjOutPre => "adj-rib-out-pre",
            Self::File => "file",
        }
    }

    /// Which table answers first for its router, lowest first, and as a fallback for others; `None` answers for nobody.
    pub fn rank(self) -> Option<u8> {
        match self {
            Self::Session | Self::LocRib => Some(0),
            Self::File => Some(1),
            Self::AdjInPost => Some(2),
            Self::AdjInPre | Self::AdjOutPost | Self::AdjOutPre => None,
        }
    }

    /// The peer is the router: its BGP identifier is the router's.
    pub fn is_of_router(self) -> bool {
        matches!(self, Self::Session | Self::LocRib | Self::File)
    }
}
