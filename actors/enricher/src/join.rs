//! The join, a batch of rows at a time.
//!
//!   rows --group by exporter--> look up dst, src (one table per exporter) --> step to the exit
//!        (again in each next router's table) --> names --> verdict --> columns
//!
//! What repeats is looked up once: interfaces per exporter, paths by their number,
//! next hops by address. A row costs no lock and no allocation of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, Field, Int64Type, Schema, UInt8Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use benocs_model::address::Address;
use benocs_model::count::{self, Port, Reason, Sighting, Verdict};
use benocs_model::flow::{self, Column, Observation, quality};
use benocs_model::names::{NameReader, NameView, Named};
use benocs_model::network::Boundary;
use benocs_model::route::{Found, PathEntry, PeerId, Provenance, RouteReader, RouteRef, RouteView, Vantage};
use benocs_model::span;
use benocs_model::tables::Tables;

use crate::config::Config;
use crate::coverage::{Coverage, Limits};
use crate::exits::Exits;
use crate::reference::{PortInfo, Reference, SiteId, Step};

/// Routers that are asked one after the other where traffic leaves.
const STEPS_MAX: usize = 3;
/// Building the index takes at most one part in so many of the time.
const REBUILD_SHARE: u32 = 50;

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("flow batch lacks column {0}: it was written by another version")]
    Missing(&'static str),
    #[error("flow column {0} has another type than its schema says")]
    Type(&'static str),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// What one batch came to; octets are scaled by sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub rows: u64,
    pub named_octets: u64,
    pub ambiguous_octets: u64,
    pub unnamed_octets: u64,
    pub verdict_rows: [u64; Verdict::ALL.len()],
}

/// A batch with its derived columns, and the paths that it is the first to refer to.
#[derive(Debug)]
pub struct Joined {
    pub rows: RecordBatch,
    pub paths: Vec<PathEntry>,
    pub tally: Tally,
}

/// Of a path, what rows need.
#[derive(Clone, Copy, Debug)]
struct PathInfo {
    /// 0 where nothing is known yet.
    hash: u64,
    /// The store was told of it.
    told: bool,
    next_hop: Address,
    /// 0 where the path has no AS of others.
    first_as: u32,
    origin_as: u32,
}

impl PathInfo {
    const EMPTY: Self = Self { hash: 0, told: false, next_hop: Address::UNSPECIFIED, first_as: 0, origin_as: 0 };
}

/// Paths by their number in the view, which is dense; a number that changed hands shows by the hash.
struct PathCache {
    slots: Vec<PathInfo>,
    slots_max: usize,
}

impl PathCache {
    fn new(slots_max: usize) -> Self {
        Self { slots: Vec::new(), slots_max: slots_max.max(1) }
    }

    #[inline]
    fn get(&mut self, route: RouteRef, found: &Found<'_>) -> &mut PathInfo {
        let slot = route.path_number() as usize % self.slots_max;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, PathInfo::EMPTY);
        }
        let info = &mut self.slots[slot];
        if info.hash != found.path_hash {
            let path = found.path;
            *info = PathInfo {
                hash: found.path_hash,
                told: false,
                next_hop: path.next_hop,
                first_as: path.first_as().unwrap_or(0),
                origin_as: path.origin_as().unwrap_or(0),
            };
        }
        info
    }
}

/// What a row learns.
#[derive(Clone, Copy, Debug)]
struct Row {
    exporter: u32,
    site: SiteId,
    in_port: PortInfo,
    out_port: PortInfo,
    /// To the device itself, or dropped.
    nowhere: bool,
    ingress_router: Option<u32>,
    /// Where it entered, for rows that came over an internal interface.
    entry: Option<SiteId>,
    exit: Option<SiteId>,
    exit_interface: Option<u32>,
    /// In the table of the router where it leaves.
    exit_path: Option<u64>,
    src_as: u32,
    handover_as: u32,
    next_as: u32,
    dst_as: u32,
    src_len: Option<u8>,
    dst_len: Option<u8>,
    next_hop: Option<Address>,
    path_hash: Option<u64>,
    provenance: u8,
    named: Option<Named>,
    verdict: Verdict,
    reason: Reason,
    quality: u64,
}

impl Row {
    const EMPTY: Self = Self {
        exporter: 0,
        site: 0,
        in_port: PortInfo::UNKNOWN,
        out_port: PortInfo::UNKNOWN,
        nowhere: false,
        ingress_router: None,
        entry: None,
        exit: None,
        exit_interface: None,
        exit_path: None,
        src_as: 0,
        handover_as: 0,
        next_as: 0,
        dst_as: 0,
        src_len: None,
        dst_len: None,
        next_hop: None,
        path_hash: None,
        provenance: 0,
        named: None,
        verdict: Verdict::Counted,
        reason: Reason::UnknownBoundary,
        quality: 0,
    };
}

