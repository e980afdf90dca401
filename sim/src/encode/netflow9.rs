//! NetFlow version 9 (RFC 3954).
//!
//! | version = 9 | count | sysUptime | unix_secs | sequence | source id | flow set | ... |

use super::flow::{Context, Field, Flow, record, uptime};
use super::{Put as _, set_u16};

pub const HEADER_OCTETS: usize = 20;
pub const TEMPLATE_SET: u16 = 0;
pub const OPTIONS_TEMPLATE_SET: u16 = 1;

/// A datagram that is being filled. `count` is of records, templates among them (RFC 3954, 5.1).
pub struct Datagram {
    out: Vec<u8>,
    count: u16,
}

impl Datagram {
    /// `now_ms` should be a whole second for collectors to find the exact start of the device;
    /// `sequence` counts datagrams.
    pub fn new(now_ms: i64, boot_ms: i64, sequence: u32, source_id: u32) -> Self {
        let mut out = Vec::with_capacity(1472);
        out.u16(9);
        out.u16(0);
        let second = now_ms.div_euclid(1000);
        out.u32(uptime(second * 1000, boot_ms));
        out.u32(second as u32);
        out.u32(sequence);
        out.u32(source_id);
        Self { out, count: 0 }
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
            self.count += 1;
        }
        self.end(start);
    }

    /// RFC 3954, 6.1: lengths of scope and options in octets; scope 1 is the system.
    pub fn options_template(&mut self, id: u16, scope: &[Field], options: &[Field]) {
        let start = self.begin(OPTIONS_TEMPLATE_SET);
        self.out.u16(id);
        self.out.u16(scope.len() as u16 * 4);
        self.out.u16(options.len() as u16 * 4);
        for field in scope.iter().chain(options) {
            self.out.u16(field.0);
            self.out.u16(field.1);
        }
        self.count += 1;
        self.end(start);
    }

    /// One options record, already encoded.
    pub fn options(&mut self, id: u16, octets: &[u8]) {
        let start = self.begin(id);
        self.out.extend_from_slice(octets);
        self.count += 1;
        self.end(start);
    }

    pub fn data(&mut self, id: u16, fields: &[Field], flows: &[Flow], context: &Context) {
        let start = self.begin(id);
        for flow in flows {
            record(&mut self.out, fields, flow, context);
            self.count += 1;
        }
        self.end(start);
    }

    pub fn finish(mut self) -> Vec<u8> {
        set_u16(&mut self.out, 2, self.count);
        self.out
    }

    fn begin(&mut self, id: u16) -> usize {
        let start = self.out.len();
        self.out.u16(id);
        self.out.u16(0);
        start
    }

    /// Pads to four octets (RFC 3954, 5.3) and notes the length.
    fn end(&mut self, start: usize) {
        while !(self.out.len() - start).is_multiple_of(4) {
            self.out.u8(0);
        }
        let length = (self.out.len() - start) as u16;
        set_u16(&mut self.out, start + 2, length);
    }
}
