//! The gateway's metrics. Names that users rely on are in the interface; none has a peer, room or address label.

mod joins;

use std::sync::OnceLock;
use std::time::Instant;

use heliograph_bus::budget::Limit;
use heliograph_core::authority::{Authority, Denial, Standing};
use heliograph_core::close::CloseCode;
use heliograph_core::id::Version;
use heliograph_core::message::Kind;
use heliograph_core::session::Outcome;
use heliograph_wire::Dialect;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

pub(crate) use joins::{Join, Joins};

/// Seconds; signaling within a node takes tens of microseconds, over a bus milliseconds.
const RELAY_BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// What a client message was, for the `kind` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Register,
    Offer,
    Answer,
    Candidate,
    Application,
    Ping,
    MeshHealth,
    Heartbeat,
    Resume,
    Enter,
    Leave,
    Broadcast,
    Unknown,
    Malformed,
}

impl MessageKind {
    const COUNT: usize = 14;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Candidate => "ice_candidate",
            Self::Application => "application",
            Self::Ping => "ping",
            Self::MeshHealth => "mesh_health",
            Self::Heartbeat => "heartbeat",
            Self::Resume => "resume",
            Self::Enter => "enter",
            Self::Leave => "leave",
            Self::Broadcast => "broadcast",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
        }
    }

    pub(crate) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Offer => Self::Offer,
            Kind::Answer => Self::Answer,
            Kind::Candidate => Self::Candidate,
            Kind::Application(_) => Self::Application,
        }
    }
}

/// Where a message was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Target,
}

/// Every instrument of the gateway.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) sessions: IntGaugeVec,
    pub(crate) sessions_total: IntCounterVec,
    closes: IntCounterVec,
    messages: IntCounterVec,
    /// Resolved cells of `messages`: looking one up by labels costs more than relaying.
    message_cells: Vec<OnceLock<IntCounter>>,
    pub(crate) relay_local: Histogram,
    pub(crate) relay_bus: Histogram,
    pub(crate) bus_up: IntGauge,
    outbox_dropped: IntCounterVec,
    denied: IntCounterVec,
    pub(crate) lease: Lease,
    rate_limited: IntCounterVec,
    refused_upgrades: IntCounterVec,
    pub(crate) connections: IntGauge,
    pub(crate) token_exchanges: IntCounterVec,
    pub(crate) comings: Comings,
    pub(crate) joins: Joins,
}

/// This node's view of the pairing state, and the lease on it.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) remaining: Gauge,
    pub(crate) version: IntGauge,
    pub(crate) lag: IntGauge,
    pub(crate) fail_closed: IntGauge,
    pub(crate) renewals: IntCounter,
}

impl Lease {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let renewals = IntCounter::new(
            "heliograph_authorization_renewals_total",
            "Renewals of this node's authorization lease that were granted",
        )?;
        registry.register(Box::new(renewals.clone()))?;
        Ok(Self {
            remaining: float_gauge(
                registry,
                "heliograph_authorization_lease_remaining_seconds",
                "What is left of this node's authorization lease",
            )?,
            version: gauge(
                registry,
                "heliograph_authorization_version",
                "The pairing version that this node has applied",
            )?,
            lag: gauge(
                registry,
                "heliograph_authorization_lag",
                "Committed changes of the pairing state that this node has heard of and not yet applied",
            )?,
            fail_closed: gauge(
                registry,
                "heliograph_authorization_fail_closed",
                "1 while this node relays nothing because its lease has run out",
            )?,
            renewals,
        })
    }

    /// How it is now.
    pub(crate) fn look(&self, authority: &Authority, now: Instant) {
        self.remaining.set(authority.lease_remaining(now).as_secs_f64());
        self.version.set(i64::try_from(authority.version().0).unwrap_or(i64::MAX));
        self.fail_closed.set(i64::from(!authority.is_current(now)));
    }

    /// The newest version was `seen`, and `applied` is what is carried out.
    pub(crate) fn lags(&self, seen: Version, applied: Version) {
        self.lag.set(i64::try_from(seen.0.saturating_sub(applied.0)).unwrap_or(i64::MAX));
    }
}

/// Sessions that come, are away, or have to go.
#[derive(Debug)]
pub(crate) struct Comings {
    pub(crate) opening: IntGauge,
    pub(crate) parked: IntGauge,
    pub(crate) draining: IntGauge,
    resume_total: IntCounterVec,
}