/// The columns that the join reads.
struct Input<'a> {
    exporter: &'a [[u8; 16]],
    src: &'a [[u8; 16]],
    dst: &'a [[u8; 16]],
    received: &'a [i64],
    first: &'a [i64],
    octets: &'a [u64],
    sampling_num: &'a [u32],
    sampling_den: &'a [u32],
    observation: &'a [u8],
    quality: &'a [u64],
    in_if: Optional<'a, u32>,
    out_if: Optional<'a, u32>,
    event: Option<&'a ArrayRef>,
    record_src_as: Optional<'a, u32>,
    record_dst_as: Optional<'a, u32>,
    record_next_hop: OptionalAddress<'a>,
    record_bgp_next_hop: OptionalAddress<'a>,
}

/// A column that may be absent, whole or in part.
struct Optional<'a, T>(Option<(&'a [T], Option<&'a NullBuffer>)>);

impl<T: Copy> Optional<'_, T> {
    #[inline]
    fn get(&self, row: usize) -> Option<T> {
        let (values, nulls) = self.0.as_ref()?;
        nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| values[row])
    }
}

type OptionalAddress<'a> = Optional<'a, [u8; 16]>;

impl<'a> Input<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self, JoinError> {
        Ok(Self {
            exporter: addresses(batch, Column::ExporterAddr)?,
            src: addresses(batch, Column::SrcAddr)?,
            dst: addresses(batch, Column::DstAddr)?,
            received: values::<Int64Type>(batch, Column::TimeReceived)?,
            first: values::<Int64Type>(batch, Column::First)?,
            octets: values::<UInt64Type>(batch, Column::Octets)?,
            sampling_num: values::<UInt32Type>(batch, Column::SamplingNum)?,
            sampling_den: values::<UInt32Type>(batch, Column::SamplingDen)?,
            observation: values::<UInt8Type>(batch, Column::Observation)?,
            quality: values::<UInt64Type>(batch, Column::Quality)?,
            in_if: optional::<UInt32Type>(batch, Column::InIf)?,
            out_if: optional::<UInt32Type>(batch, Column::OutIf)?,
            event: flow::column(batch, Column::Event),
            record_src_as: optional::<UInt32Type>(batch, Column::RecordSrcAs)?,
            record_dst_as: optional::<UInt32Type>(batch, Column::RecordDstAs)?,
            record_next_hop: optional_addresses(batch, Column::RecordNextHop)?,
            record_bgp_next_hop: optional_addresses(batch, Column::RecordBgpNextHop)?,
        })
    }

    fn rows(&self) -> usize {
        self.exporter.len()
    }

    fn is_event(&self, row: usize) -> bool {
        self.quality[row] & quality::EVENT != 0 || self.event.is_some_and(|event| event.is_valid(row))
    }

    /// Both ends 0 is what probes say that know no interfaces.
    fn in_port(&self, row: usize) -> Port {
        match (Port::of(self.in_if.get(row)), Port::of(self.out_if.get(row))) {
            (Port::Device, Port::Device | Port::Absent) => Port::Absent,
            (port, _) => port,
        }
    }
}

fn required(batch: &RecordBatch, column: Column) -> Result<&ArrayRef, JoinError> {
    flow::column(batch, column).ok_or(JoinError::Missing(column.name()))
}

fn values<T: ArrowPrimitiveType>(batch: &RecordBatch, column: Column) -> Result<&[T::Native], JoinError> {
    let array = required(batch, column)?.as_primitive_opt::<T>();
    Ok(array.ok_or(JoinError::Type(column.name()))?.values())
}

fn optional<T: ArrowPrimitiveType>(batch: &RecordBatch, column: Column) -> Result<Optional<'_, T::Native>, JoinError> {
    let Some(array) = flow::column(batch, column) else { return Ok(Optional(None)) };
    let array = array.as_primitive_opt::<T>().ok_or(JoinError::Type(column.name()))?;
    Ok(Optional(Some((array.values(), array.nulls()))))
}

fn addresses(batch: &RecordBatch, column: Column) -> Result<&[[u8; 16]], JoinError> {
    flow::addresses(required(batch, column)?).ok_or(JoinError::Type(column.name()))
}

fn optional_addresses(batch: &RecordBatch, column: Column) -> Result<OptionalAddress<'_>, JoinError> {
    let Some(array) = flow::column(batch, column) else { return Ok(Optional(None)) };
    let values = flow::addresses(array).ok_or(JoinError::Type(column.name()))?;
    Ok(Optional(Some((values, array.nulls()))))
}

/// What the index was built from, when, and how long it took.
struct Built {
    /// Generations of network and interfaces; the speaker's AS.
    tables: (u64, u64, Option<u32>),
    next_hops: u64,
    at: Instant,
    cost: Duration,
}

