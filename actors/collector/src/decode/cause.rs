//! Why something that was received did not become a row.

use benocs_runtime::metric;
use metrics::Counter;

macro_rules! causes {
    ($($(#[$doc:meta])* $cause:ident $text:literal),* $(,)?) => {
        /// Label `cause` of [`metric::DROPPED`], and key of the exporter's errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Cause { $($(#[$doc])* $cause),* }

        impl Cause {
            pub const ALL: &'static [Cause] = &[$(Cause::$cause),*];

            pub const fn text(self) -> &'static str {
                match self { $(Cause::$cause => $text),* }
            }
        }
    };
}

causes! {
    /// Neither NetFlow, IPFIX nor sFlow.
    UnknownProtocol "unknown_protocol",
    /// The datagram ends before what it announces.
    Truncated "truncated",
    /// A header without anything behind it.
    Empty "empty",
    /// A set with a length that cannot be.
    SetLength "set_length",
    /// A set with an id that is reserved.
    SetReserved "set_reserved",
    /// A template that cannot be: no fields, no length, an id that is reserved.
    TemplateInvalid "template_invalid",
    /// More templates, fields or domains than the configuration allows.
    TemplateLimit "template_limit",
    /// More samplers or names in options than the configuration allows.
    OptionsLimit "options_limit",
    /// A set without template, and no room to keep it.
    PendingFull "pending_full",
    /// A set whose template did not come in time.
    PendingExpired "pending_expired",
    /// A record with a variable length past the end of its set.
    RecordLength "record_length",
    /// A record that describes no traffic (statistics of the exporter, for example).
    NotAFlow "not_a_flow",
    /// More exporters than the configuration allows.
    ExporterLimit "exporter_limit",
    /// A sample that cannot be read.
    SampleInvalid "sample_invalid",
    /// A sample of a kind that is not known, or without a packet.
    SampleUnknown "sample_unknown",
    /// A packet that the device discarded: it is no traffic.
    SampleDrop "sample_drop",
    /// A datagram beyond what one exporter may send a second.
    RateLimited "rate_limited",
    /// A row that found the queue of the log full.
    Mailbox "mailbox",
    /// A row that the full log refused.
    LogFull "log_full",
}

/// Counts by cause; takes no room of its own before there is something to count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes(Option<Box<[u64; Cause::ALL.len()]>>);

impl Causes {
    #[inline]
    pub fn add(&mut self, cause: Cause, count: u64) {
        if count > 0 {
            self.0.get_or_insert_default()[cause as usize] += count;
        }
    }

    pub fn get(&self, cause: Cause) -> u64 {
        self.0.as_ref().map_or(0, |counts| counts[cause as usize])
    }

    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Those that happened, by their texts.
    pub fn by_text(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.iter().map(|(cause, count)| (cause.text(), count)).collect()
    }

    /// Those that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.iter().map(|cause| (*cause, self.get(*cause))).filter(|(_, count)| *count > 0)
    }
}

/// Handles of [`metric::DROPPED`], one a cause.
pub(crate) struct Counters(Vec<Counter>);

impl Counters {
    pub(crate) fn new(actor: &'static str) -> Self {
        let counter = |cause: &Cause| metrics::counter!(metric::DROPPED, "actor" => actor, "cause" => cause.text());
        Self(Cause::ALL.iter().map(counter).collect())
    }

    pub(crate) fn add(&self, cause: Cause, count: u64) {
        if let Some(counter) = self.0.get(cause as usize) {
            counter.increment(count);
        }
    }
}
