//! Exporters that fell silent: those that have sent regularly and do not any more.
//!
//! What is usual is learned: an exporter that pauses for long now and then is
//! given three of its pauses. What was learned is kept over a restart, and the
//! time that the collector itself was away is nobody's silence.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use benocs_runtime::state::{State, Tree};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::decode::ExporterStatus;

const TREE: &str = "exporters_heard";
/// An exporter is regular once it was heard in so many periods, each a fifth of the time to silence.
const REGULAR: u8 = 4;
const PERIODS: i64 = 5;
/// So many of its usual pauses are no silence.
const PAUSES: i64 = 3;
/// A longer time between two looks is a clock that was set, or a machine that slept.
const LOOK_MS_MAX: i64 = 30_000;
const KEEP_MS: i64 = 60_000;
/// Lines of one look; when a whole network falls silent, the rest is said in one.
const LINES_MAX: usize = 20;

/// What is known of an exporter's habits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    /// Unix ms.
    last_ms: i64,
    /// Its longest usual pause; forgotten slowly.
    pause_ms: i64,
    /// Periods that it was heard in, up to [`REGULAR`], and the number of the last.
    periods: u8,
    period: i64,
    silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Silent,
    /// After so many milliseconds.
    Returned(i64),
}

pub(crate) struct Silence {
    after_ms: i64,
    tree: Tree,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    heard: HashMap<u32, Heard, ahash::RandomState>,
    changed: Vec<u32>,
    /// Silence is measured from here at the earliest.
    since_ms: i64,
    looked_ms: i64,
    kept_ms: i64,
}

impl Silence {
    /// With what earlier starts learned.
    pub(crate) fn load(state: &State, after_s: u32, now_ms: i64) -> anyhow::Result<Self> {
        let tree = state.tree(TREE)?;
        let id = |key: Vec<u8>| Some(u32::from_be_bytes(key.try_into().ok()?));
        let heard = tree.entries::<Heard>().filter_map(|(key, heard)| Some((id(key)?, heard))).collect();
        let inner = Inner { heard, since_ms: now_ms, looked_ms: now_ms, kept_ms: now_ms, ..Inner::default() };
        Ok(Self { after_ms: i64::from(after_s.max(1)) * 1000, tree, inner: Mutex::new(inner) })
    }

    /// Looks at everybody, about once a second, and says what is new; the number that is silent.
    pub(crate) fn look(&self, exporters: &[ExporterStatus], now_ms: i64) -> anyhow::Result<usize> {
        let mut inner = self.inner.lock();
        if !(0..=LOOK_MS_MAX).contains(&(now_ms - inner.looked_ms)) {
            inner.since_ms = now_ms;
        }
        inner.looked_ms = now_ms;
        let mut lines = 0;
        for exporter in exporters {
            let Some(event) = inner.look(exporter.id, exporter.last_seen_ms, now_ms, self.after_ms) else { continue };
            lines += 1;
            if lines > LINES_MAX {
                continue;
            }
            let (address, name) = (exporter.address, exporter.name.as_deref().unwrap_or_default());
            match event {
                Event::Silent => {
                    let silent_s = inner.silent_ms(exporter.id, now_ms).unwrap_or_default() / 1000;
                    tracing::warn!(%address, name, silent_s, "exporter is silent: does it export, does a firewall drop it?");
                }
                Event::Returned(ms) => tracing::info!(%address, name, silent_s = ms / 1000, "exporter is back"),
            }
        }
        if lines > LINES_MAX {
            tracing::warn!(exporters = lines - LINES_MAX, "more exporters fell silent, or are back");
        }
        if now_ms - inner.kept_ms >= KEEP_MS || now_ms < inner.kept_ms {
            inner.keep(&self.tree, now_ms)?;
        }
        Ok(inner.heard.values().filter(|heard| heard.silent).count())
    }

    /// Puts what was learned where the next start finds it.
    pub(crate) fn keep(&self, now_ms: i64) -> anyhow::Result<()> {
        self.inner.lock().keep(&self.tree, now_ms)
    }

    /// Adds to the statuses what is known here.
    pub(crate) fn tell(&self, exporters: &mut [ExporterStatus]) {
        let inner = self.inner.lock();
        for exporter in exporters {
            let Some(heard) = inner.heard.get(&exporter.id) else { continue };
            exporter.last_seen_ms = exporter.last_seen_ms.or(Some(heard.last_ms));
            exporter.silent = heard.silent;
        }
    }
}

impl Inner {
    fn look(&mut self, id: u32, last_seen_ms: Option<i64>, now_ms: i64, after_ms: i64) -> Option<Event> {
        let period_ms = (after_ms / PERIODS).max(1);
        let since_ms = self.since_ms;
        let heard = match (self.heard.entry(id), last_seen_ms) {
            (Entry::Occupied(known), _) => known.into_mut(),
            (Entry::Vacant(_), None) => return None,
            (Entry::Vacant(new), Some(last_ms)) => {
                let period = last_ms.div_euclid(period_ms);
                self.changed.push(id);
                new.insert(Heard { last_ms, pause_ms: 0, periods: 1, period, silent: false })
            }
        };
        if let Some(last_ms) = last_seen_ms.filter(|last_ms| *last_ms != heard.last_ms) {
            let pause_ms = last_ms - heard.last_ms;
            let returned = heard.silent.then_some(Event::Returned(pause_ms));
            if !heard.silent {
                let measured_ms = (last_ms - heard.last_ms.max(since_ms)).max(0);
                heard.pause_ms = measured_ms.max(heard.pause_ms - heard.pause_ms / 64);
            }
            let period = last_ms.div_euclid(period_ms);
            if period != heard.period {
                heard.periods = (heard.periods + 1).min(REGULAR);
            }
            (heard.last_ms, heard.period, heard.silent) = (last_ms, period, false);
            self.changed.push(id);
            return returned;
        }
        let quiet_ms = now_ms - heard.last_ms.max(since_ms);
        if heard.silent || heard.periods < REGULAR || quiet_ms < after_ms.max(PAUSES * heard.pause_ms) {
            return None;
        }
        heard.silent = true;
        self.changed.push(id);
        Some(Event::Silent)
    }

