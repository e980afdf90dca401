//! Errors of parsers: where in the input, what was being read, why it could not be.

use nom::{Err, IResult};

/// A parse that failed: located, without a copy of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("octet {offset}: {reading}: {why}")]
pub struct WireError {
    /// From the start of what the parser was given.
    pub offset: usize,
    pub reading: &'static str,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("input ends, {left} octets left")]
    Truncated { left: usize },
    #[error("length {0} is impossible")]
    Length(u32),
    #[error("value {0} is not allowed")]
    Value(u32),
}

impl WireError {
    pub fn truncated(whole: &[u8], rest: &[u8], reading: &'static str) -> Self {
        Self { offset: whole.len() - rest.len().min(whole.len()), reading, why: Why::Truncated { left: rest.len() } }
    }
}

/// The remaining input and the value, or where in `whole` the input ended.
pub(crate) fn located<'a, T>(
    whole: &'a [u8],
    reading: &'static str,
    result: IResult<&'a [u8], T>,
) -> Result<(&'a [u8], T), WireError> {
    result.map_err(|error| match error {
        Err::Error(error) | Err::Failure(error) => WireError::truncated(whole, error.input, reading),
        Err::Incomplete(_) => WireError::truncated(whole, &[], reading),
    })
}