pub struct Joiner {
    tables: Arc<Tables>,
    routes: RouteReader,
    names: NameReader,
    reference: Reference,
    built: Option<Built>,
    coverage: Coverage,
    exits: Exits,
    vantages: Vantages,
    paths: PathCache,
    scratch: Scratch,
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    rows: Vec<Row>,
    /// Rows by exporter, in order of first sight: (exporter, rows).
    groups: Vec<(u32, Vec<u32>)>,
    addresses: Vec<[u8; 16]>,
    found: Vec<RouteRef>,
    infos: Vec<PathInfo>,
    edges: Vec<(bool, bool)>,
    /// (router that is to be asked, row).
    pending: Vec<(SiteId, u32)>,
    asked: Vec<(SiteId, u32)>,
    unnamed: Vec<u32>,
    named: Vec<Option<Named>>,
}

/// The table of each site, in the view at hand.
#[derive(Default)]
struct Vantages {
    generation: Option<u64>,
    peers: Vec<(PeerId, Address, [u8; 4])>,
    /// By site: the addresses that a peer has.
    sessions: Vec<Option<Vec<Address>>>,
    by_site: Vec<Option<Vantage>>,
}

impl Vantages {
    /// A new view: peers rarely change, so which site has which session is kept.
    fn renew(&mut self, view: &RouteView) {
        if self.generation == Some(view.generation()) {
            return;
        }
        self.generation = Some(view.generation());
        self.by_site.clear();
        let peers = || view.peers().map(|routes| (routes.peer.id, routes.peer.address, routes.peer.bgp_id));
        if !peers().eq(self.peers.iter().copied()) {
            self.peers = peers().collect();
            self.sessions.clear();
        }
    }

    fn forget_sites(&mut self) {
        self.by_site.clear();
        self.sessions.clear();
    }

    fn of(&mut self, site: SiteId, reference: &Reference, view: &RouteView) -> Vantage {
        let at = site as usize;
        if let Some(Some(vantage)) = self.by_site.get(at) {
            return *vantage;
        }
        let size = reference.sites();
        self.by_site.resize(size.max(self.by_site.len()), None);
        self.sessions.resize(size.max(self.sessions.len()), None);
        let peers = &self.peers;
        let sessions = self.sessions[at].get_or_insert_with(|| {
            let of_peer = |address: &Address| {
                peers.iter().any(|(_, peer, id)| peer == address || Address::from_v4(*id) == *address)
            };
            reference.get(site).addresses.iter().copied().filter(of_peer).collect()
        });
        let vantage = match sessions.split_first() {
            Some((first, rest)) => view.vantage(*first, rest),
            None => Vantage::NONE,
        };
        self.by_site[at] = Some(vantage);
        vantage
    }
}

/// The index of the small tables, as rows are worked on.
struct Lookup<'a> {
    reference: &'a mut Reference,
}

impl Lookup<'_> {
    /// An AS of a path, the own one where the path has none.
    fn or_own(&self, asn: u32) -> u32 {
        if asn == 0 { self.reference.own_as() } else { asn }
    }
}

impl Joiner {
    pub fn new(config: &Config, tables: Arc<Tables>, routes: RouteReader, names: NameReader) -> Self {
        let limits = Limits {
            age_ms: i64::try_from(config.coverage_age_s.saturating_mul(1000)).unwrap_or(i64::MAX),
            exporters_max: config.exporters_max,
            ports_max: config.interfaces_max,
        };
        let fixed = config.coverage.iter().map(|rule| (Address::from(rule.exporter), (rule.ingress, rule.egress)));
        Self {
            tables,
            routes,
            names,
            reference: Reference::default(),
            built: None,
            coverage: Coverage::new(limits, fixed),
            exits: Exits::default(),
            vantages: Vantages::default(),
            paths: PathCache::new(config.paths_max),
            scratch: Scratch::default(),
        }
    }

    /// Somebody tells names: waiting for them makes sense.
    pub fn names_expected(&self) -> bool {
        self.names.view().generation > 0
    }

    pub fn join(&mut self, batch: &RecordBatch) -> Result<Joined, JoinError> {
        let input = Input::new(batch)?;
        let view = self.routes.view();
        let names = self.names.view();
        self.refresh(&view);
        let mut new_paths = Vec::new();
        self.scratch.rows.clear();
        self.scratch.rows.resize(input.rows(), Row::EMPTY);

        self.group(&input);
        self.observe(&input);
        self.route(&input, &view, &mut new_paths);
        self.follow(&input, &view);
        self.finish_exits(&input);
        let tally = self.name_and_judge(&input, &names);
        let rows = self.columns(batch)?;
        Ok(Joined { rows, paths: new_paths, tally })
    }