impl Comings {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let resume_total = counters(
            registry,
            "heliograph_resume_total",
            "Sessions that clients wanted to resume or might have, by what became of them",
            &["outcome"],
        )?;
        for outcome in ["recovered", "fresh", "expired"] {
            resume_total.with_label_values(&[outcome]);
        }
        Ok(Self {
            opening: gauge(
                registry,
                "heliograph_opening_sessions",
                "Sessions on their way from upgrade to open",
            )?,
            parked: gauge(
                registry,
                "heliograph_parked_sessions",
                "Sessions whose client lost its connection and may come back",
            )?,
            draining: gauge(registry, "heliograph_draining", "1 while this node drains")?,
            resume_total,
        })
    }

    /// `recovered`, `fresh` (the token was unknown or its time over) or `expired` (nobody came).
    pub(crate) fn resumed(&self, outcome: &'static str) {
        self.resume_total.with_label_values(&[outcome]).inc();
    }
}

/// Outcomes that objectives and alerts name: their series exist from the start.
const NAMED_OUTCOMES: [Outcome; 6] = {
    use heliograph_core::message::Undeliverable as U;
    [
        Outcome::Relayed,
        Outcome::Denied(Denial::NoLease),
        Outcome::Refused(U::Unavailable),
        Outcome::Refused(U::BusUnavailable),
        Outcome::Refused(U::QueueFull),
        Outcome::Refused(U::RateLimited),
    ]
};

/// The outcomes that the `outcome` label can take.
const OUTCOMES: usize = 13;

fn outcome_index(outcome: Outcome) -> usize {
    use heliograph_core::message::Undeliverable as U;
    match outcome {
        Outcome::Accepted => 0,
        Outcome::Relayed => 1,
        Outcome::Ignored => 2,
        Outcome::Spoofed => 3,
        Outcome::NotRegistered => 4,
        Outcome::Denied(Denial::NoLease) | Outcome::Refused(U::AuthorizationUnavailable) => 5,
        Outcome::Denied(_) => 6,
        Outcome::Refused(U::Unavailable) => 7,
        Outcome::Refused(U::BusUnavailable) => 8,
        Outcome::Refused(U::QueueFull) => 9,
        Outcome::Refused(U::RateLimited) => 10,
        Outcome::Refused(U::TooLarge) => 11,
        Outcome::Refused(U::Malformed | U::Expired) => 12,
    }
}

