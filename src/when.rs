//! Moments as people write them: RFC 3339, `now`, or back from now (`-10m`, `-1h30m`).

use anyhow::{Context as _, bail};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// UTC milliseconds of a moment, relative ones from `now_ms`.
pub fn parse(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(back) = text.strip_prefix('-') {
        return Ok(now_ms - duration_ms(back)?);
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .with_context(|| format!("{text:?} is not a time: write 2026-01-31T12:00:00Z, -10m or now"))?;
    Ok((moment.unix_timestamp_nanos() / 1_000_000) as i64)
}

/// "90s", "10m", "1h30m", "2d", "1w".
pub fn duration_ms(text: &str) -> anyhow::Result<i64> {
    let mut total = 0i64;
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let unit = match character {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            'w' => 604_800_000,
            _ => bail!("{text:?} is not a duration: write 90s, 10m, 1h30m, 2d or 1w"),
        };
        let count: i64 =
            digits.parse().with_context(|| format!("{text:?} is not a duration: write 90s, 10m, 1h30m, 2d or 1w"))?;
        total = count.checked_mul(unit).and_then(|ms| total.checked_add(ms)).context("the duration is too long")?;
        digits.clear();
    }
    if !digits.is_empty() || text.is_empty() {
        bail!("{text:?} lacks a unit: write 90s, 10m, 1h30m, 2d or 1w");
    }
    Ok(total)
}

pub fn now_ms() -> i64 {
    (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64
}

pub fn rfc3339(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_durations() -> anyhow::Result<()> {
        assert_eq!(parse("now", 7)?, 7);
        assert_eq!(parse("-10m", 600_001)?, 1);
        assert_eq!(parse("-1h30m", 5_400_000)?, 0);
        assert_eq!(parse("1970-01-01T00:00:01.5Z", 0)?, 1_500);
        assert_eq!(parse("1970-01-01T01:00:00+01:00", 0)?, 0);
        for wrong in ["", "10", "-10", "-", "-10x", "yesterday", "-99999999999999999w"] {
            assert!(parse(wrong, 0).is_err(), "{wrong}");
        }
        Ok(())
    }
}