    /// Builds the index anew where a table changed. While sessions load their tables next hops change
    /// with every view: those wait until building costs little of the time.
    fn refresh(&mut self, view: &RouteView) {
        let network = self.tables.network.load();
        let interfaces = self.tables.interfaces.load();
        let local_as = view.peers().next().map(|routes| routes.peer.local_as);
        let tables = (network.generation, interfaces.generation, local_as);
        let due = match &self.built {
            Some(built) if built.tables == tables => {
                built.next_hops != view.next_hops_generation() && built.at.elapsed() >= built.cost * REBUILD_SHARE
            }
            _ => true,
        };
        if due {
            if self.built.as_ref().is_none_or(|built| built.tables.1 != interfaces.generation) {
                self.exits.clear();
            }
            let at = Instant::now();
            self.reference = Reference::new(&network, &interfaces, view.next_hops(), local_as);
            self.coverage.refresh(&mut self.reference);
            self.vantages.forget_sites();
            let next_hops = view.next_hops_generation();
            self.built = Some(Built { tables, next_hops, at, cost: at.elapsed() });
        }
        self.vantages.renew(view);
    }

    /// Sorts the rows by exporter.
    fn group(&mut self, input: &Input<'_>) {
        let Scratch { rows, groups, .. } = &mut self.scratch;
        let mut used = 0;
        let mut last: Option<(&[u8; 16], usize)> = None;
        let mut met: AHashMap<&[u8; 16], usize> = AHashMap::new();
        for (at, (address, row)) in input.exporter.iter().zip(rows.iter_mut()).enumerate() {
            let group = match last {
                Some((same, group)) if same == address => group,
                _ => *met.entry(address).or_insert_with(|| {
                    let reference = &mut self.reference;
                    let number = self.coverage.number(Address(*address), |address| reference.site(address));
                    if used == groups.len() {
                        groups.push((0, Vec::new()));
                    }
                    groups[used].0 = number;
                    groups[used].1.clear();
                    used += 1;
                    used - 1
                }),
            };
            last = Some((address, group));
            groups[group].1.push(at as u32);
            row.exporter = groups[group].0;
        }
        groups.truncate(used);
    }

    /// Interfaces, and what they say about who exports what.
    fn observe(&mut self, input: &Input<'_>) {
        let Scratch { rows, groups, .. } = &mut self.scratch;
        let limits = self.coverage.limits();
        let ports_max = limits.ports_max;
        let now_ms = input.received.iter().copied().max().unwrap_or(0);
        let reference = &self.reference;
        for (number, members) in groups.iter() {
            let exporter = self.coverage.get_mut(*number);
            for at in members {
                let at = *at as usize;
                let row = &mut rows[at];
                row.site = exporter.site;
                let mut port = |if_index: Option<u32>| match (Port::of(if_index), if_index) {
                    (Port::Interface, Some(if_index)) => {
                        exporter.port(if_index, ports_max, |address, if_index| reference.port(address, if_index))
                    }
                    _ => PortInfo::UNKNOWN,
                };
                row.in_port = port(input.in_if.get(at));
                row.out_port = port(input.out_if.get(at));
                let unknown = |info: PortInfo, if_index| info.interface.is_none() && !is_no_interface(if_index);
                if unknown(row.in_port, input.in_if.get(at)) || unknown(row.out_port, input.out_if.get(at)) {
                    row.quality |= quality::INTERFACE_UNKNOWN;
                }
                if !input.is_event(at) {
                    let in_if = (input.in_port(at) == Port::Interface).then(|| input.in_if.get(at)).flatten();
                    let observation = Observation::from_code(input.observation[at]).unwrap_or(Observation::Unknown);
                    let (entering, leaving) = (row.in_port.boundary, row.out_port.boundary);
                    exporter.learn(observation, in_if, entering, leaving, input.received[at]);
                    if Port::of(input.out_if.get(at)) == Port::Interface
                        && !input.out_if.get(at).is_some_and(is_discard)
                    {
                        exporter.learn_output(input.received[at]);
                    }
                }
            }
            let names_outputs = exporter.names_outputs(now_ms, limits.age_ms);
            for at in members {
                let out_if = input.out_if.get(*at as usize);
                rows[*at as usize].nowhere = match Port::of(out_if) {
                    Port::Device => names_outputs || out_if != Some(0),
                    _ => out_if.is_some_and(is_discard),
                };
            }
        }
    }

