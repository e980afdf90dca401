//! MRT files (RFC 6396) into the table and out of it.
//!
//!   octets of a file --> [thread of the import] --FileStep--> speaker --> table
//!   view of the table --> [thread of the dump] --> octets of a file
//!
//! A file's peers are peers of the table, named after file and address. A file of the same name takes the place of
//! the one before. In a table that is written each peer is one whose routes are the global table's and answer for
//! somebody; when a route came is not kept, so its time is the dump's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail, ensure};
use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::network::Network;
use benocs_model::route::{Path, Peer, PeerId, PeerPath, RibView, RouteEvent, RouteView};
use benocs_runtime::Outbox;
use benocs_wire::bgp::{self, NextHop, NlriPrefix, PrefixAddress, RouteUpdate, SegmentKind, TableRoute, Update};
use benocs_wire::error::WireError;
use benocs_wire::mrt::{self, HEADER_OCTETS, Header, IndexedPeer, Message};
use serde::{Deserialize, Serialize};

use crate::actor::SpeakerMessage;
use crate::convert;
use crate::core::Core;
use crate::error::LookupError;
use crate::guests::Way;

/// Octets that are written together.
const CHUNK_OCTETS: usize = 256 << 10;
/// Peers of all files together.
const FILE_PEERS_MAX: usize = 20_000;
/// Attributes that are kept encoded.
const ENCODED_MAX: usize = 1 << 16;
/// RFC 6396 4: types of records; a file that begins with another one is none.
const KINDS: [u16; 11] = [5, 9, 11, 12, 13, 16, 17, 32, 33, 48, 49];

static FILES: AtomicU64 = AtomicU64::new(0);

