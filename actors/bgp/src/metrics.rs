//! Metrics of the speaker, handles taken once a peer.

use benocs_model::route::Family;
use benocs_runtime::metric;
use metrics::{Counter, Gauge, counter, gauge};

use crate::convert::Lost;

pub(crate) struct PeerMetrics {
    pub(crate) routes_v4: Gauge,
    pub(crate) routes_v6: Gauge,
    pub(crate) established: Gauge,
    pub(crate) updates: Counter,
}

impl PeerMetrics {
    pub(crate) fn new(peer: &str) -> Self {
        let routes = |family: Family| gauge!(metric::BGP_ROUTES, "peer" => peer.to_owned(), "family" => family.text());
        Self {
            routes_v4: routes(Family::V4Unicast),
            routes_v6: routes(Family::V6Unicast),
            established: gauge!(metric::BGP_ESTABLISHED, "peer" => peer.to_owned()),
            updates: counter!(metric::BGP_UPDATES, "peer" => peer.to_owned()),
        }
    }
}

impl PeerMetrics {
    /// The peer is no more.
    pub(crate) fn gone(&self) {
        [&self.routes_v4, &self.routes_v6, &self.established].into_iter().for_each(|gauge| gauge.set(0.0));
    }
}

/// The BMP station's, and what it loses.
pub(crate) struct BmpMetrics {
    pub(crate) messages: Counter,
    pub(crate) routers: Gauge,
    pub(crate) tables_now: Gauge,
    /// Connections from outside `bgp.bmp.allow`.
    pub(crate) stranger: Counter,
    /// Connections beyond `bgp.bmp.connections_max`.
    pub(crate) connections: Counter,
    /// Messages of tables beyond `bgp.bmp.tables_max`.
    pub(crate) tables: Counter,
    /// Messages that are none.
    pub(crate) malformed: Counter,
    /// Messages of a peer that is not up.
    pub(crate) unknown_peer: Counter,
    /// UPDATEs that cannot be read.
    pub(crate) update: Counter,
    /// Mirrored messages, which say nothing that the tables do not.
    pub(crate) mirrored: Counter,
}

impl BmpMetrics {
    pub(crate) fn new() -> Self {
        let drop = |cause: &'static str| counter!(metric::DROPPED, "actor" => "bmp", "cause" => cause);
        Self {
            messages: counter!(metric::BMP_MESSAGES),
            routers: gauge!(metric::BMP_ROUTERS),
            tables_now: gauge!(metric::BMP_TABLES),
            stranger: drop("not-allowed"),
            connections: drop("too-many-connections"),
            tables: drop("too-many-tables"),
            malformed: drop("malformed"),
            unknown_peer: drop("unknown-peer"),
            update: drop("unreadable-update"),
            mirrored: drop("mirrored"),
        }
    }
}

/// What is lost, by cause.
pub(crate) struct Drops {
    /// Connections of nobody who is configured.
    pub(crate) stranger: Counter,
    /// Updates whose routes were withdrawn for an error in them (RFC 7606).
    pub(crate) treated_as_withdraw: Counter,
    /// Attributes left out for an error in them (RFC 7606).
    pub(crate) attribute_discard: Counter,
    /// Families that are not taken any more in a session, for an error in them (RFC 4760 7).
    pub(crate) family_disable: Counter,
    /// Objects of link state left out for an error in them (RFC 9552).
    pub(crate) nlri_discard: Counter,
    /// Messages that ended a session.
    pub(crate) session_reset: Counter,
    /// VPN routes that no VRF takes.
    pub(crate) not_imported: Counter,
    /// Routes that leaked (RFC 9234).
    pub(crate) leaked: Counter,
    /// Routes of a family that was not agreed on, or that is disabled.
    pub(crate) not_agreed: Counter,
    /// FlowSpec rules, and distinguishers, beyond what is kept of a peer.
    pub(crate) no_room: Counter,
    /// Connections of peers that are to wait after an error.
    pub(crate) idle_hold: Counter,
    /// Batches that a receiver of the table had no room for; it gets a snapshot.
    pub(crate) feed_behind: Counter,
}

impl Drops {
    pub(crate) fn lost(&self, lost: &Lost) {
        self.not_imported.increment(lost.not_imported);
        self.leaked.increment(lost.leaked);
        self.not_agreed.increment(lost.not_agreed);
        self.no_room.increment(lost.rules + lost.distinguishers);
    }

    pub(crate) fn new() -> Self {
        let drop = |cause: &'static str| counter!(metric::DROPPED, "actor" => "bgp", "cause" => cause);
        Self {
            stranger: drop("unknown-peer"),
            treated_as_withdraw: drop("treat-as-withdraw"),
            attribute_discard: drop("attribute-discard"),
            family_disable: drop("family-disable"),
            nlri_discard: drop("nlri-discard"),
            session_reset: drop("session-reset"),
            not_imported: drop("vrf-not-imported"),
            leaked: drop("route-leak"),
            not_agreed: drop("family-not-agreed"),
            no_room: drop("no-room"),
            idle_hold: drop("idle-hold"),
            feed_behind: drop("feed-behind"),
        }
    }
}
