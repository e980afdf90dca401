//! Handles of the enricher's metrics, taken once.

use benocs_model::count::Verdict;
use benocs_runtime::metric;
use metrics::{Counter, Gauge};

use crate::join::Tally;

pub(crate) struct Metrics {
    rows: Counter,
    named: Counter,
    ambiguous: Counter,
    unnamed: Counter,
    verdicts: [Counter; Verdict::ALL.len()],
    pub(crate) waiting: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let octets = |result: &'static str| metrics::counter!(metric::ENRICHER_NAMED_OCTETS, "result" => result);
        Self {
            rows: metrics::counter!(metric::ENRICHER_ROWS),
            named: octets("named"),
            ambiguous: octets("ambiguous"),
            unnamed: octets("unnamed"),
            verdicts: std::array::from_fn(|code| {
                let verdict = Verdict::ALL[code];
                metrics::counter!(metric::ENRICHER_VERDICT_ROWS, "verdict" => verdict.text())
            }),
            waiting: metrics::gauge!(metric::ENRICHER_WAITING),
        }
    }

    pub(crate) fn add(&self, tally: &Tally) {
        self.rows.increment(tally.rows);
        self.named.increment(tally.named_octets);
        self.ambiguous.increment(tally.ambiguous_octets);
        self.unnamed.increment(tally.unnamed_octets);
        for (counter, rows) in self.verdicts.iter().zip(tally.verdict_rows) {
            counter.increment(rows);
        }
    }
}
