//! What really flowed: each bit once, where it entered, spread over time as the
//! product spreads it.

use std::collections::BTreeMap;
use std::io::Write;

use benocs_model::span;
use serde::Serialize;

use super::network::{IfId, Network, RouterId};
use super::services::Services;

pub const WINDOW_MS: i64 = 300_000;

/// What a line of the truth is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub src_as: u32,
    pub handover_as: u32,
    pub next_as: u32,
    pub dst_as: u32,
    pub ingress: RouterId,
    pub in_if: IfId,
    pub egress: RouterId,
    pub out_if: IfId,
    /// Service and the name that was asked for, by number.
    pub service: Option<(u16, u16)>,
    pub proto: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// From the IP header on.
    pub octets: u64,
    /// As the router where the traffic entered counts: sFlow has the frame.
    pub octets_exported: u64,
    pub packets: u64,
    /// Records that a router without sampling exports; of sFlow, samples.
    pub flows: u64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.octets += other.octets;
        self.octets_exported += other.octets_exported;
        self.packets += other.packets;
        self.flows += other.flows;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    windows: BTreeMap<(i64, Key), Sums>,
    pub totals: Sums,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Start, Unix ms; five minutes long.
    window: i64,
    src_as: u32,
    handover_as: u32,
    next_as: u32,
    dst_as: u32,
    ingress_router: &'a str,
    ingress_exporter: String,
    in_if: u32,
    in_if_name: &'a str,
    in_if_description: &'a str,
    egress_router: &'a str,
    egress_exporter: String,
    out_if: u32,
    out_if_name: &'a str,
    out_if_description: &'a str,
    service: Option<&'a str>,
    /// Registered domain of the name that was asked for.
    domain: Option<&'a str>,
    proto: u8,
    #[serde(flatten)]
    sums: Sums,
}

impl Truth {
    /// `octets`, `exported` and `packets` flowed evenly over [first, last]; flows count in the window of `last`.
    pub fn add(&mut self, key: Key, first: i64, last: i64, sums: Sums) {
        self.totals += sums;
        span::spread(first, last, sums.octets, sums.packets, WINDOW_MS, |window, octets, packets, is_last| {
            *self.windows.entry((window, key)).or_default() +=
                Sums { octets, packets, octets_exported: 0, flows: if is_last { sums.flows } else { 0 } };
        });
        span::spread(first, last, sums.octets_exported, 0, WINDOW_MS, |window, octets, _, _| {
            self.windows.entry((window, key)).or_default().octets_exported += octets;
        });
    }

    pub fn lines(&self) -> impl Iterator<Item = (i64, &Key, &Sums)> {
        self.windows.iter().map(|((window, key), sums)| (*window, key, sums))
    }

    /// JSON, a line each; at the end the totals.
    pub fn write(&self, out: &mut dyn Write, network: &Network, services: &Services) -> anyhow::Result<()> {
        for (window, key, sums) in self.lines() {
            let (in_if, out_if) = (network.interface(key.in_if), network.interface(key.out_if));
            let (ingress, egress) = (&network.routers[key.ingress], &network.routers[key.egress]);
            let line = Line {
                window,
                src_as: key.src_as,
                handover_as: key.handover_as,
                next_as: key.next_as,
                dst_as: key.dst_as,
                ingress_router: &ingress.name,
                ingress_exporter: ingress.address.to_string(),
                in_if: in_if.if_index,
                in_if_name: &in_if.name,
                in_if_description: &in_if.description,
                egress_router: &egress.name,
                egress_exporter: egress.address.to_string(),
                out_if: out_if.if_index,
                out_if_name: &out_if.name,
                out_if_description: &out_if.description,
                service: key.service.map(|(service, _)| services.rows[usize::from(service)].name.as_str()),
                domain: key.service.map(|(service, name)| services.domain(service, name)),
                proto: key.proto,
                sums: *sums,
            };
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        let from = self.windows.first_key_value().map(|entry| entry.0.0);
        let to = self.windows.last_key_value().map(|entry| entry.0.0 + WINDOW_MS);
        serde_json::to_writer(&mut *out, &serde_json::json!({"totals": self.totals, "from_ms": from, "to_ms": to}))?;
        out.write_all(b"\n")?;
        Ok(())
    }
}
