//! IPFIX messages (RFC 7011), and the sets that NetFlow version 9 shares with them.
//!
//! | version u16 = 10 | length u16 | export time u32 s | sequence u32 | observation domain u32 | sets |
//! set: | id u16 | length u16, header included | body |
//! template: | id u16 | field count u16 | fields | ; options: | id | field count | scope count | fields |
//! field: | E bit, element u15 | length u16 | enterprise u32 where E is set |

use nom::Parser;
use nom::number::complete::{be_u16, be_u32};

use crate::error::{Why, WireError, located};

pub const VERSION: u16 = 10;
pub const HEADER_LEN: usize = 16;
pub const TEMPLATE_SET: u16 = 2;
pub const OPTIONS_TEMPLATE_SET: u16 = 3;
/// Lowest id of a template and of a set of data (RFC 7011 3.4.1).
pub const FIRST_DATA_SET: u16 = 256;
/// Field length that says: in the record (RFC 7011 7).
pub const VARIABLE: u16 = 65535;
/// Enterprise of reverse elements (RFC 5103 6.1).
pub const REVERSE: u32 = 29305;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub length: u16,
    pub export_secs: u32,
    pub sequence: u32,
    pub domain: u32,
}

/// Header, and what follows it within the message's length.
pub fn header(input: &[u8]) -> Result<(Header, &[u8]), WireError> {
    let (rest, (_, length, export_secs, sequence, domain)) =
        located(input, "ipfix header", (be_u16, be_u16, be_u32, be_u32, be_u32).parse(input))?;
    if usize::from(length) < HEADER_LEN {
        return Err(WireError { offset: 2, reading: "ipfix message length", why: Why::Length(length.into()) });
    }
    let body = rest.len().min(usize::from(length) - HEADER_LEN);
    Ok((Header { length, export_secs, sequence, domain }, &rest[..body]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    pub id: u16,
    pub body: &'a [u8],
    /// Octets that the set's length promises and the message does not have.
    pub missing: usize,
}

/// The sets of a message, in order. Ends after the first that cannot be one.
#[derive(Clone, Debug)]
pub struct Sets<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Sets<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self { whole: body, rest: body }
    }
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let input = self.rest;
        let Some((header, body)) = input.split_first_chunk::<4>() else {
            self.rest = &[];
            // Fewer than four octets, or zeros to the end, are padding (RFC 7011 3.3.1).
            return (input.iter().any(|octet| *octet != 0))
                .then(|| Err(WireError::truncated(self.whole, input, "set header")));
        };
        let id = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length < 4 {
            self.rest = &[];
            let offset = self.whole.len() - input.len();
            return (input.iter().any(|octet| *octet != 0)).then_some(Err(WireError {
                offset: offset + 2,
                reading: "set length",
                why: Why::Length(length as u32),
            }));
        }
        let wanted = length - 4;
        let (body, rest) = body.split_at(wanted.min(body.len()));
        self.rest = rest;
        Some(Ok(Set { id, body, missing: wanted - body.len() }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    pub element: u16,
    /// 0 is IANA's registry.
    pub enterprise: u32,
    /// Octets, or [`VARIABLE`].
    pub length: u16,
}

/// A template as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template<'a> {
    pub id: u16,
    pub options: bool,
    pub field_count: usize,
    /// The first so many fields are the scope of an options record.
    pub scope_count: usize,
    /// The field specifiers.
    pub fields: &'a [u8],
    /// Fields have an enterprise bit (IPFIX), or are pairs of 16 bits (version 9).
    pub enterprise_bit: bool,
}

impl<'a> Template<'a> {
    /// RFC 7011 8.1: a template without fields takes the earlier one back.
    pub fn is_withdrawal(&self) -> bool {
        self.field_count == 0
    }

    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.fields, enterprise_bit: self.enterprise_bit, left: self.field_count }
    }
}

#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
    enterprise_bit: bool,
    left: usize,
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        self.left = self.left.checked_sub(1)?;
        let (rest, field) = field(self.rest, self.enterprise_bit).ok()?;
        self.rest = rest;
        Some(field)
    }
}

fn field(input: &[u8], enterprise_bit: bool) -> nom::IResult<&[u8], Field> {
    let (rest, (element, length)) = (be_u16, be_u16).parse(input)?;
    if enterprise_bit && element & 0x8000 != 0 {
        let (rest, enterprise) = be_u32(rest)?;
        return Ok((rest, Field { element: element & 0x7fff, enterprise, length }));
    }
    Ok((rest, Field { element, enterprise: 0, length }))
}

/// Cuts `count` field specifiers off; what follows them comes first.
pub(crate) fn take_fields<'a>(
    whole: &'a [u8],
    input: &'a [u8],
    count: usize,
    enterprise_bit: bool,
) -> Result<(&'a [u8], &'a [u8]), WireError> {
    let mut rest = input;
    if enterprise_bit {
        for _ in 0..count {
            (rest, _) = located(whole, "template field", field(rest, true))?;
        }
    } else {
        let Some(after) = input.get(count * 4..) else {
            return Err(WireError::truncated(whole, input, "template fields"));
        };
        rest = after;
    }
    Ok((rest, &input[..input.len() - rest.len()]))
}

