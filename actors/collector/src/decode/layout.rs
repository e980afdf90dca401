//! Where a template's fields stand in a record.
//!
//! Records of variable length are first rewritten to a fixed length (integers
//! to eight octets, packets and texts to a reference, lists to what is taken from
//! them), so that there is one way to read columns: at a fixed offset, with a
//! fixed stride.

use benocs_wire::ipfix::{Field, REVERSE, VARIABLE};
use benocs_wire::structured::take_value;

use super::nested::{self, Nested};
use super::options;

/// Octets of a rewritten integer, and of a reference: offset u32, length u16.
const INTEGER: u16 = 8;
const REFERENCE: u16 = 6;
/// Longest record that is believed, in octets: no datagram carries more.
const RECORD_MAX: usize = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) offset: u16,
    pub(crate) width: u16,
}

/// A field and its place in the (rewritten) record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) element: u16,
    pub(crate) enterprise: u32,
    pub(crate) at: At,
    /// `at` holds a reference into the set; of tcpControlBits, what lists hold of it ([`nested`]).
    pub(crate) reference: bool,
}

/// What records of variable length are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Flows,
    /// Texts are wanted too.
    Options,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Fixed(u16),
    Integer,
    Reference,
    /// A list of this element, of this length.
    List(u16, u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) fields: Vec<Placed>,
    /// Octets of a record, rewritten or as it is.
    pub(crate) stride: usize,
    /// Fewest octets that a record takes in the set.
    shortest: usize,
    /// How to rewrite; none where every length is fixed.
    pieces: Vec<Piece>,
}

/// Elements that hold a piece of a packet: IPFIX 315 and version 9's 104, 313, 314.
pub(crate) fn is_packet(element: u16) -> bool {
    matches!(element, 104 | 313 | 315)
}

impl Layout {
    /// `None` where a record would have no octets, or more than fit.
    pub(crate) fn new(fields: impl Iterator<Item = Field>, purpose: Purpose) -> Option<Self> {
        let (mut placed, mut pieces) = (Vec::new(), Vec::new());
        let (mut stride, mut shortest, mut variable, mut lists) = (0usize, 0usize, false, false);
        for field in fields {
            if purpose == Purpose::Flows && field.enterprise == 0 && nested::is_list(field.element) && field.length > 0
            {
                pieces.push(Piece::List(field.element, field.length));
                lists = true;
                shortest += if field.length == VARIABLE { 1 } else { usize::from(field.length) };
                continue;
            }
            let wanted = match purpose {
                Purpose::Flows => is_packet(field.element),
                Purpose::Options => options::is_text(field.element),
            };
            let reference = field.length == VARIABLE && field.enterprise == 0 && wanted;
            let (width, piece, least) = match field.length {
                VARIABLE if reference => (REFERENCE, Piece::Reference, 1),
                VARIABLE => (INTEGER, Piece::Integer, 1),
                length => (length, Piece::Fixed(length), usize::from(length)),
            };
            variable |= field.length == VARIABLE;
            let at = At { offset: u16::try_from(stride).ok()?, width };
            if width > 0 {
                placed.push(Placed { element: field.element, enterprise: field.enterprise, at, reference });
                pieces.push(piece);
            }
            stride += usize::from(width);
            shortest += least;
        }
        if lists {
            for enterprise in [0, REVERSE] {
                let at = At { offset: u16::try_from(stride).ok()?, width: nested::FLAGS };
                placed.push(Placed { element: nested::TCP_CONTROL_BITS, enterprise, at, reference: true });
                stride += usize::from(nested::FLAGS);
            }
        }
        if !variable && !lists {
            pieces.clear();
        }
        (stride > 0 && stride <= RECORD_MAX).then_some(Self { fields: placed, stride, shortest, pieces })
    }

    pub(crate) fn is_fixed(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Rewrites the records of a set; false where the last of them runs past the end.
    pub(crate) fn rewrite(&self, set: &[u8], templates: nested::Templates<'_>, out: &mut Vec<u8>) -> bool {
        out.clear();
        let mut rest = set;
        let mut nested = Nested::new(templates, set.len());
        while rest.len() >= self.shortest {
            // Padding may be longer than the shortest record, but only zeros (RFC 7011 3.3.1).
            if rest.len() < 4 && rest.iter().all(|octet| *octet == 0) {
                break;
            }
            let start = out.len();
            match self.rewrite_one(set, rest, &mut nested, out) {
                // A record that takes no octets would be there for ever.
                Some(after) if after.len() < rest.len() => rest = after,
                _ => {
                    out.truncate(start);
                    return false;
                }
            }
        }
        true
    }

    fn rewrite_one<'a>(
        &self,
        set: &[u8],
        mut rest: &'a [u8],
        nested: &mut Nested<'_>,
        out: &mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let mut lists = None;
        for piece in &self.pieces {
            let (content, after) = match piece {
                Piece::Fixed(length) | Piece::List(_, length) => take_value(rest, *length)?,
                Piece::Integer | Piece::Reference => take_value(rest, VARIABLE)?,
            };
            match piece {
                Piece::Fixed(_) => out.extend_from_slice(content),
                Piece::Integer => {
                    let mut integer = [0; INTEGER as usize];
                    if content.len() <= integer.len() {
                        integer[usize::from(INTEGER) - content.len()..].copy_from_slice(content);
                    }
                    out.extend_from_slice(&integer);
                }
                Piece::Reference => {
                    let offset = set.len() - after.len() - content.len();
                    out.extend_from_slice(&(offset as u32).to_be_bytes());
                    out.extend_from_slice(&(content.len() as u16).to_be_bytes());
                }
                Piece::List(element, _) => nested.look(*element, content, lists.get_or_insert_default()),
            }
            rest = after;
        }
        if let Some(found) = lists {
            out.extend_from_slice(&found.octets());
        }
        Some(rest)
    }
}

