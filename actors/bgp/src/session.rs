//! One connection: the finite state machine of RFC 4271 8, from TCP to its end.
//!
//!   OpenSent --OPEN--> OpenConfirm --KEEPALIVE--> Established --UPDATE...--> end

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use benocs_wire::bgp::{
    self, Agreed, BgpError, Capability, Family, GracefulRestart, Message, Notification, Open, kind, shutdown_message,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::announce;
use crate::config::Template;
use crate::core::{Core, Refusal, bgp_code};

/// RFC 4271 8.2.2: while waiting for the OPEN.
const OPEN_HOLD: Duration = Duration::from_secs(240);
/// Octets read before others get their turn; holds the largest message.
const BUFFER_OCTETS: usize = 128 << 10;
const AS_TRANS: u16 = bgp::AS_TRANS;
/// Labels of a route that are read (RFC 8277 2.1).
const LABELS: u8 = 8;

/// What others may ask of a session.
#[derive(Debug)]
pub(crate) enum Order {
    Close { code: u8, subcode: u8, data: Vec<u8> },
    Refresh,
}

/// A session's handle.
pub(crate) struct Control {
    stream: TcpStream,
    /// RFC 8538: the peer tells a hard reset from others.
    hard_resets: Cell<bool>,
    orders: RefCell<Vec<Order>>,
    wake: Notify,
}

impl Control {
    pub(crate) fn new(stream: TcpStream) -> Rc<Self> {
        Rc::new(Self { stream, hard_resets: Cell::new(false), orders: RefCell::default(), wake: Notify::new() })
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.borrow_mut().push(order);
        self.wake.notify_one();
    }

    /// The last word of an actor that ends, without waiting.
    pub(crate) fn farewell(&self, text: &str) {
        let mut out = Vec::new();
        encode_cease(&mut out, 2, &shutdown_message(text), self.hard_resets.get());
        let _ = self.stream.try_write(&out);
        self.hang_up();
    }

    /// Unread octets would turn the close into a reset, and the peer would not read what was said last.
    fn hang_up(&self) {
        let _ = socket2::SockRef::from(&self.stream).shutdown(Shutdown::Write);
        let mut scratch = [0; 4096];
        for _ in 0..64 {
            if !matches!(self.stream.try_read(&mut scratch), Ok(1..)) {
                return;
            }
        }
    }
}

/// RFC 8538 3.1: an end that the peer is not to bridge is a hard reset, with the other one in it.
fn encode_cease(out: &mut Vec<u8>, subcode: u8, data: &[u8], hard_resets: bool) {
    if hard_resets {
        let data = [&[bgp_code::CEASE, subcode], data].concat();
        bgp::encode_notification(out, bgp_code::CEASE, bgp_code::HARD_RESET, &data);
    } else {
        bgp::encode_notification(out, bgp_code::CEASE, subcode, data);
    }
}

/// RFC 4271 8.1.1, RFC 4486 3: the peer is to wait.
pub(crate) fn reject(stream: &TcpStream) {
    let mut out = Vec::new();
    bgp::encode_notification(&mut out, bgp_code::CEASE, bgp_code::REJECTED, &[]);
    let _ = stream.try_write(&out);
}

/// What the peer's OPEN said.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) remote_as: u32,
    pub(crate) bgp_id: [u8; 4],
    hold_time_s: u16,
    four_octet_as: bool,
    extended_messages: bool,
    route_refresh: bool,
    enhanced_refresh: bool,
    add_path: Vec<Family>,
    multiple_labels: Vec<Family>,
    families: Vec<Family>,
    /// RFC 8950: IPv4 routes to it may have IPv6 next hops.
    v6_next_hops: bool,
    /// RFC 9234 4.1.
    pub(crate) role: Option<u8>,
    /// RFC 4724 2: it waits for End-of-RIB.
    graceful: bool,
    /// RFC 8538: a NOTIFICATION does not end its routes.
    notification: bool,
    /// RFC 4724: how long its routes are to be kept when it goes.
    pub(crate) restart_time_s: Option<u16>,
    pub(crate) restart_families: Vec<Family>,
    /// RFC 9494: and how long after that, by family.
    pub(crate) long_lived: Vec<(Family, Duration)>,
    /// Families whose forwarding it kept in the restart that it comes from.
    pub(crate) kept_families: Vec<Family>,
}