    /// Source and destination in the exporter's own table.
    fn route(&mut self, input: &Input<'_>, view: &RouteView, new_paths: &mut Vec<PathEntry>) {
        let Scratch { rows, groups, addresses, found, infos, pending, .. } = &mut self.scratch;
        pending.clear();
        for (_, members) in groups.iter() {
            let Some(first) = members.first() else { continue };
            let site = rows[*first as usize].site;
            let vantage = self.vantages.of(site, &self.reference, view);
            let router = self.reference.get(site).router;

            addresses.clear();
            addresses.extend(members.iter().map(|at| input.dst[*at as usize]));
            view.lookup_batch(vantage, addresses, found);
            let routes = routes(view, found);
            infos.clear();
            infos.extend(found.iter().zip(&routes).map(|(number, route)| {
                let Some(route) = route else { return PathInfo::EMPTY };
                let info = self.paths.get(*number, route);
                if !std::mem::replace(&mut info.told, true) {
                    new_paths.push(PathEntry { hash: route.path_hash, path: route.path.clone() });
                }
                *info
            }));
            let mut lookup = Lookup { reference: &mut self.reference };
            for ((at, route), path) in members.iter().zip(&routes).zip(infos.iter()) {
                let row = &mut rows[*at as usize];
                match route {
                    Some(route) => {
                        lookup.destination(row, input, *at as usize, route, path);
                        let own = route.provenance == Provenance::Router && row.out_port.boundary == Boundary::External;
                        if let (true, Some(router), Some(interface)) = (own, router, row.out_port.interface) {
                            self.exits.learn(router, route.path_hash, row.next_as, interface);
                        }
                    }
                    None => lookup.destination_of_record(row, input, *at as usize),
                }
                if let Some(router) = lookup.leave(row, input.out_if.get(*at as usize)) {
                    pending.push((router, *at));
                }
            }

            addresses.clear();
            addresses.extend(members.iter().map(|at| input.src[*at as usize]));
            view.lookup_batch(vantage, addresses, found);
            let routes = self::routes(view, found);
            fill(&mut self.paths, found, &routes, infos);
            for ((at, route), path) in members.iter().zip(&routes).zip(infos.iter()) {
                let route = route.as_ref().map(|route| (route, path));
                lookup.source(&mut rows[*at as usize], input, *at as usize, route);
            }
        }
    }

    /// Asks the next router, and the next: a router that sets itself as next hop hides where it sends traffic.
    fn follow(&mut self, input: &Input<'_>, view: &RouteView) {
        let Scratch { rows, addresses, found, infos, pending, asked, .. } = &mut self.scratch;
        for _ in 0..STEPS_MAX {
            if pending.is_empty() {
                return;
            }
            pending.sort_unstable();
            std::mem::swap(pending, asked);
            pending.clear();
            for run in asked.chunk_by(|a, b| a.0 == b.0) {
                let site = run[0].0;
                let vantage = self.vantages.of(site, &self.reference, view);
                let lookup = Lookup { reference: &mut self.reference };
                addresses.clear();
                if vantage.is_router() {
                    addresses.extend(run.iter().map(|(_, at)| input.dst[*at as usize]));
                }
                view.lookup_batch(vantage, addresses, found);
                found.resize(run.len(), RouteRef::NONE);
                let routes = routes(view, found);
                fill(&mut self.paths, found, &routes, infos);
                for (((_, at), route), path) in run.iter().zip(&routes).zip(infos.iter()) {
                    let row = &mut rows[*at as usize];
                    // Where the last router that could be asked stands: what comes may know better.
                    row.exit = Some(site);
                    let route = route.as_ref().filter(|route| route.provenance == Provenance::Router);
                    let Some(route) = route else { continue };
                    row.next_as = lookup.or_own(path.first_as);
                    row.exit_path = Some(route.path_hash);
                    match lookup.reference.step(site, path.next_hop, false) {
                        Step::Leaves { site, interface, ambiguous } => {
                            row.exit = Some(site);
                            row.exit_interface = interface;
                            row.quality |= if ambiguous { quality::EGRESS_AMBIGUOUS } else { 0 };
                        }
                        Step::Router(next) if next != row.site => pending.push((next, *at)),
                        Step::Router(_) | Step::Unknown => {}
                    }
                }
            }
        }
        // Routers that point at each other: the last one asked is shown.
        for (_, at) in pending.drain(..) {
            rows[at as usize].quality |= quality::EGRESS_AMBIGUOUS;
        }
    }

    /// Where no next hop named an interface: the one whose subnet holds the destination, or that leads to the neighbour.
    fn finish_exits(&mut self, input: &Input<'_>) {
        let own_as = self.reference.own_as();
        for (row, destination) in self.scratch.rows.iter_mut().zip(input.dst) {
            if let (Some(site), None) = (row.exit, row.exit_interface) {
                // Customers of the own AS are behind many interfaces: only their paths tell.
                let neighbour = if row.next_as == own_as { 0 } else { row.next_as };
                let router = self.reference.get(site).router;
                let learnt = router.and_then(|router| self.exits.find(router, row.exit_path, neighbour));
                row.exit_interface = learnt
                    .or_else(|| self.reference.interface_to(site, neighbour))
                    .or_else(|| self.reference.connected(site, Address(*destination)));
            }
            if row.exit.is_none() || row.exit_interface.is_none() {
                row.quality |= quality::EGRESS_UNKNOWN;
            }
        }
    }