impl Metrics {
    /// Makes and registers every instrument. An error means that a name is registered twice.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let relay = HistogramVec::new(
            HistogramOpts::new(
                "heliograph_relay_seconds",
                "Time from accepting a message to writing it to the target's socket",
            )
            .buckets(RELAY_BUCKETS.to_vec()),
            &["path"],
        )?;
        registry.register(Box::new(relay.clone()))?;
        let metrics = Self {
            sessions: gauges(registry, "heliograph_sessions", "Live sessions", &["dialect"])?,
            sessions_total: counters(registry, "heliograph_sessions_total", "Sessions opened", &["dialect"])?,
            closes: counters(
                registry,
                "heliograph_session_closes_total",
                "Sessions ended, by close code",
                &["code"],
            )?,
            messages: counters(
                registry,
                "heliograph_messages_total",
                "Messages from clients, by what became of them",
                &["dialect", "kind", "outcome"],
            )?,
            message_cells: (0..Dialect::ALL.len() * MessageKind::COUNT * OUTCOMES)
                .map(|_| OnceLock::new())
                .collect(),
            relay_local: relay.with_label_values(&["local"]),
            relay_bus: relay.with_label_values(&["bus"]),
            bus_up: gauge(
                registry,
                "heliograph_bus_up",
                "1 while parcels can be expected to pass between nodes",
            )?,
            outbox_dropped: counters(
                registry,
                "heliograph_outbox_dropped_total",
                "Messages dropped from the queue of a socket",
                &["reason"],
            )?,
            denied: counters(
                registry,
                "heliograph_authorization_denied_total",
                "Messages refused by the authorization check, by side and reason",
                &["side", "reason"],
            )?,
            lease: Lease::register(registry)?,
            rate_limited: counters(
                registry,
                "heliograph_rate_limited_total",
                "Requests, sockets and messages refused by a limit",
                &["limit"],
            )?,
            refused_upgrades: counters(
                registry,
                "heliograph_upgrades_refused_total",
                "WebSocket upgrades refused, by HTTP status",
                &["status"],
            )?,
            connections: gauge(
                registry,
                "heliograph_connections",
                "Open TCP connections on the public listener",
            )?,
            token_exchanges: counters(
                registry,
                "heliograph_token_exchanges_total",
                "Token exchanges, by credential and outcome",
                &["credential", "outcome"],
            )?,
            comings: Comings::register(registry)?,
            joins: Joins::register(registry)?,
        };
        metrics.touch();
        Ok(metrics)
    }

    /// Makes the series that dashboards name exist before their first event.
    fn touch(&self) {
        for dialect in Dialect::ALL {
            self.sessions.with_label_values(&[dialect.as_str()]);
            self.sessions_total.with_label_values(&[dialect.as_str()]);
            for outcome in NAMED_OUTCOMES {
                self.message(dialect, MessageKind::Offer, outcome, 0);
            }
        }
        for code in CloseCode::ALL {
            self.closes.with_label_values(&[&code.code().to_string()]);
        }
        self.closes.with_label_values(&["1006"]); // the connection broke
        for status in ["400", "401", "403", "426", "429", "503"] {
            self.refused_upgrades.with_label_values(&[status]);
        }
        for credential in ["api_key", "device_token", "assertion", "claim_token", "none"] {
            for outcome in ["issued", "refused", "unavailable"] {
                self.token_exchanges.with_label_values(&[credential, outcome]);
            }
        }
        for reason in ["stale_candidate", "slow_consumer"] {
            self.outbox_dropped.with_label_values(&[reason]);
        }
        for side in [Side::Sender, Side::Target] {
            self.denied_cell(side, Denial::NoLease);
            self.denied_cell(side, Denial::Sender(Standing::Revoked));
        }
        for limit in [Limit::Upgrades, Limit::RedeemFailures, Limit::AuthFailures] {
            self.rate_limited.with_label_values(&[limit.as_str()]);
        }
        for limit in
            ["messages", "opening", "sockets_per_address", "unauthenticated", "unauthenticated_per_address"]
        {
            self.rate_limited.with_label_values(&[limit]);
        }
    }

    /// `heliograph_rate_limited_total{limit}`, which others count into as well.
    pub fn rate_limited(&self) -> IntCounterVec {
        self.rate_limited.clone()
    }

    pub(crate) fn message(&self, dialect: Dialect, kind: MessageKind, outcome: Outcome, count: u64) {
        let at = (dialect as usize * MessageKind::COUNT + kind as usize) * OUTCOMES + outcome_index(outcome);
        if let Some(cell) = self.message_cells.get(at) {
            cell.get_or_init(|| {
                self.messages.with_label_values(&[dialect.as_str(), kind.as_str(), outcome.as_str()])
            })
            .inc_by(count);
        }
    }

    pub(crate) fn closed(&self, code: u16) {
        self.closes.with_label_values(&[&code.to_string()]).inc();
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        self.outbox_dropped.with_label_values(&[reason]).inc();
    }

    fn denied_cell(&self, side: Side, denial: Denial) -> IntCounter {
        let side = match side {
            Side::Sender => "sender",
            Side::Target => "target",
        };
        self.denied.with_label_values(&[side, reason(denial)])
    }

    pub(crate) fn denied(&self, side: Side, denial: Denial) {
        self.denied_cell(side, denial).inc();
    }

    pub(crate) fn limited(&self, limit: &'static str) {
        self.rate_limited.with_label_values(&[limit]).inc();
    }

    pub(crate) fn upgrade_refused(&self, status: u16) {
        self.refused_upgrades.with_label_values(&[&status.to_string()]).inc();
    }
}

fn reason(denial: Denial) -> &'static str {
    match denial {
        Denial::NoLease => "no_lease",
        Denial::Sender(standing) | Denial::Target(standing) => match standing {
            Standing::Unknown => "unknown",
            Standing::Pending => "pending",
            Standing::Approved => "approved",
            Standing::Rejected => "rejected",
            Standing::Revoked => "revoked",
        },
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let metric = IntGauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn float_gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<Gauge> {
    let metric = Gauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