/// What the speaker is told of a file. Peers are numbered within it.
#[derive(Clone, Debug)]
pub enum FileStep {
    Begin {
        file: u64,
        name: String,
    },
    Events {
        file: u64,
        events: Vec<RouteEvent>,
    },
    /// Answered once look-ups see its routes.
    End {
        file: u64,
        reply: Outbox<Result<(), String>>,
    },
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSummary {
    pub octets: u64,
    pub records: u64,
    pub peers: u64,
    pub announced: u64,
    pub withdrawn: u64,
    /// Records of a kind or family that is not read.
    pub skipped: u64,
    /// Routes and records that are in error, and left out.
    pub unread: u64,
    /// The first of these.
    pub first_error: Option<String>,
}

/// Reads a file into the speaker's table; `next` gives its octets, decompressed, and `None` at its end.
pub fn import_mrt(
    name: &str,
    speaker: &Outbox<SpeakerMessage>,
    mut next: impl FnMut() -> anyhow::Result<Option<Vec<u8>>>,
) -> anyhow::Result<ImportSummary> {
    let file = FILES.fetch_add(1, Ordering::Relaxed);
    let send = |step| speaker.send_blocking(SpeakerMessage::File(step)).context("the speaker has ended");
    let mut reader = Reader::new(name);
    let mut begun = false;
    let ended = loop {
        let chunk = match next() {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break reader.finish(),
            Err(error) => break Err(error),
        };
        let mut events = Vec::new();
        let read = reader.feed(&chunk, &mut events);
        if !begun && reader.summary.records > 0 {
            // What is no file of routes leaves an earlier one alone.
            send(FileStep::Begin { file, name: name.to_owned() })?;
            begun = true;
        }
        if !events.is_empty() {
            send(FileStep::Events { file, events })?;
        }
        if read.is_err() {
            break read;
        }
    };
    if begun {
        let (reply, answer) = Outbox::channel(1);
        send(FileStep::End { file, reply })?;
        answer.recv_blocking().context("the speaker has ended")?.map_err(anyhow::Error::msg)?;
    }
    ended?;
    Ok(reader.summary)
}

/// A file's records as events.
struct Reader {
    name: String,
    /// Octets of a record that is not whole.
    rest: Vec<u8>,
    peers: HashMap<IndexedPeer, PeerId>,
    /// Of the last PEER_INDEX_TABLE.
    index: Vec<IndexedPeer>,
    /// Each peer's last path, as octets and as it is: routes of one path follow each other.
    last: HashMap<PeerId, (Vec<u8>, Arc<Path>)>,
    next_id: PeerId,
    summary: ImportSummary,
}

impl Reader {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rest: Vec::new(),
            peers: HashMap::new(),
            index: Vec::new(),
            last: HashMap::new(),
            next_id: 0,
            summary: ImportSummary::default(),
        }
    }

    fn feed(&mut self, octets: &[u8], out: &mut Vec<RouteEvent>) -> anyhow::Result<()> {
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(octets);
        let mut at = 0;
        while let Some((head, body)) = rest[at..].split_first_chunk::<HEADER_OCTETS>() {
            let kind = u16::from_be_bytes([head[4], head[5]]);
            if self.summary.records == 0 && !KINDS.contains(&kind) {
                bail!("octet 4: no MRT file begins with a record of type {kind}");
            }
            let header = Header::parse(head).map_err(|error| self.located(error))?;
            let Some(body) = body.get(..header.octets) else { break };
            self.summary.records += 1;
            self.record(&header, body, out);
            self.summary.octets += (HEADER_OCTETS + header.octets) as u64;
            at += HEADER_OCTETS + header.octets;
        }
        rest.drain(..at);
        self.rest = rest;
        Ok(())
    }

    fn finish(&self) -> anyhow::Result<()> {
        ensure!(self.summary.octets > 0 || !self.rest.is_empty(), "the file is empty");
        let left = self.rest.len();
        ensure!(
            left == 0,
            "octet {}: the file ends within a record, {left} octets of it are left",
            self.summary.octets
        );
        Ok(())
    }

    /// Offsets count from the beginning of the file, decompressed.
    fn located(&self, error: WireError) -> WireError {
        WireError { offset: self.summary.octets as usize + error.offset, ..error }
    }

    fn unread(&mut self, error: impl std::fmt::Display) {
        self.summary.unread += 1;
        self.summary.first_error.get_or_insert_with(|| error.to_string());
    }

    fn record(&mut self, header: &Header, body: &[u8], out: &mut Vec<RouteEvent>) {
        match mrt::parse(header, body) {
            Ok(Message::PeerIndex(index)) => self.index = index.peers().collect(),
            Ok(Message::Rib(rib)) => {
                for entry in rib.entries() {
                    let Some(peer) = self.index.get(usize::from(entry.peer)).copied() else {
                        let at = self.summary.octets;
                        self.unread(format!("octet {at}: peer {} is not in a table of peers before", entry.peer));
                        continue;
                    };
                    self.route(&peer, rib.prefix, entry.path_id, entry.attributes(), || entry.route(), out);
                }
            }
            Ok(Message::Table(table)) => {
                let peer = IndexedPeer { bgp_id: [0; 4], address: table.peer, remote_as: table.peer_as };
                self.route(&peer, table.prefix, 0, table.attributes(), || table.route(), out);
            }
            Ok(Message::Bgp(message)) if message.is_local => self.summary.skipped += 1,
            Ok(Message::Bgp(message)) => match message.read() {
                Ok(bgp::Message::Update(update)) => {
                    let peer = IndexedPeer { bgp_id: [0; 4], address: message.peer, remote_as: message.peer_as };
                    self.update(&peer, &update, out);
                }
                Ok(_) => {}
                Err(error) => {
                    let error = WireError { offset: error.error.offset + message.offset(), ..error.error };
                    let error = self.located(error);
                    self.unread(error);
                }
            },
            Ok(Message::State(state)) => {
                let peer = IndexedPeer { bgp_id: [0; 4], address: state.peer, remote_as: state.peer_as };
                if state.old == mrt::ESTABLISHED
                    && let Some(id) = self.peers.remove(&peer)
                {
                    self.last.remove(&id);
                    out.push(RouteEvent::PeerDown(id));
                }
            }
            Ok(Message::Skipped) => self.summary.skipped += 1,
            Err(error) => {
                let error = self.located(error);
                self.unread(error);
            }
        }
    }

    /// The peer's number; it is up from now on.
    fn peer(&mut self, peer: &IndexedPeer, out: &mut Vec<RouteEvent>) -> PeerId {
        if let Some(id) = self.peers.get(peer) {
            return *id;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.peers.insert(*peer, id);
        self.summary.peers += 1;
        out.push(RouteEvent::PeerUp(Arc::new(Peer {
            id,
            name: format!("{} {}", self.name, peer.address),
            address: Address::from(peer.address),
            bgp_id: peer.bgp_id,
            remote_as: peer.remote_as,
            view: RibView::File,
            ..Peer::default()
        })));
        id
    }

    fn route<'a>(
        &mut self,
        peer: &IndexedPeer,
        prefix: NlriPrefix,
        path_id: u32,
        octets: &[u8],
        read: impl FnOnce() -> Result<TableRoute<'a>, bgp::BgpError>,
        out: &mut Vec<RouteEvent>,
    ) {
        let id = self.peer(peer, out);
        let known = self.last.get(&id).filter(|(last, _)| last == octets).map(|(_, path)| path.clone());
        let path = match known {
            Some(path) => path,
            None => match self.path(read) {
                Some(path) => {
                    self.last.insert(id, (octets.to_vec(), path.clone()));
                    path
                }
                None => return,
            },
        };
        let address = match prefix.address {
            PrefixAddress::V4(octets) => Address::from_v4(octets),
            PrefixAddress::V6(octets) => Address(octets),
        };
        self.summary.announced += 1;
        let route = (path_id, Prefix { address, len: prefix.len });
        match out.last_mut() {
            Some(RouteEvent::Announce { peer, path: last, prefixes }) if *peer == id && Arc::ptr_eq(last, &path) => {
                prefixes.push(route);
            }
            _ => out.push(RouteEvent::Announce { peer: id, path, prefixes: vec![route] }),
        }
    }

    fn path<'a>(&mut self, read: impl FnOnce() -> Result<TableRoute<'a>, bgp::BgpError>) -> Option<Arc<Path>> {
        let route = match read() {
            Ok(route) => route,
            Err(error) => {
                let error = self.located(error.error);
                self.unread(error);
                return None;
            }
        };
        let fault = route.faults.iter().find(|fault| fault.class == bgp::Class::TreatAsWithdraw);
        if let Some(fault) = fault {
            let error = self.located(fault.error);
            self.unread(error);
            return None;
        }
        let Some(next_hop) = route.next_hop.and_then(convert::address) else {
            // A router's own routes: they lead nowhere.
            self.summary.skipped += 1;
            return None;
        };
        Some(Arc::new(convert::path(&route.into_update(), next_hop, None)))
    }

    fn update(&mut self, peer: &IndexedPeer, update: &Update<'_>, out: &mut Vec<RouteEvent>) {
        for fault in update.faults.iter().filter(|fault| fault.class == bgp::Class::TreatAsWithdraw).take(1) {
            let error = self.located(fault.error);
            self.unread(error);
        }
        let id = self.peer(peer, out);
        // Apart: withdrawals of one peer are joined.
        let mut own = Vec::new();
        convert::events(id, [0; 4], update, &mut own);
        for event in &own {
            match event {
                RouteEvent::Announce { prefixes, .. } => self.summary.announced += prefixes.len() as u64,
                RouteEvent::Withdraw { prefixes, .. } => self.summary.withdrawn += prefixes.len() as u64,
                _ => {}
            }
        }
        out.append(&mut own);
    }
}