    fn name_and_judge(&mut self, input: &Input<'_>, names: &NameView) -> Tally {
        let now_ms = input.received.iter().copied().max().unwrap_or(0);
        self.name(input, names);
        let Scratch { rows, edges, .. } = &mut self.scratch;
        self.coverage.edges(self.reference.sites(), now_ms, edges);
        let entries = edges.iter().filter(|(entry, _)| *entry).count();
        let age_ms = self.coverage.limits().age_ms;
        let mut tally = Tally { rows: rows.len() as u64, ..Tally::default() };
        for (at, row) in rows.iter_mut().enumerate() {
            let covers = |site: Option<SiteId>| site.and_then(|site| edges.get(site as usize)).copied();
            let own_entry = covers(Some(row.site)).is_some_and(|(entry, _)| entry);
            let in_if = input.in_if.get(at).filter(|_| input.in_port(at) == Port::Interface);
            let sighting = Sighting {
                event: input.is_event(at),
                observation: Observation::from_code(input.observation[at]).unwrap_or(Observation::Unknown),
                in_port: input.in_port(at),
                in_boundary: row.in_port.boundary,
                out_boundary: row.out_port.boundary,
                in_covered: self.coverage.get(row.exporter).covers_ingress(in_if, now_ms, age_ms),
                // Where it entered is a guess from the way back; without one, any other router's word is taken.
                entry_covered: match covers(row.entry) {
                    Some((entry, _)) => entry,
                    None => entries > usize::from(own_entry),
                },
                exit_covered: row.exit != Some(row.site) && covers(row.exit).is_some_and(|(_, exit)| exit),
                upstream_covered: covers(row.in_port.far).is_some_and(|(entry, exit)| entry || exit),
            };
            (row.verdict, row.reason) = count::verdict(&sighting);
            if row.reason == Reason::UnknownBoundary {
                row.quality |= quality::BOUNDARY_UNKNOWN;
            }
            tally.verdict_rows[row.verdict as usize] += 1;
            let octets = span::scale(input.octets[at], input.sampling_num[at], input.sampling_den[at]);
            match row.named {
                Some(named) if named.ambiguous => {
                    row.quality |= quality::SERVICE_AMBIGUOUS;
                    tally.ambiguous_octets = tally.ambiguous_octets.saturating_add(octets);
                }
                Some(_) => tally.named_octets = tally.named_octets.saturating_add(octets),
                None => tally.unnamed_octets = tally.unnamed_octets.saturating_add(octets),
            }
        }
        tally
    }

    /// The server is the source of an answer, else the destination of a request.
    fn name(&mut self, input: &Input<'_>, names: &NameView) {
        if names.generation == 0 || names.is_empty() {
            return;
        }
        let Scratch { rows, unnamed, named, .. } = &mut self.scratch;
        let useful = |named: Option<Named>| named.filter(|named| named.service_id != 0);
        named.clear();
        let both = input.src.iter().zip(input.dst).zip(input.first);
        let answers = both.map(|((src, dst), first)| (Address(*src), Address(*dst), *first));
        names.lookup_each(answers, |found| named.push(useful(found)));
        unnamed.clear();
        for (at, (row, found)) in rows.iter_mut().zip(named.iter()).enumerate() {
            row.named = *found;
            if found.is_none() {
                unnamed.push(at as u32);
            }
        }
        named.clear();
        let requests = unnamed.iter().map(|at| {
            let at = *at as usize;
            (Address(input.dst[at]), Address(input.src[at]), input.first[at])
        });
        names.lookup_each(requests, |found| named.push(useful(found)));
        for (at, found) in unnamed.iter().zip(named.iter()) {
            rows[*at as usize].named = *found;
        }
    }

