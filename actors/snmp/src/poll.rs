//! One poll of one router: GETBULK walks (RFC 3416 4.2.3) of the columns that are needed.
//!
//! What agents do wrong is lived with: tooBig halves the rows of a request;
//! identifiers out of order or in circles are walked with GETNEXT, and end
//! where they repeat; a missing table is an empty one.

use std::time::Duration;

use async_snmp::client::{OidOrdering, WalkMethod, WalkOptions};
use async_snmp::transport::UdpTransport;
use async_snmp::{Auth, Client, Error, ErrorKind, Oid, Retry, VarBind};

use crate::config::{Config, Target};
use crate::inventory::{COLUMNS, IF_DESCR, IF_NAME, Inventory, SYSTEM};

/// Rows of one column; a router with more is cut there, and said to be.
const ROWS_MAX: usize = 200_000;

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Read {
        inventory: Box<Inventory>,
        /// All tables were read to their end.
        whole: bool,
    },
    Silent,
    Failed(String),
}

/// What the poller asks from.
#[derive(Clone)]
pub(crate) struct Sockets {
    pub v4: Option<UdpTransport>,
    pub v6: Option<UdpTransport>,
}

impl Sockets {
    pub async fn bind(targets: &[Target]) -> anyhow::Result<Self> {
        let any = |v4: bool| targets.iter().any(|target| target.address.is_ipv4() == v4);
        let v4 = if any(true) { Some(UdpTransport::bind("0.0.0.0:0").await?) } else { None };
        let v6 = if any(false) { Some(UdpTransport::bind("[::]:0").await?) } else { None };
        Ok(Self { v4, v6 })
    }
}

pub(crate) async fn poll(sockets: &Sockets, target: &Target, config: &Config) -> Outcome {
    let Some(transport) = (if target.address.is_ipv4() { &sockets.v4 } else { &sockets.v6 }) else {
        return Outcome::Failed("there is no socket of its address family".to_owned());
    };
    let retry = Retry::fixed(config.retries, Duration::ZERO).unwrap_or_else(|_| Retry::none());
    let client = Client::builder((target.address.to_string(), target.port), Auth::v2c(target.community.expose()))
        .request_timeout(Duration::from_millis(config.timeout_ms.max(1)))
        .retry(retry)
        .build_with(transport)
        .await;
    let client = match client {
        Ok(client) => client,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let mut walk = Walk { client, repetitions: config.repetitions.max(1), varbinds: Vec::new(), whole: true };
    for (at, column) in COLUMNS.iter().enumerate() {
        match walk.column(column).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Timeout && at == 0 => return Outcome::Silent,
            Err(error) => return Outcome::Failed(error.to_string()),
        }
        // Nothing at all of the system group: the community's view is empty, or it is no router.
        if *column == SYSTEM && walk.varbinds.is_empty() {
            return Outcome::Failed("the agent shows no system group: is the community's view too narrow?".to_owned());
        }
    }
    let has = |column: &[u32]| walk.varbinds.iter().any(|varbind| varbind.oid.arcs().starts_with(column));
    // An agent that shows no interfaces at all does so for a moment, after it began.
    let whole = walk.whole && (has(IF_NAME) || has(IF_DESCR));
    let varbinds = walk.varbinds.iter().map(|varbind| (varbind.oid.arcs(), &varbind.value));
    Outcome::Read { inventory: Box::new(Inventory::from_varbinds(varbinds)), whole }
}

struct Walk<T: async_snmp::Transport> {
    client: Client<T>,
    repetitions: u32,
    varbinds: Vec<VarBind>,
    whole: bool,
}

/// Where a walk ended before its end.
enum Ended {
    TooBig,
    Disordered,
    Error(Box<Error>),
}

impl<T: async_snmp::Transport + 'static> Walk<T> {
    async fn column(&mut self, column: &[u32]) -> Result<(), Box<Error>> {
        let before = self.varbinds.len();
        loop {
            let options = WalkOptions {
                method: WalkMethod::GetBulk,
                max_repetitions: self.repetitions,
                ordering: OidOrdering::Strict,
                result_limit: Some(ROWS_MAX),
            };
            match self.walk(column, options).await {
                Ok(()) => return Ok(()),
                Err(Ended::TooBig) if self.repetitions > 1 => {
                    self.repetitions /= 2;
                    self.varbinds.truncate(before);
                }
                Err(Ended::TooBig | Ended::Disordered) => break,
                Err(Ended::Error(error)) => return Err(error),
            }
        }
        self.varbinds.truncate(before);
        let options = WalkOptions {
            method: WalkMethod::GetNext,
            max_repetitions: 1,
            ordering: OidOrdering::AllowNonIncreasing,
            result_limit: Some(ROWS_MAX),
        };
        match self.walk(column, options).await {
            Ok(()) => Ok(()),
            Err(Ended::Error(error)) => Err(error),
            Err(Ended::TooBig | Ended::Disordered) => {
                // What was read before it went in circles is kept.
                self.whole = false;
                Ok(())
            }
        }
    }

    async fn walk(&mut self, column: &[u32], options: WalkOptions) -> Result<(), Ended> {
        let mut rows = self.client.walk_with(Oid::from_slice(column), options).map_err(Ended::Error)?;
        while let Some(row) = rows.next().await {
            match row {
                Ok(varbind) => self.varbinds.push(varbind),
                Err(error) if error.kind() == ErrorKind::WalkAborted => return Err(Ended::Disordered),
                Err(error) => {
                    let too_big = matches!(
                        error.exchange_source(),
                        Error::Snmp { status: async_snmp::ErrorStatus::TooBig | async_snmp::ErrorStatus::GenErr, .. }
                    );
                    return Err(if too_big { Ended::TooBig } else { Ended::Error(error) });
                }
            }
        }
        Ok(())
    }
}