impl Remote {
    fn new(open: &Open<'_>) -> Result<Self, BgpError> {
        let restart = open.graceful_restart();
        let families = |kept: bool| {
            let all = restart.into_iter().flat_map(|restart| &restart.families);
            all.filter(|(_, keeps)| !kept || *keeps).map(|(family, _)| *family).collect::<Vec<_>>()
        };
        let restart_families = families(false);
        // RFC 9494 4.2: nothing without the other capability.
        let long = || open.long_lived_graceful_restart().filter(|_| restart.is_some());
        let long_lived: Vec<(Family, Duration)> = long()
            .filter(|(.., seconds)| *seconds > 0)
            .map(|(family, _, seconds)| (family, Duration::from_secs(u64::from(seconds))))
            .collect();
        let mut kept_families = families(true);
        kept_families.extend(long().filter(|(_, flags, _)| flags & 0x80 != 0).map(|(family, ..)| family));
        let bridges = |restart: &&GracefulRestart| !restart.families.is_empty() && restart.time_s > 0;
        let bridges = |restart: &&GracefulRestart| bridges(restart) || !long_lived.is_empty();
        let restart_time_s = restart.filter(bridges).map(|restart| restart.time_s);
        let v6_next_hops = |capability: &Capability<'_>| match capability {
            Capability::ExtendedNextHop(list) => list.contains(&(Family::V4_UNICAST, 2)),
            _ => false,
        };
        Ok(Self {
            remote_as: open.remote_as(),
            bgp_id: open.bgp_id,
            hold_time_s: open.hold_time_s,
            four_octet_as: open.has_four_octet_as(),
            extended_messages: open.has_extended_messages(),
            route_refresh: open.has_route_refresh(),
            enhanced_refresh: open.has_enhanced_refresh(),
            add_path: open.add_path_sends(),
            multiple_labels: open.multiple_labels(),
            families: open.families(),
            v6_next_hops: open.capabilities.iter().any(v6_next_hops),
            role: open.role()?,
            graceful: restart.is_some(),
            notification: restart.is_some_and(|restart| restart.notification),
            restart_time_s,
            restart_families,
            long_lived,
            kept_families,
        })
    }

    /// Families of both sides (RFC 4760 8).
    pub(crate) fn agreed_families(&self, own: &[Family]) -> Vec<Family> {
        own.iter().copied().filter(|family| self.families.contains(family)).collect()
    }

    /// How its messages are read.
    fn agreed(&self, own: &[Family], external: bool) -> Agreed {
        let both = |list: &[Family]| list.iter().copied().filter(|family| own.contains(family)).collect();
        Agreed {
            four_octet_as: self.four_octet_as,
            add_path: both(&self.add_path),
            extended_messages: self.extended_messages,
            external,
            multiple_labels: both(&self.multiple_labels),
        }
    }
}

/// Why a session ended.
enum End {
    /// What the peer did wrong.
    Wrong(BgpError),
    Refused(Refusal),
    HoldTimer,
    /// A message that has no place in the state: the state's number (RFC 6608 3), the message's type.
    OutOfState(u8, u8),
    Ordered {
        code: u8,
        subcode: u8,
        data: Vec<u8>,
    },
    TooManyRoutes,
    /// The peer's own words; whether its routes are to go at once (RFC 8538 3).
    Told(String, bool),
    Lost(String),
}