    /// The batch with the derived columns in their places.
    fn columns(&self, batch: &RecordBatch) -> Result<RecordBatch, JoinError> {
        let rows = &self.scratch.rows;
        let router = |site: Option<SiteId>| site.and_then(|site| self.reference.get(site).router);
        let schema = batch.schema();
        let mut fields: Vec<Arc<Field>> = Vec::with_capacity(schema.fields().len() + 24);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len() + 24);
        for &column in Column::ALL {
            let derived: Option<ArrayRef> = match column {
                Column::InIfId => Some(numbers::<UInt32Type>(rows, |row| row.in_port.interface)),
                Column::OutIfId => Some(numbers::<UInt32Type>(rows, |row| row.out_port.interface)),
                Column::IngressRouter => Some(numbers::<UInt32Type>(rows, |row| row.ingress_router)),
                Column::EgressRouter => Some(numbers::<UInt32Type>(rows, |row| router(row.exit))),
                Column::EgressIfId => Some(numbers::<UInt32Type>(rows, |row| row.exit_interface)),
                Column::SrcAs => Some(numbers::<UInt32Type>(rows, |row| Some(row.src_as))),
                Column::HandoverAs => Some(numbers::<UInt32Type>(rows, |row| Some(row.handover_as))),
                Column::NextAs => Some(numbers::<UInt32Type>(rows, |row| Some(row.next_as))),
                Column::DstAs => Some(numbers::<UInt32Type>(rows, |row| Some(row.dst_as))),
                Column::SrcPrefixLen => Some(numbers::<UInt8Type>(rows, |row| row.src_len)),
                Column::DstPrefixLen => Some(numbers::<UInt8Type>(rows, |row| row.dst_len)),
                Column::BgpNextHop => Some(next_hops(rows)?),
                Column::PathHash => Some(numbers::<UInt64Type>(rows, |row| row.path_hash)),
                Column::Provenance => Some(numbers::<UInt8Type>(rows, |row| Some(row.provenance))),
                Column::ServiceId => Some(numbers::<UInt32Type>(rows, |row| row.named.map(|named| named.service_id))),
                Column::ServiceConfidence => {
                    Some(numbers::<UInt8Type>(rows, |row| row.named.map(|named| named.confidence)))
                }
                Column::CountVerdict => Some(numbers::<UInt8Type>(rows, |row| Some(row.verdict as u8))),
                Column::CountReason => Some(numbers::<UInt8Type>(rows, |row| Some(row.reason as u8))),
                Column::Quality => {
                    let exported = values::<UInt64Type>(batch, Column::Quality)?;
                    let all = exported.iter().zip(rows).map(|(exported, row)| exported | row.quality);
                    Some(Arc::new(UInt64Array::from_iter_values(all)))
                }
                _ => None,
            };
            match derived {
                Some(array) => {
                    fields.push(Arc::new(column.field()));
                    arrays.push(array);
                }
                None => {
                    if let Some((at, field)) = schema.fields().find(column.name()) {
                        fields.push(field.clone());
                        arrays.push(batch.column(at).clone());
                    }
                }
            }
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }
}

impl Lookup<'_> {
    fn destination(&mut self, row: &mut Row, input: &Input<'_>, at: usize, route: &Found<'_>, path: &PathInfo) {
        row.dst_len = Some(route.prefix.len);
        row.next_hop = Some(path.next_hop);
        row.path_hash = Some(route.path_hash);
        row.provenance |= route.provenance as u8;
        row.next_as = self.or_own(path.first_as);
        row.quality |= route_quality(route);
        // A default route says where traffic goes, not whose it is.
        row.dst_as = if route.prefix.len > 0 {
            self.or_own(path.origin_as)
        } else {
            self.whose(input.dst[at], input.record_dst_as.get(at)).0
        };
    }

    fn destination_of_record(&mut self, row: &mut Row, input: &Input<'_>, at: usize) {
        let (asn, provenance) = self.whose(input.dst[at], input.record_dst_as.get(at));
        row.dst_as = asn;
        row.provenance |= provenance as u8;
        row.quality |= match provenance {
            Provenance::None => quality::DST_ROUTE_MISSING,
            _ => quality::ROUTE_FALLBACK,
        };
        let named = |hop: Option<[u8; 16]>| hop.map(Address).filter(|hop| !is_unspecified(*hop));
        row.next_hop = named(input.record_bgp_next_hop.get(at)).or_else(|| named(input.record_next_hop.get(at)));
        if self.reference.is_own(Address(input.dst[at])) {
            row.next_as = self.reference.own_as();
        }
    }

    /// Without a route: own prefixes, else what the record says. 0 in a record is unknown.
    fn whose(&self, address: [u8; 16], record: Option<u32>) -> (u32, Provenance) {
        if self.reference.is_own(Address(address)) && self.reference.own_as() != 0 {
            return (self.reference.own_as(), Provenance::Record);
        }
        match record {
            Some(asn) if asn != 0 => (asn, Provenance::Record),
            _ => (0, Provenance::None),
        }
    }

    /// Where it leaves, as far as the exporter says; else the router that has to be asked.
    fn leave(&mut self, row: &mut Row, out_if: Option<u32>) -> Option<SiteId> {
        if row.out_port.boundary == Boundary::External {
            row.exit = Some(row.site);
            row.exit_interface = row.out_port.interface;
            row.next_as = row.out_port.neighbour.unwrap_or(row.next_as);
            return None;
        }
        if row.nowhere {
            row.exit = (Port::of(out_if) == Port::Device && row.next_as == self.reference.own_as()).then_some(row.site);
            return None;
        }
        let inward = row.out_port.boundary == Boundary::Internal;
        match self.reference.step(row.site, row.next_hop?, inward) {
            Step::Leaves { site, interface, ambiguous } => {
                row.quality |= if ambiguous { quality::EGRESS_AMBIGUOUS } else { 0 };
                if site != row.site {
                    row.exit = Some(site);
                    row.exit_interface = interface;
                } else if row.out_port.boundary == Boundary::Unknown {
                    row.exit = Some(site);
                    row.exit_interface = row.out_port.interface.or(interface);
                }
                None
            }
            Step::Router(router) => Some(router),
            Step::Unknown => None,
        }
    }

    fn source(&mut self, row: &mut Row, input: &Input<'_>, at: usize, route: Option<(&Found<'_>, &PathInfo)>) {
        let path = route.map(|(_, path)| path);
        let (src_as, provenance) = match route {
            Some((route, path)) => {
                row.src_len = Some(route.prefix.len);
                row.quality |= route_quality(route);
                let asn = if route.prefix.len > 0 {
                    self.or_own(path.origin_as)
                } else {
                    self.whose(input.src[at], input.record_src_as.get(at)).0
                };
                (asn, route.provenance)
            }
            None => {
                let (asn, provenance) = self.whose(input.src[at], input.record_src_as.get(at));
                row.quality |= match provenance {
                    Provenance::None => quality::SRC_ROUTE_MISSING,
                    _ => quality::ROUTE_FALLBACK,
                };
                (asn, provenance)
            }
        };
        row.src_as = src_as;
        row.provenance |= (provenance as u8) << 4;

        let reverse_as = match path {
            Some(path) => self.or_own(path.first_as),
            None if self.reference.is_own(Address(input.src[at])) => self.reference.own_as(),
            None => 0,
        };
        if input.in_port(at) == Port::Device {
            row.ingress_router = self.reference.get(row.site).router;
            row.handover_as = self.reference.own_as();
        } else if row.in_port.boundary == Boundary::Internal {
            row.handover_as = reverse_as;
            row.quality |= quality::HANDOVER_GUESSED;
            row.entry = path.and_then(|path| match self.reference.step(row.site, path.next_hop, true) {
                Step::Leaves { site, .. } | Step::Router(site) => Some(site).filter(|site| *site != row.site),
                Step::Unknown => None,
            });
            row.ingress_router = row.entry.and_then(|site| self.reference.get(site).router);
        } else {
            row.ingress_router = self.reference.get(row.site).router;
            match row.in_port.neighbour {
                Some(neighbour) => row.handover_as = neighbour,
                None => {
                    row.handover_as = reverse_as;
                    row.quality |= quality::HANDOVER_GUESSED;
                }
            }
        }
    }
}

