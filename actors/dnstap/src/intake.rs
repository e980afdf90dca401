//! From a frame to an answer of a batch.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use benocs_model::address::Address;
use benocs_model::names::{AnswerRef, ClientPrefix, NameBatch, ServiceRules, name_hash};
use benocs_wire::dns::{self, Outcome, Resolution};
use benocs_wire::dnstap::{self, MESSAGE_TYPES, MessageType};

use crate::actor::ResolverStatus;
use crate::config::Config;
use crate::metrics::{CAUSES, Cause, Metrics};
use crate::namer::{Given, Namer};

/// A resolver's clock is believed this far from ours.
const CLOCK_SKEW_S: u64 = 86_400;

/// Totals since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub frames: [u64; MESSAGE_TYPES.len()],
    pub answers: u64,
    pub dropped: [u64; CAUSES.len()],
    /// Times that were replaced by ours.
    pub clocks: u64,
}

pub(crate) struct Intake {
    used: [bool; MESSAGE_TYPES.len()],
    client_prefix: ClientPrefix,
    pub namer: Namer,
    pub batch: NameBatch,
    resolution: Resolution,
    addresses: Vec<(Address, u32)>,
    aliases: Vec<(u64, u32)>,
    metrics: Metrics,
    pub totals: Totals,
    /// State that cannot be written ends the process.
    pub failed: Option<anyhow::Error>,
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

impl Intake {
    pub fn new(config: &Config, client_prefix: ClientPrefix, namer: Namer) -> Self {
        let mut used = [false; MESSAGE_TYPES.len()];
        config.messages.iter().for_each(|kind| used[kind.code().index()] = true);
        Self {
            used,
            client_prefix,
            namer,
            batch: NameBatch::new(client_prefix),
            resolution: Resolution::default(),
            addresses: Vec::new(),
            aliases: Vec::new(),
            metrics: Metrics::new(),
            totals: Totals::default(),
            failed: None,
        }
    }

    pub fn take_batch(&mut self) -> NameBatch {
        std::mem::replace(&mut self.batch, NameBatch::new(self.client_prefix))
    }

    pub fn set_rules(&mut self, rules: ServiceRules) -> anyhow::Result<()> {
        self.namer.set_rules(rules)
    }

    pub fn drop(&mut self, cause: Cause) {
        self.metrics.drop(cause);
        self.totals.dropped[cause as usize] += 1;
    }

    /// One data frame.
    pub fn frame(&mut self, payload: &[u8], resolver: &mut ResolverStatus) {
        resolver.frames += 1;
        let tap = match dnstap::parse(payload) {
            Ok(tap) => tap,
            Err(_) => return self.drop(Cause::Malformed),
        };
        if resolver.name.is_empty() && !tap.identity.is_empty() {
            resolver.name = tap.identity.escape_ascii().to_string();
            resolver.version = tap.version.escape_ascii().to_string();
        }
        let kind = tap.kind.index();
        self.metrics.frame(kind);
        self.totals.frames[kind] += 1;
        if !self.used[kind] || tap.response_message.is_empty() {
            return;
        }
        match dns::resolve(tap.response_message, &mut self.resolution) {
            Ok(Outcome::Resolved) => {}
            Ok(_) => return,
            Err(_) => return self.drop(Cause::MalformedDns),
        }
        let client = if tap.kind == MessageType::CLIENT_RESPONSE { tap.query_ip() } else { None };
        let now_s = now_ms() as u64 / 1000;
        let claimed = tap.response_time.or(tap.query_time).map_or(0, |(seconds, _)| seconds);
        let time_s = if claimed.abs_diff(now_s) <= CLOCK_SKEW_S {
            claimed
        } else {
            self.totals.clocks += 1;
            now_s
        };
        if self.answer(client, time_s as u32) {
            resolver.answers += 1;
            resolver.last_ms = Some(now_ms());
        }
    }

    fn answer(&mut self, client: Option<IpAddr>, time_s: u32) -> bool {
        let asked = self.resolution.asked.wire();
        let service = match self.namer.service(asked) {
            Ok(Given::Id(id)) => id,
            Ok(Given::Nothing) => return false,
            Ok(Given::Full) => {
                self.drop(Cause::ServicesFull);
                return false;
            }
            Err(error) => {
                self.failed = Some(error);
                return false;
            }
        };
        self.addresses.clear();
        self.addresses.extend(self.resolution.addresses.iter().map(|(octets, ttl_s)| (Address(*octets), *ttl_s)));
        self.aliases.clear();
        self.aliases.extend(self.resolution.aliases.iter().map(|(name, ttl_s)| (name_hash(name.wire()), *ttl_s)));
        if self.addresses.is_empty() && client.is_some() {
            return false;
        }
        self.batch.push(AnswerRef {
            time_s,
            client: client.map(Address::from),
            asked: name_hash(asked),
            service,
            addresses: &self.addresses,
            aliases: &self.aliases,
        });
        self.totals.answers += 1;
        self.metrics.answers.increment(1);
        true
    }
}