impl End {
    fn text(&self) -> String {
        match self {
            End::Wrong(error) => error.to_string(),
            End::Refused(refusal) => refusal.text.clone(),
            End::HoldTimer => "hold timer expired".to_owned(),
            End::OutOfState(_, kind) => format!("message of type {kind} out of place"),
            End::Ordered { code, subcode, .. } => format!("closed from here ({code}/{subcode})"),
            End::TooManyRoutes => "peer announced more than routes_max".to_owned(),
            End::Told(text, _) => format!("peer said: {text}"),
            End::Lost(text) => text.clone(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>, hard_resets: bool) {
        match self {
            End::Wrong(error) => bgp::encode_notification(out, error.code, error.subcode, &error.data),
            End::Refused(refusal) => bgp::encode_notification(out, refusal.code, refusal.subcode, &[]),
            End::HoldTimer => bgp::encode_notification(out, bgp_code::HOLD_TIMER, 0, &[]),
            End::OutOfState(state, kind) => bgp::encode_notification(out, bgp_code::STATE_MACHINE, *state, &[*kind]),
            End::Ordered { code, subcode, data } => bgp::encode_notification(out, *code, *subcode, data),
            End::TooManyRoutes => encode_cease(out, 1, &[], hard_resets),
            End::Told(..) | End::Lost(_) => {}
        }
    }

    /// RFC 4724 4.2: a connection that just broke is a restart; RFC 8538 3: where both say so, a NOTIFICATION
    /// of either side too.
    fn is_graceful(&self, both_bridge: bool) -> bool {
        match self {
            End::Lost(_) => true,
            End::Wrong(_) | End::HoldTimer | End::OutOfState(..) => both_bridge,
            End::Told(_, at_once) => both_bridge && !at_once,
            End::Refused(_) | End::Ordered { .. } | End::TooManyRoutes => false,
        }
    }

    /// The next session is to wait.
    fn is_fault(&self) -> bool {
        match self {
            End::Wrong(_) | End::OutOfState(..) | End::TooManyRoutes => true,
            // A collision is nobody's error.
            End::Refused(refusal) => refusal.code != bgp_code::CEASE,
            _ => false,
        }
    }
}

/// States by the numbers that RFC 6608 3 gives their errors.
mod state {
    pub(super) const OPEN_SENT: u8 = 1;
    pub(super) const OPEN_CONFIRM: u8 = 2;
    pub(super) const ESTABLISHED: u8 = 3;
}

pub(crate) struct Session {
    core: Rc<RefCell<Core>>,
    control: Rc<Control>,
    number: u64,
    peer: Option<usize>,
    initiated: bool,
    agreed: Agreed,
    /// Families of the session.
    families: Vec<Family>,
    /// What the peer asked to be told again.
    requests: Vec<Family>,
    buffer: Box<[u8]>,
    /// Unparsed octets are `start..end`.
    start: usize,
    end: usize,
}

/// Runs a connection to its end; `candidates` are the peers that it may be of.
pub(crate) async fn run(core: Rc<RefCell<Core>>, stream: TcpStream, candidates: Vec<usize>, initiated: bool) {
    let _ = stream.set_nodelay(true);
    let control = Control::new(stream);
    let number = core.borrow_mut().register(control.clone());
    let mut session = Session {
        core: core.clone(),
        control: control.clone(),
        number,
        peer: None,
        initiated,
        agreed: Agreed::default(),
        families: Vec::new(),
        requests: Vec::new(),
        buffer: vec![0; BUFFER_OCTETS].into_boxed_slice(),
        start: 0,
        end: 0,
    };
    let Err(end) = session.talk(&candidates).await;
    let mut out = Vec::new();
    end.encode(&mut out, control.hard_resets.get());
    if !out.is_empty() {
        let _ = timeout(Duration::from_secs(2), session.send(&out)).await;
    }
    control.hang_up();
    if matches!(end, End::Wrong(_)) {
        core.borrow().drops.session_reset.increment(1);
    }
    let text = end.text();
    if session.peer.is_none() {
        tracing::info!(peers = candidates.len(), reason = %text, "bgp connection ended before its open");
        if end.is_fault() {
            core.borrow_mut().refused(&candidates);
        }
    }
    let graceful = end.is_graceful(control.hard_resets.get());
    core.borrow_mut().closed(number, session.peer, &text, graceful, end.is_fault());
}

impl Session {
    async fn talk(&mut self, candidates: &[usize]) -> Result<std::convert::Infallible, End> {
        let template = {
            let core = self.core.borrow();
            core.peers[candidates[0]].plan.template.clone()
        };
        let open = self.own_open(&template);
        self.send(&open).await?;

        // OpenSent.
        let deadline = Instant::now() + OPEN_HOLD;
        let remote = loop {
            if let Some(remote) = self.step(|message| match message {
                Message::Open(open) => Remote::new(&open).map_err(End::Wrong),
                other => Err(unexpected(&other, state::OPEN_SENT)),
            })? {
                break remote;
            }
            self.fill(deadline).await?;
        };
        let admitted = self.core.borrow_mut().admit(candidates, self.number, &self.control, self.initiated, &remote);
        let peer = admitted.map_err(End::Refused)?;
        self.peer = Some(peer);
        let external = !self.core.borrow().config.is_inside(remote.remote_as);
        self.agreed = remote.agreed(&template.families, external);
        self.families = remote.agreed_families(&template.families);
        let own_hold_s = template.hold_time_s;
        let hold = Duration::from_secs(u64::from(own_hold_s.min(remote.hold_time_s)));
        self.keepalive().await?;

        // OpenConfirm.
        let deadline = Instant::now() + if hold.is_zero() { OPEN_HOLD } else { hold };
        loop {
            let confirmed = self.step(|message| match message {
                Message::Keepalive => Ok(()),
                other => Err(unexpected(&other, state::OPEN_CONFIRM)),
            })?;
            if confirmed.is_some() {
                break;
            }
            self.fill(deadline).await?;
        }

        self.control.hard_resets.set(remote.notification);
        self.core.borrow_mut().established(peer, self.number);
        self.tell(peer, &remote, None).await?;
        self.established(peer, hold, &remote).await
    }

    async fn established(
        &mut self,
        peer: usize,
        hold: Duration,
        remote: &Remote,
    ) -> Result<std::convert::Infallible, End> {
        // RFC 4271 4.4: a third of the hold time. None at all where that is zero.
        let far = Duration::from_secs(365 * 86_400);
        let (hold, pause) = if hold.is_zero() { (far, far) } else { (hold, hold / 3) };
        let mut heard = Instant::now();
        let mut said = Instant::now();
        let control = self.control.clone();
        loop {
            if self.consume(peer)? {
                heard = Instant::now();
            }
            let overdue = self.core.borrow_mut().graph_overdue(peer);
            if let Some((outbox, batch)) = overdue {
                // Of an engine that is gone nothing is waited for.
                let _ = outbox.send(batch).await;
                self.core.borrow_mut().graph_sending.remove(&peer);
            }
            for family in std::mem::take(&mut self.requests) {
                self.tell(peer, remote, Some(family)).await?;
            }
            for order in control.orders.take() {
                match order {
                    Order::Close { code, subcode, data } => return Err(End::Ordered { code, subcode, data }),
                    Order::Refresh if remote.route_refresh => self.refresh().await?,
                    Order::Refresh => {}
                }
            }
            if said.elapsed() >= pause {
                self.keepalive().await?;
                said = Instant::now();
            }
            if heard.elapsed() >= hold {
                // What the kernel holds already was heard in time.
                if !self.read_now()? {
                    return Err(End::HoldTimer);
                }
                continue;
            }
            tokio::select! {
                ready = control.stream.readable() => {
                    ready.map_err(|error| lost(&error))?;
                    self.read_now()?;
                    // One peer's full table does not keep the others waiting.
                    tokio::task::yield_now().await;
                }
                () = control.wake.notified() => {}
                () = sleep_until(said + pause) => {}
                () = sleep_until(heard + hold) => {}
            }
        }
    }

    /// Takes all whole messages out of the buffer; true where there was one.
    fn consume(&mut self, peer: usize) -> Result<bool, End> {
        let core = self.core.clone();
        let own_id = core.borrow().plan.router_id;
        let mut events = Vec::new();
        let mut requests = std::mem::take(&mut self.requests);
        let mut updates = 0;
        let mut heard = false;
        let families = self.families.clone();
        let outcome = loop {
            let step = self.step(|message| {
                match message {
                    Message::Update(update) => {
                        updates += 1;
                        let mut core = core.borrow_mut();
                        if !update.faults.is_empty() {
                            let first = update.faults[0].error;
                            tracing::debug!(peer, error = %first, "bgp update with errors");
                            core.faults(&update.faults);
                        }
                        let converter = &mut core.peers[peer].converter;
                        converter.update(own_id, &update, &mut events);
                        // RFC 9552 8.2.2: the only family is worth no session.
                        if let (Some(fault), true) = (update.faults.first(), converter.is_mute()) {
                            let error = BgpError { code: 3, subcode: 9, data: Vec::new(), error: fault.error };
                            return Err(End::Wrong(error));
                        }
                    }
                    Message::Keepalive => {}
                    // RFC 7313 4; of a family that was not agreed it says nothing.
                    Message::RouteRefresh(refresh) if families.contains(&refresh.family) => match refresh.subtype {
                        0 if !requests.contains(&refresh.family) => requests.push(refresh.family),
                        1 => core.borrow_mut().refresh_begins(peer, refresh.family, &mut events),
                        2 => core.borrow_mut().refresh_ends(peer, refresh.family, &mut events),
                        _ => {}
                    },
                    Message::RouteRefresh(_) => {}
                    other => return Err(unexpected(&other, state::ESTABLISHED)),
                }
                Ok(())
            });
            match step {
                Ok(Some(())) => heard = true,
                Ok(None) => break Ok(heard),
                Err(end) => break Err(end),
            }
        };
        self.requests = requests;
        // What came before an error counts.
        if core.borrow_mut().routes(peer, updates, events) {
            return Err(End::TooManyRoutes);
        }
        outcome
    }

    /// Reads one message from the buffer; `None` where it is not there yet.
    fn step<T>(&mut self, take: impl FnOnce(Message<'_>) -> Result<T, End>) -> Result<Option<T>, End> {
        let input = &self.buffer[self.start..self.end];
        let Some((raw, rest)) = bgp::frame(input, &self.agreed).map_err(End::Wrong)? else { return Ok(None) };
        let rest = rest.len();
        let message = bgp::parse(raw, &self.agreed).map_err(End::Wrong)?;
        let taken = take(message)?;
        self.start = self.end - rest;
        Ok(Some(taken))
    }

    /// Waits for octets, an order or the deadline.
    async fn fill(&mut self, deadline: Instant) -> Result<(), End> {
        let control = self.control.clone();
        loop {
            tokio::select! {
                ready = control.stream.readable() => {
                    ready.map_err(|error| lost(&error))?;
                    if self.read_now()? {
                        return Ok(());
                    }
                }
                () = control.wake.notified() => {
                    let order = control.orders.take().into_iter().find(|order| matches!(order, Order::Close { .. }));
                    if let Some(Order::Close { code, subcode, data }) = order {
                        return Err(End::Ordered { code, subcode, data });
                    }
                }
                () = sleep_until(deadline) => return Err(End::HoldTimer),
            }
        }
    }

    /// Reads what is there; false where nothing is.
    fn read_now(&mut self) -> Result<bool, End> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.control.stream.try_read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(End::Lost("peer closed the connection".to_owned())),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(lost(&error)),
        }
    }

    async fn send(&self, mut octets: &[u8]) -> Result<(), End> {
        while !octets.is_empty() {
            match self.control.stream.try_write(octets) {
                Ok(count) => octets = &octets[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A peer that does not read is not waited for longer than it may be silent.
                    let ready = timeout(OPEN_HOLD, self.control.stream.writable()).await;
                    ready.map_err(|_| End::Lost("peer does not read".to_owned()))?.map_err(|error| lost(&error))?;
                }
                Err(error) => return Err(lost(&error)),
            }
        }
        Ok(())
    }

    async fn keepalive(&self) -> Result<(), End> {
        let mut out = Vec::new();
        bgp::encode_keepalive(&mut out);
        self.send(&out).await
    }

    async fn refresh(&self) -> Result<(), End> {
        let mut out = Vec::new();
        self.families.iter().for_each(|family| bgp::encode_route_refresh(&mut out, *family, 0));
        self.send(&out).await
    }

    /// Says what is to be announced, of one family or at the beginning of all, and that this is all.
    async fn tell(&self, peer: usize, remote: &Remote, again: Option<Family>) -> Result<(), End> {
        let mut out = Vec::new();
        let mut count = 0;
        {
            let core = self.core.borrow();
            let name = &core.peers[peer].plan.name;
            let local_as = core.config.local_as_for(remote.remote_as);
            // Path identifiers are not sent from here.
            let agreed = Agreed { add_path: Vec::new(), ..self.agreed.clone() };
            for family in self.families.iter().filter(|family| again.is_none_or(|again| again == **family)) {
                let marks = again.is_some() && remote.enhanced_refresh;
                if marks {
                    bgp::encode_route_refresh(&mut out, *family, 1);
                }
                let announces = &core.plan.announces;
                count += announce::encode(&mut out, announces, name, *family, local_as, remote.v6_next_hops, &agreed);
                if marks {
                    bgp::encode_route_refresh(&mut out, *family, 2);
                } else if remote.graceful {
                    bgp::encode_end_of_rib(&mut out, *family);
                }
            }
        }
        if again.is_none() {
            self.core.borrow_mut().announced(peer, count);
        }
        self.send(&out).await
    }

    fn own_open(&self, template: &Template) -> Vec<u8> {
        let core = self.core.borrow();
        let local_as = core.config.local_as_for(template.remote_as);
        let families = &template.families;
        let receive = |family: &Family| bgp::AddPath { family: *family, receive: true, send: false };
        let mut capabilities: Vec<Capability<'_>> = families.iter().copied().map(Capability::MultiProtocol).collect();
        let of =
            |safis: &[u8]| families.iter().copied().filter(|family| safis.contains(&family.safi)).collect::<Vec<_>>();
        let v4 = of(&[1, 4, 128]).into_iter().filter(|family| family.afi == 1);
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(v4.map(|family| (family, 2)).collect()),
            Capability::ExtendedMessage,
            // Helps others to restart; keeps no forwarding of its own (RFC 4724 3, RFC 9494 4.1).
            Capability::GracefulRestart(GracefulRestart {
                restarted: false,
                notification: true,
                time_s: 0,
                families: Vec::new(),
            }),
            Capability::FourOctetAs(local_as),
            // Link state is named by what it says, not by a path.
            Capability::AddPath(families.iter().filter(|family| !family.is_link_state()).map(receive).collect()),
            Capability::EnhancedRouteRefresh,
            Capability::LongLivedGracefulRestart(Vec::new()),
        ]);
        let stacks = of(&[4, 128]);
        if !stacks.is_empty() {
            capabilities.push(Capability::MultipleLabels(stacks.into_iter().map(|family| (family, LABELS)).collect()));
        }
        if let Some(role) = template.role.filter(|_| !core.config.is_inside(template.remote_as)) {
            capabilities.push(Capability::Role(role));
        }
        let open = Open {
            version: bgp::VERSION,
            as_two_octets: u16::try_from(local_as).unwrap_or(AS_TRANS),
            hold_time_s: template.hold_time_s,
            bgp_id: core.plan.router_id,
            capabilities,
        };
        let mut out = Vec::new();
        bgp::encode_open(&mut out, &open);
        out
    }
}

fn lost(error: &io::Error) -> End {
    End::Lost(format!("connection lost: {error}"))
}

fn unexpected(message: &Message<'_>, state: u8) -> End {
    let kind = match message {
        Message::Notification(notification) => {
            let at_once = notification.code == bgp_code::CEASE && notification.subcode == bgp_code::HARD_RESET;
            return End::Told(Notification::to_string(notification), at_once);
        }
        Message::Open(_) => kind::OPEN,
        Message::Update(_) => kind::UPDATE,
        Message::Keepalive => kind::KEEPALIVE,
        Message::RouteRefresh(_) => kind::ROUTE_REFRESH,
    };
    End::OutOfState(state, kind)
}
