//! IPFIX (RFC 7011).
//!
//! | version = 10 | length | export time | sequence | observation domain | set | ... |

use super::flow::{Context, Field, Flow, record};
use super::{Put as _, set_u16};

pub const HEADER_OCTETS: usize = 16;
pub const TEMPLATE_SET: u16 = 2;
pub const OPTIONS_TEMPLATE_SET: u16 = 3;

/// A message that is being filled.
pub struct Message {
    out: Vec<u8>,
}

impl Message {
    /// `sequence` counts data records before this message (RFC 7011, 3.1).
    pub fn new(now_ms: i64, sequence: u32, domain: u32) -> Self {
        let mut out = Vec::with_capacity(1472);
        out.u16(10);
        out.u16(0);
        out.u32(now_ms.div_euclid(1000) as u32);
        out.u32(sequence);
        out.u32(domain);
        Self { out }
    }

    pub fn templates(&mut self, templates: &[(u16, &[Field])]) {
        let start = self.begin(TEMPLATE_SET);
        for (id, fields) in templates {
            self.out.u16(*id);
            self.out.u16(fields.len() as u16);
            for field in *fields {
                self.out.u16(field.0);
                self.out.u16(field.1);
            }
        }
        self.end(start);
    }

    /// RFC 7011, 3.4.2.2: counts of all fields and of scope fields.
    pub fn options_template(&mut self, id: u16, scope: &[Field], options: &[Field]) {
        let start = self.begin(OPTIONS_TEMPLATE_SET);
        self.out.u16(id);
        self.out.u16((scope.len() + options.len()) as u16);
        self.out.u16(scope.len() as u16);
        for field in scope.iter().chain(options) {
            self.out.u16(field.0);
            self.out.u16(field.1);
        }
        self.end(start);
    }

    /// A set of records of any kind, already encoded.
    pub fn records(&mut self, id: u16, octets: &[u8]) {
        self.options(id, octets);
    }

    /// One options record, already encoded; it counts as a data record.
    pub fn options(&mut self, id: u16, octets: &[u8]) {
        let start = self.begin(id);
        self.out.extend_from_slice(octets);
        self.end(start);
    }

    pub fn data(&mut self, id: u16, fields: &[Field], flows: &[Flow], context: &Context) {
        let start = self.begin(id);
        for flow in flows {
            record(&mut self.out, fields, flow, context);
        }
        self.end(start);
    }

    pub fn finish(mut self) -> Vec<u8> {
        let length = self.out.len() as u16;
        set_u16(&mut self.out, 2, length);
        self.out
    }

    fn begin(&mut self, id: u16) -> usize {
        let start = self.out.len();
        self.out.u16(id);
        self.out.u16(0);
        start
    }

    fn end(&mut self, start: usize) {
        let length = (self.out.len() - start) as u16;
        set_u16(&mut self.out, start + 2, length);
    }
}
