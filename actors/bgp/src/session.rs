//! One connection: the finite state machine of RFC 4271 8, from TCP to its end.
//!
//!   OpenSent --OPEN--> OpenConfirm --KEEPALIVE--> Established --UPDATE...--> end

use std::cell::RefCell;
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

use crate::convert;
use crate::core::{Core, Refusal, bgp_code};

/// RFC 4271 8.2.2: while waiting for the OPEN.
const OPEN_HOLD: Duration = Duration::from_secs(240);
/// Octets read before others get their turn; holds the largest message.
const BUFFER_OCTETS: usize = 128 << 10;
const AS_TRANS: u16 = bgp::AS_TRANS;

/// What others may ask of a session.
#[derive(Debug)]
pub(crate) enum Order {
    Close { code: u8, subcode: u8, data: Vec<u8> },
    Refresh,
}

/// A session's handle.
pub(crate) struct Control {
    stream: TcpStream,
    orders: RefCell<Vec<Order>>,
    wake: Notify,
}

impl Control {
    pub(crate) fn new(stream: TcpStream) -> Rc<Self> {
        Rc::new(Self { stream, orders: RefCell::default(), wake: Notify::new() })
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.borrow_mut().push(order);
        self.wake.notify_one();
    }

    /// The last word of an actor that ends, without waiting.
    pub(crate) fn farewell(&self, text: &str) {
        let mut out = Vec::new();
        bgp::encode_notification(&mut out, bgp_code::CEASE, 2, &shutdown_message(text));
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

/// What the peer's OPEN said.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) remote_as: u32,
    pub(crate) bgp_id: [u8; 4],
    hold_time_s: u16,
    four_octet_as: bool,
    extended_messages: bool,
    route_refresh: bool,
    add_path: Vec<Family>,
    families: Vec<Family>,
    /// RFC 4724: how long its routes are to be kept when it goes.
    pub(crate) restart_time_s: Option<u16>,
    pub(crate) restart_families: Vec<Family>,
    /// Families whose forwarding it kept in the restart that it comes from.
    pub(crate) kept_families: Vec<Family>,
}

impl Remote {
    fn new(open: &Open<'_>) -> Self {
        let restart = open.graceful_restart();
        let families = |kept: bool| {
            let all = restart.into_iter().flat_map(|restart| &restart.families);
            all.filter(|(_, keeps)| !kept || *keeps).map(|(family, _)| *family).collect::<Vec<_>>()
        };
        let restart_families = families(false);
        Self {
            remote_as: open.remote_as(),
            bgp_id: open.bgp_id,
            hold_time_s: open.hold_time_s,
            four_octet_as: open.has_four_octet_as(),
            extended_messages: open.has_extended_messages(),
            route_refresh: open.has_route_refresh(),
            add_path: open.add_path_sends(),
            families: open.families(),
            restart_time_s: restart
                .filter(|restart| !restart.families.is_empty() && restart.time_s > 0)
                .map(|restart| restart.time_s),
            restart_families,
            kept_families: families(true),
        }
    }
}

/// Why a session ended.
enum End {
    /// What the peer did wrong.
    Wrong(BgpError),
    Refused(Refusal),
    HoldTimer,
    /// A message that has no place in the state.
    OutOfState(u8),
    Ordered {
        code: u8,
        subcode: u8,
        data: Vec<u8>,
    },
    TooManyRoutes,
    /// The peer's own words.
    Told(String),
    Lost(String),
}

impl End {
    fn text(&self) -> String {
        match self {
            End::Wrong(error) => error.to_string(),
            End::Refused(refusal) => refusal.text.clone(),
            End::HoldTimer => "hold timer expired".to_owned(),
            End::OutOfState(kind) => format!("message of type {kind} out of place"),
            End::Ordered { code, subcode, .. } => format!("closed from here ({code}/{subcode})"),
            End::TooManyRoutes => "peer announced more than bgp.routes_max".to_owned(),
            End::Told(text) => format!("peer said: {text}"),
            End::Lost(text) => text.clone(),
        }
    }

    fn notification(&self) -> Option<(u8, u8, &[u8])> {
        match self {
            End::Wrong(error) => Some((error.code, error.subcode, &error.data)),
            End::Refused(refusal) => Some((refusal.code, refusal.subcode, &[])),
            End::HoldTimer => Some((bgp_code::HOLD_TIMER, 0, &[])),
            End::OutOfState(_) => Some((bgp_code::STATE_MACHINE, 0, &[])),
            End::Ordered { code, subcode, data } => Some((*code, *subcode, data)),
            End::TooManyRoutes => Some((bgp_code::CEASE, 1, &[])),
            End::Told(_) | End::Lost(_) => None,
        }
    }
}

pub(crate) struct Session {
    core: Rc<RefCell<Core>>,
    control: Rc<Control>,
    number: u64,
    peer: Option<usize>,
    initiated: bool,
    agreed: Agreed,
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
        buffer: vec![0; BUFFER_OCTETS].into_boxed_slice(),
        start: 0,
        end: 0,
    };
    let Err(end) = session.talk(&candidates).await;
    if let Some((code, subcode, data)) = end.notification() {
        let mut out = Vec::new();
        bgp::encode_notification(&mut out, code, subcode, data);
        let _ = timeout(Duration::from_secs(2), session.send(&out)).await;
    }
    control.hang_up();
    if matches!(end, End::Wrong(_)) {
        core.borrow().drops.session_reset.increment(1);
    }
    // RFC 4724 4.2: only a connection that just broke is a restart.
    let graceful = matches!(end, End::Lost(_));
    let text = end.text();
    if session.peer.is_none() {
        tracing::info!(peers = candidates.len(), reason = %text, "bgp connection ended before its open");
    }
    core.borrow_mut().closed(number, session.peer, &text, graceful);
}