/// Reads of one kind, one after the other, so that their cache misses overlap.
fn routes<'a>(view: &'a RouteView, found: &[RouteRef]) -> Vec<Option<Found<'a>>> {
    found.iter().map(|route| view.get(*route)).collect()
}

fn fill(paths: &mut PathCache, found: &[RouteRef], routes: &[Option<Found<'_>>], infos: &mut Vec<PathInfo>) {
    infos.clear();
    infos.extend(found.iter().zip(routes).map(|(number, route)| match route {
        Some(route) => *paths.get(*number, route),
        None => PathInfo::EMPTY,
    }));
}

fn route_quality(route: &Found<'_>) -> u64 {
    let fallback = if route.provenance == Provenance::Fallback { quality::ROUTE_FALLBACK } else { 0 };
    fallback | if route.stale { quality::ROUTE_STALE } else { 0 }
}

/// The device itself, or sFlow's discard (format 1): nothing that a table could name.
fn is_no_interface(if_index: Option<u32>) -> bool {
    Port::of(if_index) == Port::Device || if_index.is_some_and(is_discard)
}

fn is_discard(if_index: u32) -> bool {
    if_index >> 30 == 1
}

fn is_unspecified(address: Address) -> bool {
    address == Address::UNSPECIFIED || address.v4() == Some([0; 4])
}

fn numbers<T: ArrowPrimitiveType>(rows: &[Row], pick: impl Fn(&Row) -> Option<T::Native>) -> ArrayRef {
    let values: ScalarBuffer<T::Native> = rows.iter().map(|row| pick(row).unwrap_or_default()).collect();
    let valid = BooleanBuffer::collect_bool(rows.len(), |at| pick(&rows[at]).is_some());
    let nulls = NullBuffer::new(valid);
    Arc::new(PrimitiveArray::<T>::new(values, (nulls.null_count() > 0).then_some(nulls)))
}

fn next_hops(rows: &[Row]) -> Result<ArrayRef, ArrowError> {
    let mut octets = Vec::with_capacity(rows.len() * 16);
    for row in rows {
        octets.extend_from_slice(&row.next_hop.unwrap_or(Address::UNSPECIFIED).0);
    }
    let valid = BooleanBuffer::collect_bool(rows.len(), |at| rows[at].next_hop.is_some());
    let nulls = NullBuffer::new(valid);
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    Ok(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(octets), nulls)?))
}
