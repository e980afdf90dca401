//! Encoders: facts to bytes. Each follows its standard and nothing else.

pub mod bgp;
pub mod dns;
pub mod dnstap;
pub mod flow;
pub mod ipfix;
pub mod link_state;
pub mod netflow5;
pub mod netflow9;
pub mod sflow;

/// Appends in network order.
pub(crate) trait Put {
    fn u8(&mut self, value: u8);
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    /// The low `len` octets of `value`.
    fn uint(&mut self, value: u64, len: u16);
}

impl Put for Vec<u8> {
    fn u8(&mut self, value: u8) {
        self.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn uint(&mut self, value: u64, len: u16) {
        let octets = value.to_be_bytes();
        let len = usize::from(len);
        for _ in 8..len {
            self.push(0);
        }
        self.extend_from_slice(&octets[8 - len.min(8)..]);
    }
}

/// Overwrites two octets at `offset`, which must be within.
pub(crate) fn set_u16(buffer: &mut [u8], offset: usize, value: u16) {
    buffer[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn set_u32(buffer: &mut [u8], offset: usize, value: u32) {
    buffer[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn set_u64(buffer: &mut [u8], offset: usize, value: u64) {
    buffer[offset..offset + 8].copy_from_slice(&value.to_be_bytes());
}