impl Session {
    async fn talk(&mut self, candidates: &[usize]) -> Result<std::convert::Infallible, End> {
        let open = self.own_open();
        self.send(&open).await?;

        // OpenSent.
        let deadline = Instant::now() + OPEN_HOLD;
        let remote = loop {
            if let Some(remote) = self.step(|message| match message {
                Message::Open(open) => Ok(Remote::new(&open)),
                other => Err(unexpected(&other)),
            })? {
                break remote;
            }
            self.fill(deadline).await?;
        };
        let admitted = self.core.borrow_mut().admit(candidates, self.number, &self.control, self.initiated, &remote);
        let peer = admitted.map_err(End::Refused)?;
        self.peer = Some(peer);
        let own_hold_s = {
            let core = self.core.borrow();
            self.agreed = Agreed {
                four_octet_as: remote.four_octet_as,
                add_path: remote.add_path.clone(),
                extended_messages: remote.extended_messages,
                external: remote.remote_as != core.config.local_as,
            };
            core.config.hold_time_s
        };
        let hold = Duration::from_secs(u64::from(own_hold_s.min(remote.hold_time_s)));
        self.keepalive().await?;

        // OpenConfirm.
        let deadline = Instant::now() + if hold.is_zero() { OPEN_HOLD } else { hold };
        loop {
            let confirmed = self.step(|message| match message {
                Message::Keepalive => Ok(()),
                other => Err(unexpected(&other)),
            })?;
            if confirmed.is_some() {
                break;
            }
            self.fill(deadline).await?;
        }

        self.core.borrow_mut().established(peer, self.number);
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
            for order in control.orders.take() {
                match order {
                    Order::Close { code, subcode, data } => return Err(End::Ordered { code, subcode, data }),
                    Order::Refresh if remote.route_refresh => self.refresh(remote).await?,
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
        let (id, own_id) = {
            let core = core.borrow();
            (core.peers[peer].id, core.plan.router_id)
        };
        let mut events = Vec::new();
        let mut updates = 0;
        let mut heard = false;
        let outcome = loop {
            let step = self.step(|message| {
                match message {
                    Message::Update(update) => {
                        updates += 1;
                        if !update.faults.is_empty() {
                            let first = update.faults[0].error;
                            tracing::debug!(peer, error = %first, "bgp update with errors");
                            core.borrow().faults(&update.faults);
                        }
                        convert::events(id, own_id, &update, &mut events);
                    }
                    Message::Keepalive | Message::RouteRefresh(_) => {}
                    other => return Err(unexpected(&other)),
                }
                Ok(())
            });
            match step {
                Ok(Some(())) => heard = true,
                Ok(None) => break Ok(heard),
                Err(end) => break Err(end),
            }
        };
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

    async fn refresh(&self, remote: &Remote) -> Result<(), End> {
        let mut out = Vec::new();
        for family in [Family::V4_UNICAST, Family::V6_UNICAST] {
            if remote.families.contains(&family) {
                bgp::encode_route_refresh(&mut out, family);
            }
        }
        self.send(&out).await
    }

    fn own_open(&self) -> Vec<u8> {
        let core = self.core.borrow();
        let local_as = core.config.local_as;
        let both = [Family::V4_UNICAST, Family::V6_UNICAST];
        let receive = |family| bgp::AddPath { family, receive: true, send: false };
        let mut capabilities: Vec<Capability<'_>> = both.into_iter().map(Capability::MultiProtocol).collect();
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![(Family::V4_UNICAST, 2)]),
            Capability::ExtendedMessage,
            // Helps others to restart; keeps no forwarding of its own (RFC 4724 3).
            Capability::GracefulRestart(GracefulRestart {
                restarted: false,
                notification: false,
                time_s: 0,
                families: Vec::new(),
            }),
            Capability::FourOctetAs(local_as),
            Capability::AddPath(both.into_iter().map(receive).collect()),
        ]);
        let open = Open {
            version: bgp::VERSION,
            as_two_octets: u16::try_from(local_as).unwrap_or(AS_TRANS),
            hold_time_s: core.config.hold_time_s,
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

fn unexpected(message: &Message<'_>) -> End {
    match message {
        Message::Notification(notification) => End::Told(Notification::to_string(notification)),
        Message::Open(_) => End::OutOfState(kind::OPEN),
        Message::Update(_) => End::OutOfState(kind::UPDATE),
        Message::Keepalive => End::OutOfState(kind::KEEPALIVE),
        Message::RouteRefresh(_) => End::OutOfState(kind::ROUTE_REFRESH),
    }
}
