//! The two packings of Parquet's `Encodings.md`: runs and bit-packed groups, and
//! differences in blocks. Values are packed from the lowest bit on.

/// Values of a block of differences, and of each of its four parts.
const BLOCK: usize = 128;
const PART: usize = 32;

/// ULEB128.
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Bits that the greatest value needs.
pub(super) fn width(greatest: u64) -> u32 {
    u64::BITS - greatest.leading_zeros()
}

/// The same value `count` times.
pub(super) fn run(value: u32, count: usize, width: u32, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Runs where a value repeats, groups of eight packed values elsewhere.
pub(super) fn hybrid(codes: &[u32], width: u32, out: &mut Vec<u8>) {
    /// A shorter run costs more than its values packed.
    const RUN_MIN: usize = 24;
    let mut literal = 0;
    let mut at = 0;
    while at < codes.len() {
        let same = codes[at..].iter().take_while(|code| **code == codes[at]).count();
        // Groups are of eight: the run fills up the one that is open.
        let fill = (8 - (at - literal) % 8) % 8;
        if same >= fill + RUN_MIN {
            groups(&codes[literal..at + fill], width, out);
            run(codes[at], same - fill, width, out);
            literal = at + same;
        }
        at += same;
    }
    groups(&codes[literal..], width, out);
}

fn groups(codes: &[u32], width: u32, out: &mut Vec<u8>) {
    if codes.is_empty() {
        return;
    }
    let count = codes.len().div_ceil(8);
    varint((count as u64) << 1 | 1, out);
    let end = out.len() + count * width as usize;
    bits(codes.iter().map(|code| u64::from(*code)), width, out);
    out.resize(end, 0);
}

/// Each value in `width` bits; the last octet is padded with zeros.
fn bits(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let mut word = 0u64;
    let mut filled = 0;
    for value in values {
        word |= value << filled;
        filled += width;
        if filled >= u64::BITS {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= u64::BITS;
            // What did not fit; a shift by all bits is none.
            word = value.checked_shr(width - filled).unwrap_or(0);
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// DELTA_BINARY_PACKED of 32-bit numbers: differences wrap.
pub(super) fn differences_32(values: impl ExactSizeIterator<Item = i32>, out: &mut Vec<u8>) {
    differences(
        values.map(i64::from),
        |to, from| i64::from((to as i32).wrapping_sub(from as i32)),
        |delta, least| u64::from((delta as u32).wrapping_sub(least as u32)),
        out,
    );
}

/// DELTA_BINARY_PACKED of 64-bit numbers: differences wrap.
pub(super) fn differences_64(values: impl ExactSizeIterator<Item = i64>, out: &mut Vec<u8>) {
    differences(values, i64::wrapping_sub, |delta, least| delta.wrapping_sub(least) as u64, out);
}

fn differences(
    mut values: impl ExactSizeIterator<Item = i64>,
    subtract: impl Fn(i64, i64) -> i64,
    above: impl Fn(i64, i64) -> u64,
    out: &mut Vec<u8>,
) {
    varint(BLOCK as u64, out);
    varint((BLOCK / PART) as u64, out);
    varint(values.len() as u64, out);
    let mut last = values.next().unwrap_or(0);
    varint(zigzag(last), out);
    let mut block = [0i64; BLOCK];
    loop {
        let mut count = 0;
        for (slot, value) in block.iter_mut().zip(&mut values) {
            *slot = subtract(value, last);
            last = value;
            count += 1;
            if count == BLOCK {
                break;
            }
        }
        if count == 0 {
            return;
        }
        let deltas = &block[..count];
        let least = deltas.iter().copied().min().unwrap_or(0);
        varint(zigzag(least), out);
        let widths_at = out.len();
        out.resize(widths_at + BLOCK / PART, 0);
        for (part, deltas) in deltas.chunks(PART).enumerate() {
            let greatest = deltas.iter().map(|delta| above(*delta, least)).fold(0, |all, bits| all | bits);
            let width = width(greatest);
            out[widths_at + part] = width as u8;
            let end = out.len() + PART * width as usize / 8;
            if width > 0 {
                bits(deltas.iter().map(|delta| above(*delta, least)), width, out);
            }
            out.resize(end, 0);
        }
    }
}
