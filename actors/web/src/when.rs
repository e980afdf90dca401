//! Times as people and scripts write them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// UTC milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds as a number, or RFC 3339, or `now`, or backwards from now: `-90s`, `-10m`, `-6h`, `-30d`.
pub fn parse(value: &Value, now_ms: i64) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let text = value.as_str()?.trim();
    if text == "now" {
        return Some(now_ms);
    }
    if let Some(back) = text.strip_prefix('-') {
        let unit = back.chars().last()?;
        let count: i64 = back.get(..back.len() - unit.len_utf8())?.parse().ok()?;
        let unit_ms = match unit {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return None,
        };
        return count.checked_mul(unit_ms).and_then(|span| now_ms.checked_sub(span));
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

/// RFC 3339 in UTC, to the second.
pub fn text(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000))
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form_of_a_time_is_read() {
        let now = 1_700_000_000_000;
        assert_eq!(parse(&json!(5), now), Some(5));
        assert_eq!(parse(&json!("now"), now), Some(now));
        assert_eq!(parse(&json!("-10m"), now), Some(now - 600_000));
        assert_eq!(parse(&json!("2023-11-14T22:13:20Z"), now), Some(now));
        assert_eq!(parse(&json!("2023-11-14T23:13:20+01:00"), now), Some(now));
        for wrong in
            [json!("-m"), json!("-5y"), json!("yesterday"), json!(null), json!("-9223372036854775807d"), json!("-5ü")]
        {
            assert_eq!(parse(&wrong, now), None, "{wrong}");
        }
        assert_eq!(text(now), "2023-11-14T22:13:20Z");
    }
}
