//! NetFlow version 9 (RFC 3954). Sets, fields and templates are IPFIX's, older.
//!
//! | version u16 = 9 | count u16 | sysUptime u32 ms | unix_secs u32 | sequence u32 | source id u32 | flow sets |
//! options template: | id u16 | scope length u16 | option length u16 | pairs of (type u16, length u16) |

use nom::Parser;
use nom::number::complete::{be_u16, be_u32};

use crate::error::{Why, WireError, located};
use crate::ipfix::{FIRST_DATA_SET, Template, next_template, take_fields};

pub const VERSION: u16 = 9;
pub const HEADER_LEN: usize = 20;
pub const TEMPLATE_SET: u16 = 0;
pub const OPTIONS_TEMPLATE_SET: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Records of all kinds; exporters disagree on what that is.
    pub count: u16,
    pub sys_uptime_ms: u32,
    pub unix_secs: u32,
    /// Datagrams exported before this one.
    pub sequence: u32,
    pub source_id: u32,
}

pub fn header(input: &[u8]) -> Result<(Header, &[u8]), WireError> {
    let (rest, (_, count, sys_uptime_ms, unix_secs, sequence, source_id)) =
        located(input, "netflow 9 header", (be_u16, be_u16, be_u32, be_u32, be_u32, be_u32).parse(input))?;
    Ok((Header { count, sys_uptime_ms, unix_secs, sequence, source_id }, rest))
}

/// The IPFIX element that says the same as a scope type (RFC 3954 6.1); 0 for the system and what has none.
pub fn scope_element(scope_type: u16) -> u16 {
    match scope_type {
        2 => 10,
        3 => 141,
        5 => 145,
        _ => 0,
    }
}

/// Templates of a flow set's body, in order. Ends after the first that cannot be one.
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

impl<'a> Iterator for Templates<'a> {
    type Item = Result<Template<'a>, (Option<u16>, WireError)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (whole, options) = (self.whole, self.options);
        next_template(&mut self.rest, |input| parse_template(whole, input, options))
    }
}

fn parse_template<'a>(whole: &'a [u8], input: &'a [u8], options: bool) -> Result<(&'a [u8], Template<'a>), WireError> {
    let (rest, (id, size)) = located(whole, "template header", (be_u16, be_u16).parse(input))?;
    if id < FIRST_DATA_SET {
        let offset = whole.len() - input.len();
        return Err(WireError { offset, reading: "template id", why: Why::Value(id.into()) });
    }
    let (rest, scope_count, field_count) = if options {
        // RFC 3954 6.1: lengths in octets, of pairs.
        let (after, options_len) = located(whole, "option length", be_u16(rest))?;
        if size % 4 != 0 || options_len % 4 != 0 {
            let offset = whole.len() - rest.len();
            return Err(WireError { offset, reading: "option lengths", why: Why::Length(options_len.into()) });
        }
        (after, usize::from(size / 4), usize::from(size / 4) + usize::from(options_len / 4))
    } else {
        (rest, 0, usize::from(size))
    };
    let (rest, fields) = take_fields(whole, rest, field_count, false)?;
    Ok((rest, Template { id, options, field_count, scope_count, fields, enterprise_bit: false }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfix::Field;

    #[test]
    fn options_template_counts_its_scope_in_octets() {
        let body = [1, 4, 0, 4, 0, 8, 0, 1, 0, 4, 0, 34, 0, 4, 0, 35, 0, 1, 0, 0];
        let templates: Vec<_> = Templates::new(&body, true).collect();
        let [Ok(template)] = templates[..] else { panic!("{templates:?}") };
        assert_eq!((template.id, template.scope_count, template.field_count), (260, 1, 3));
        assert_eq!(template.fields().nth(1), Some(Field { element: 34, enterprise: 0, length: 4 }));
    }

    #[test]
    fn options_template_without_scope_is_taken() {
        let body = [1, 4, 0, 0, 0, 4, 0, 34, 0, 4];
        assert!(matches!(
            Templates::new(&body, true).next(),
            Some(Ok(Template { scope_count: 0, field_count: 1, .. }))
        ));
    }
}