/// Files that were read, and their peers by their numbers within.
#[derive(Default)]
pub(crate) struct Files {
    open: HashMap<u64, OpenFile>,
    /// Owners by name.
    names: HashMap<String, u64>,
}

struct OpenFile {
    owner: u64,
    peers: HashMap<PeerId, PeerId>,
    failed: Option<String>,
}

impl Core {
    pub(crate) fn file(&mut self, step: FileStep) {
        match step {
            FileStep::Begin { file, name } => {
                let owner = self.guests.owner();
                if let Some(before) = self.files.names.insert(name, owner) {
                    self.guests_down(before);
                }
                self.files.open.insert(file, OpenFile { owner, peers: HashMap::new(), failed: None });
            }
            FileStep::Events { file, events } => {
                let Some(mut open) = self.files.open.remove(&file) else { return };
                if open.failed.is_none() {
                    self.file_events(&mut open, events);
                }
                self.files.open.insert(file, open);
            }
            FileStep::End { file, reply } => {
                let done = match self.files.open.remove(&file) {
                    Some(OpenFile { failed: Some(failed), owner, .. }) => {
                        self.guests_down(owner);
                        Err(failed)
                    }
                    Some(_) => Ok(()),
                    None => Err("the speaker began anew meanwhile: import it again".to_owned()),
                };
                self.publish();
                // Whoever asked may have gone meanwhile.
                let _ = reply.offer(done);
            }
        }
    }