    fn silent_ms(&self, id: u32, now_ms: i64) -> Option<i64> {
        self.heard.get(&id).map(|heard| now_ms - heard.last_ms)
    }

    fn keep(&mut self, tree: &Tree, now_ms: i64) -> anyhow::Result<()> {
        self.kept_ms = now_ms;
        self.changed.sort_unstable();
        self.changed.dedup();
        for id in self.changed.drain(..) {
            if let Some(heard) = self.heard.get(&id) {
                tree.put(&id.to_be_bytes(), heard)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER_MS: i64 = 300_000;
    const BEGIN: i64 = 1_750_000_000_000;

    /// A second after the other from `from_s`; the exporter sends where `sends` says so. Events with their second.
    fn run(inner: &mut Inner, seconds: std::ops::Range<i64>, sends: impl Fn(i64) -> bool) -> Vec<(i64, Event)> {
        let mut last = inner.heard.get(&1).map(|heard| heard.last_ms);
        let mut events = Vec::new();
        for second in seconds {
            let now_ms = BEGIN + second * 1000;
            if sends(second) {
                last = Some(now_ms);
            }
            events.extend(inner.look(1, last, now_ms, AFTER_MS).map(|event| (second, event)));
        }
        events
    }

    fn fresh() -> Inner {
        Inner { since_ms: BEGIN, ..Inner::default() }
    }

    #[test]
    fn silence_and_return_are_said_once() {
        let mut inner = fresh();
        let events = run(&mut inner, 0..2000, |second| !(600..1500).contains(&second));
        assert_eq!(events, [(599 + 300, Event::Silent), (1500, Event::Returned(901_000))]);
    }

    #[test]
    fn one_that_does_not_send_regularly_is_never_silent() {
        let mut inner = fresh();
        assert_eq!(run(&mut inner, 0..5000, |second| second < 100), []);
    }

    #[test]
    fn long_pauses_that_are_usual_are_no_silence() {
        let mut inner = fresh();
        let every_ten_minutes = |second: i64| second % 600 == 0 && second < 20_000;
        let events = run(&mut inner, 0..30_000, every_ten_minutes);
        // Learning: its first pauses are longer than the setting.
        assert_eq!(events.last(), Some(&(19_800 + 1800, Event::Silent)), "{events:?}");
        let learned = events.iter().filter(|(second, _)| (3000..19_900).contains(second)).count();
        assert_eq!(learned, 0, "{events:?}");
    }

    #[test]
    fn a_restart_goes_on_where_it_was() {
        let state = State::temporary().unwrap();
        let silence = Silence::load(&state, 300, BEGIN).unwrap();
        {
            let mut inner = silence.inner.lock();
            run(&mut inner, 0..600, |_| true);
        }
        silence.keep(BEGIN + 600_000).unwrap();
        // An hour away: that is no silence of the exporter, but what follows is.
        let back = Silence::load(&state, 300, BEGIN + 4_200_000).unwrap();
        let mut inner = back.inner.lock();
        assert_eq!(run(&mut inner, 4200..4600, |_| false), [(4500, Event::Silent)]);
        inner.keep(&back.tree, BEGIN).unwrap();
        drop(inner);
        // Silent before: not said again; its return is.
        let again = Silence::load(&state, 300, BEGIN + 5_000_000).unwrap();
        let mut inner = again.inner.lock();
        let events = run(&mut inner, 5000..6000, |second| second >= 5900);
        assert_eq!(events, [(5900, Event::Returned(5_900_000 - 599_000))]);
    }

    #[test]
    fn a_clock_that_is_set_makes_nobody_silent() {
        let state = State::temporary().unwrap();
        let silence = Silence::load(&state, 300, BEGIN).unwrap();
        run(&mut silence.inner.lock(), 0..600, |_| true);
        silence.inner.lock().looked_ms = BEGIN + 599_000;
        let shared = crate::decode::Shared::with_ids_from(
            crate::decode::Config::default(),
            vec![benocs_model::network::Exporter {
                id: 1,
                address: benocs_model::Address::from_v4([192, 0, 2, 1]),
                name: None,
            }],
            1,
        );
        let mut exporters = shared.status();
        exporters[0].last_seen_ms = Some(BEGIN + 599_000);
        assert_eq!(silence.look(&exporters, BEGIN + 90_000_000).unwrap(), 0);
        assert_eq!(silence.look(&exporters, BEGIN + 90_001_000).unwrap(), 0);
        silence.tell(&mut exporters);
        assert!(!exporters[0].silent);
    }
}