/// Templates of a set's body, in order. Ends after the first that cannot be one.
#[derive(Clone, Debug)]
pub struct Templates<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
    options: bool,
}

impl<'a> Templates<'a> {
    pub fn new(body: &'a [u8], options: bool) -> Self {
        Self { whole: body, rest: body, options }
    }
}

fn parse_template<'a>(whole: &'a [u8], input: &'a [u8], options: bool) -> Result<(&'a [u8], Template<'a>), WireError> {
    let (rest, (id, count)) = located(whole, "template header", (be_u16, be_u16).parse(input))?;
    let mut template =
        Template { id, options, field_count: usize::from(count), scope_count: 0, fields: &[], enterprise_bit: true };
    // RFC 7011 8.1: a withdrawal has no scope count, and names a template or the whole set's kind.
    if count == 0 {
        return Ok((rest, template));
    }
    if id < FIRST_DATA_SET {
        let offset = whole.len() - input.len();
        return Err(WireError { offset, reading: "template id", why: Why::Value(id.into()) });
    }
    let rest = if options {
        let (after, scope) = located(whole, "scope field count", be_u16(rest))?;
        // RFC 7011 3.4.2.2: not zero; exporters that say zero mean no scope.
        if scope > count {
            let offset = whole.len() - rest.len();
            return Err(WireError { offset, reading: "scope field count", why: Why::Value(scope.into()) });
        }
        template.scope_count = usize::from(scope);
        after
    } else {
        rest
    };
    let (rest, fields) = take_fields(whole, rest, usize::from(count), true)?;
    template.fields = fields;
    Ok((rest, template))
}

impl<'a> Iterator for Templates<'a> {
    /// An error carries the id where that much could be read.
    type Item = Result<Template<'a>, (Option<u16>, WireError)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (whole, options) = (self.whole, self.options);
        next_template(&mut self.rest, |input| parse_template(whole, input, options))
    }
}

/// One step of an iterator over templates; padding at the end is none.
pub(crate) fn next_template<'a>(
    rest: &mut &'a [u8],
    parse: impl FnOnce(&'a [u8]) -> Result<(&'a [u8], Template<'a>), WireError>,
) -> Option<Result<Template<'a>, (Option<u16>, WireError)>> {
    let input = *rest;
    // RFC 7011 3.3.1: padding is zeros; a template id of zero cannot be.
    if input.iter().take(4).all(|octet| *octet == 0) {
        *rest = &[];
        return None;
    }
    match parse(input) {
        Ok((after, template)) => {
            *rest = after;
            Some(Ok(template))
        }
        Err(error) => {
            *rest = &[];
            Some(Err((input.first_chunk().map(|id| u16::from_be_bytes(*id)), error)))
        }
    }
}

/// Length and start of a variable-length field's content (RFC 7011 7).
#[inline]
pub fn variable_length(input: &[u8]) -> Option<(usize, usize)> {
    match *input {
        [255, high, low, ..] => Some((usize::from(u16::from_be_bytes([high, low])), 3)),
        [255, ..] | [] => None,
        [length, ..] => Some((usize::from(length), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_end_at_padding_and_at_impossible_lengths() {
        let body = [0, 2, 0, 4, 1, 0, 0, 6, 9, 9, 0, 0, 0, 0, 0, 0];
        let sets: Vec<_> = Sets::new(&body).collect();
        assert_eq!(sets.len(), 2);
        assert_eq!(sets[1], Ok(Set { id: 256, body: &[9, 9], missing: 0 }));
        for length in 0..4 {
            let body = [1, 0, 0, length, 7, 7, 7, 7];
            let sets: Vec<_> = Sets::new(&body).collect();
            assert_eq!(sets, [Err(WireError { offset: 2, reading: "set length", why: Why::Length(length.into()) })]);
        }
        assert_eq!(Sets::new(&[1, 0, 0, 9, 5]).next(), Some(Ok(Set { id: 256, body: &[5], missing: 4 })));
    }

    #[test]
    fn a_template_with_more_fields_than_octets_is_located() {
        let body = [1, 0, 255, 255, 0, 1, 0, 4];
        let Some(Err((id, error))) = Templates::new(&body, false).next() else { panic!("accepted") };
        assert_eq!((id, error.offset, error.reading), (Some(256), 8, "template field"));
    }

    #[test]
    fn enterprise_bit_takes_four_more_octets() {
        let body = [1, 0, 0, 2, 0x80, 1, 0, 8, 0, 0, 0x72, 0x79, 0, 2, 255, 255, 1, 1, 0, 0];
        let templates: Vec<_> = Templates::new(&body, false).map(|template| template.expect("valid")).collect();
        assert_eq!(
            templates[0].fields().collect::<Vec<_>>(),
            [
                Field { element: 1, enterprise: REVERSE, length: 8 },
                Field { element: 2, enterprise: 0, length: VARIABLE }
            ]
        );
        assert!(templates[1].is_withdrawal() && templates[1].id == 257);
    }
}