    fn file_events(&mut self, open: &mut OpenFile, events: Vec<RouteEvent>) {
        let mut own = Vec::with_capacity(events.len());
        let mut updates: HashMap<PeerId, u64> = HashMap::new();
        for event in events {
            let number = |peer: PeerId| open.peers.get(&peer).copied();
            match event {
                RouteEvent::PeerUp(peer) => {
                    if self.guests.count(Way::File) >= FILE_PEERS_MAX {
                        open.failed = Some(format!("files have more than {FILE_PEERS_MAX} peers together"));
                        break;
                    }
                    let id = self.guest_up(Way::File, open.owner, (*peer).clone(), &mut own);
                    open.peers.insert(peer.id, id);
                }
                RouteEvent::PeerDown(peer) => {
                    if let Some(id) = open.peers.remove(&peer) {
                        self.guest_down(id, &mut own);
                    }
                }
                RouteEvent::Announce { peer, path, prefixes } => {
                    let Some(peer) = number(peer) else { continue };
                    *updates.entry(peer).or_default() += 1;
                    own.push(RouteEvent::Announce { peer, path, prefixes });
                }
                RouteEvent::Withdraw { peer, prefixes } => {
                    let Some(peer) = number(peer) else { continue };
                    *updates.entry(peer).or_default() += 1;
                    own.push(RouteEvent::Withdraw { peer, prefixes });
                }
                _ => {}
            }
        }
        let updates: Vec<(PeerId, u64)> = updates.into_iter().collect();
        if let Some(peer) = self.guest_events(&updates, own) {
            open.failed = Some(format!("{peer} has more routes than bgp.routes_max"));
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpSummary {
    pub octets: u64,
    pub peers: u64,
    pub prefixes: u64,
    pub routes: u64,
    /// Routes whose attributes are longer than a file can have them.
    pub left_out: u64,
}

/// Writes a table as TABLE_DUMP_V2, of all peers or of one router's (a name or any of its addresses).
pub fn dump_mrt(
    view: &RouteView,
    network: &Network,
    router: Option<&str>,
    collector_id: [u8; 4],
    time_s: u32,
    write: impl FnMut(Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<DumpSummary> {
    let mut peers: Vec<Arc<Peer>> = view.peers().map(|routes| routes.peer.clone()).collect();
    peers.retain(|peer| peer.vrf.is_empty() && !peer.labelled && peer.view.rank().is_some());
    if let Some(router) = router {
        peers = peers_of(peers, network, router)?;
    }
    ensure!(peers.len() <= usize::from(u16::MAX), "{} peers: a file has room for 65535", peers.len());
    peers.sort_by_key(|peer| peer.id);
    let mut writer =
        Writer { out: Vec::new(), write, summary: DumpSummary::default(), time_s, encoded: HashMap::new() };
    let indexed =
        |peer: &Arc<Peer>| IndexedPeer { bgp_id: peer.bgp_id, address: peer.address.ip(), remote_as: peer.remote_as };
    let index: Vec<IndexedPeer> = peers.iter().map(indexed).collect();
    mrt::encode_peer_index(&mut writer.out, time_s, collector_id, "benocs", &index);
    let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id).collect();
    view.by_prefix(&ids, |prefix, paths| writer.prefix(prefix, paths))?;
    writer.flush()?;
    writer.summary.peers = peers.len() as u64;
    Ok(writer.summary)
}

fn peers_of(peers: Vec<Arc<Peer>>, network: &Network, router: &str) -> Result<Vec<Arc<Peer>>, LookupError> {
    let address = router.parse::<IpAddr>().ok().map(Address::from);
    let known = network
        .routers
        .iter()
        .find(|known| known.name == router || address.is_some_and(|address| known.addresses.contains(&address)));
    let addresses = match (known, address) {
        (Some(known), _) => known.addresses.clone(),
        (None, Some(address)) => vec![address],
        (None, None) => Vec::new(),
    };
    let of = |peer: &Arc<Peer>| peer.is_of(&addresses) || peer.name == router;
    let peers: Vec<Arc<Peer>> = peers.into_iter().filter(of).collect();
    if peers.is_empty() { Err(LookupError::UnknownRouter(router.to_owned())) } else { Ok(peers) }
}

struct Writer<W> {
    out: Vec<u8>,
    write: W,
    summary: DumpSummary,
    time_s: u32,
    /// By the path's place, where the view holds it, and the family of the prefix.
    encoded: HashMap<(*const Path, bool), Option<Vec<u8>>>,
}

impl<W: FnMut(Vec<u8>) -> anyhow::Result<()>> Writer<W> {
    fn prefix(&mut self, prefix: Prefix, paths: &[PeerPath<'_>]) -> anyhow::Result<()> {
        if self.encoded.len() + paths.len() > ENCODED_MAX {
            self.encoded.clear();
        }
        let v6 = !prefix.address.is_v4();
        for (_, _, path) in paths {
            self.encoded.entry((Arc::as_ptr(path), v6)).or_insert_with(|| encoded(path, v6));
        }
        let entry = |(peer, path_id, path): &PeerPath<'_>| {
            let attributes = self.encoded.get(&(Arc::as_ptr(path), v6))?.as_deref()?;
            Some((*peer as u16, self.time_s, *path_id, attributes))
        };
        let entries: Vec<mrt::NewEntry<'_>> = paths.iter().filter_map(entry).collect();
        let address = match prefix.address.v4() {
            Some(octets) => PrefixAddress::V4(octets),
            None => PrefixAddress::V6(prefix.address.0),
        };
        let nlri = NlriPrefix { path_id: 0, address, len: prefix.len };
        for entries in entries.chunks(usize::from(u16::MAX)) {
            mrt::encode_rib(&mut self.out, self.time_s, self.summary.prefixes as u32, &nlri, entries);
        }
        self.summary.prefixes += 1;
        self.summary.routes += entries.len() as u64;
        self.summary.left_out += (paths.len() - entries.len()) as u64;
        if self.out.len() >= CHUNK_OCTETS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.summary.octets += self.out.len() as u64;
        (self.write)(std::mem::take(&mut self.out))
    }
}

/// An IPv6 route by way of an IPv4 address has that one mapped (RFC 4291 2.5.5.2).
fn encoded(path: &Path, v6: bool) -> Option<Vec<u8>> {
    let as_path: Vec<(SegmentKind, Vec<u32>)> =
        path.as_path.iter().map(|segment| (SegmentKind(segment.kind), segment.asns.clone())).collect();
    let route = RouteUpdate {
        origin: path.origin,
        as_path: &as_path,
        next_hop: path.next_hop.v4().filter(|_| !v6).map_or(NextHop::V6(path.next_hop.0, None), NextHop::V4),
        med: path.med,
        local_pref: path.local_pref,
        communities: &path.communities,
        large_communities: &path.large_communities,
        ext_communities: &path.ext_communities,
        originator_id: path.originator_id,
        cluster_list: &path.cluster_list,
    };
    let mut out = Vec::new();
    mrt::encode_attributes(&mut out, &route).then_some(out)
}