/// Records of one length, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    data: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// As many whole records as `data` has; `stride` is not zero in any [`Layout`].
    pub(crate) fn new(data: &'a [u8], stride: usize) -> Self {
        let stride = stride.max(1);
        Self { data: &data[..data.len() / stride * stride], stride }
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len() / self.stride
    }

    #[inline]
    pub(crate) fn iter(self) -> std::slice::ChunksExact<'a, u8> {
        self.data.chunks_exact(self.stride)
    }
}

/// `W` octets of a record; zeros behind its end, where no field is.
#[inline(always)]
pub(crate) fn octets<const W: usize>(record: &[u8], offset: usize) -> [u8; W] {
    record.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; W])
}

/// The content of a field, where it is in the record or where it refers to.
pub(crate) fn content<'a>(field: &Placed, record: &'a [u8], set: &'a [u8]) -> &'a [u8] {
    let start = usize::from(field.at.offset);
    let here = record.get(start..start + usize::from(field.at.width)).unwrap_or_default();
    if !field.reference {
        return here;
    }
    let start = u32::from_be_bytes(octets(here, 0)) as usize;
    let length = usize::from(u16::from_be_bytes(octets(here, 4)));
    set.get(start..start + length).unwrap_or_default()
}

/// An integer of any length; of more than eight octets the last eight.
#[inline]
pub(crate) fn integer(record: &[u8], at: At) -> u64 {
    let start = usize::from(at.offset);
    let field = record.get(start..start + usize::from(at.width)).unwrap_or_default();
    field.iter().fold(0, |value, octet| value << 8 | u64::from(*octet))
}

/// Extends a lane or a vector by one field of all rows, in a loop of its own for each usual width.
macro_rules! columnwise {
    ($sink:expr, $rows:expr, $at:expr, $map:expr) => {{
        let (sink, rows, at, map) = ($sink, $rows, $at, $map);
        let o = usize::from(at.offset);
        use $crate::decode::layout::{integer, octets};
        match at.width {
            1 => sink.extend(rows.iter().map(|r| map(u64::from(octets::<1>(r, o)[0])))),
            2 => sink.extend(rows.iter().map(|r| map(u64::from(u16::from_be_bytes(octets(r, o)))))),
            4 => sink.extend(rows.iter().map(|r| map(u64::from(u32::from_be_bytes(octets(r, o)))))),
            8 => sink.extend(rows.iter().map(|r| map(u64::from_be_bytes(octets(r, o))))),
            _ => sink.extend(rows.iter().map(|r| map(integer(r, at)))),
        }
    }};
}
pub(crate) use columnwise;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(element: u16, length: u16) -> Field {
        Field { element, enterprise: 0, length }
    }

    #[test]
    fn variable_records_become_fixed_ones() {
        let layout = Layout::new(
            [field(1, VARIABLE), field(7, 2), field(82, VARIABLE), field(315, VARIABLE)].into_iter(),
            Purpose::Flows,
        )
        .expect("layout");
        let long = [7u8; 300];
        let mut set = vec![3, 1, 2, 3, 0, 80, 2, b'e', b'0', 255, 1, 44];
        set.extend(long);
        set.extend([0, 0, 81, 0, 0, 0, 0]);
        let mut out = Vec::new();
        assert!(layout.rewrite(&set, &|_| None, &mut out));
        let rows = Rows::new(&out, layout.stride);
        let of = |at: usize| rows.iter().map(|row| integer(row, layout.fields[at].at)).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec![0x010203, 0], vec![80, 81]));
        assert_eq!(of(3), [12 << 16 | 300, (12 + 300 + 5) << 16]);
        assert!(!layout.rewrite(&set[..set.len() - 50], &|_| None, &mut out) || out.is_empty());
    }

    #[test]
    fn templates_without_octets_are_refused() {
        let layout = |fields: &[Field]| Layout::new(fields.iter().copied(), Purpose::Flows);
        assert!(layout(&[field(1, 0)]).is_none());
        assert!(layout(&[field(1, 40_000), field(2, 40_000)]).is_none());
        assert!(layout(&[field(1, 0), field(2, 4)]).is_some_and(|layout| layout.fields.len() == 1));
    }
}
