//! The server: a thread of its own with its workers.
//!
//!   browsers, scripts --HTTPS--> [web] --Question--> Ask (store, or a client of one)
//!                                      --calls--> tables, status, rib
//!   plain HTTP --> 308 to HTTPS
//!
//! It drains in this order: no new requests (503, connection closed), live
//! streams end, requests that run are answered, sockets close.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use benocs_model::question::Ask;
use benocs_model::route::HistoryQuestion;
use benocs_model::tables::Tables;
use benocs_runtime::Fatal;
use benocs_runtime::state::State;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::accounts::{Accounts, Lifetime};
use crate::audit::Audit;
use crate::config::Config;
use crate::error::ApiError;
use crate::guard::Places;
use crate::lockout::Lockout;
use crate::metrics::Metrics;
use crate::tokens::TokenRequest;
use crate::{api, assets, guard, tls, tokens, when};

/// What routers would do with packets to an address: (address, router's name if only one, VRF's name).
pub type RibAnswer = Arc<dyn Fn(&str, Option<&str>, Option<&str>) -> anyhow::Result<Value> + Send + Sync>;

/// What happened to a prefix.
pub type HistoryAnswer = Arc<dyn Fn(&HistoryQuestion) -> anyhow::Result<Value> + Send + Sync>;

/// The network graph, or the path between two routers.
pub type GraphAnswer = Arc<dyn Fn(Option<(&str, &str)>) -> anyhow::Result<Value> + Send + Sync>;

/// What becomes of a token.
pub type TokenAnswer = Arc<dyn Fn(&TokenRequest) -> anyhow::Result<Value> + Send + Sync>;

/// Whom the server asks. It never blocks on them on a thread that serves others.
#[derive(Clone)]
pub struct Engines {
    pub ask: Arc<dyn Ask>,
    pub tables: Arc<Tables>,
    /// [`crate::status::Status`] as JSON.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// None where this process holds no routes.
    pub rib: Option<RibAnswer>,
    /// `None` where this process keeps no history of routes.
    pub history: Option<HistoryAnswer>,
    /// None where this process has no network graph.
    pub graph: Option<GraphAnswer>,
    /// Exporters with all that is known of them; `None` where this process collects no flows.
    pub flows: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    /// End of the newest data in the store, UTC ms.
    pub newest: Arc<dyn Fn() -> Option<i64> + Send + Sync>,
    /// Where questions run.
    pub runtime: tokio::runtime::Handle,
}

/// What all workers share.
pub(crate) struct Shared {
    pub config: Config,
    pub engines: Engines,
    pub accounts: Arc<Accounts>,
    pub lifetime: Lifetime,
    pub audit: Audit,
    pub lockout: Lockout,
    pub metrics: Metrics,
    pub queries: Places,
    pub lives: Places,
    /// Hashing passwords costs memory and time: few at once.
    pub hashing: tokio::sync::Semaphore,
    /// Questions that can be cancelled, by user and their own id.
    pub running: Mutex<HashMap<(String, String), Arc<tokio::sync::Notify>>>,
    pub stopping: watch::Sender<bool>,
    pub in_flight: AtomicUsize,
}

impl Shared {
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// A running server.
pub struct Web {
    shared: web::Data<Shared>,
    addresses: Vec<SocketAddr>,
    redirect_addresses: Vec<SocketAddr>,
    first_password: Option<String>,
    server: actix_web::dev::ServerHandle,
    thread: std::thread::JoinHandle<()>,
}

/// What the server's thread says once it listens, or cannot.
struct Bound {
    server: actix_web::dev::ServerHandle,
    addresses: Vec<SocketAddr>,
    redirect_addresses: Vec<SocketAddr>,
}

impl Web {
    /// Returns once it listens. `data` is the data directory: certificate and audit log.
    pub fn start(
        config: Config,
        data: &Path,
        engines: Engines,
        state: &State,
        fatal: UnboundedSender<Fatal>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)?;
        let tls = tls::server_config(&config, data)?;
        let accounts = Arc::new(Accounts::open(state)?);
        let given = match &config.admin_password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read web.admin_password_file {}", file.display()))?;
                Some(text.trim().to_owned())
            }
            None => None,
        };
        let first_password = accounts.first_user(given.as_deref(), when::now_ms())?;
        let (stopping, _) = watch::channel(false);
        let shared = web::Data::new(Shared {
            lifetime: Lifetime {
                idle_ms: milliseconds(config.session_idle_s),
                absolute_ms: milliseconds(config.session_s_max),
            },
            accounts,
            audit: Audit::open(data)?,
            lockout: Lockout::default(),
            metrics: Metrics::new(),
            queries: Places::new(config.queries_per_user_max, config.queries_max),
            lives: Places::new(config.live_per_user_max, 4 * config.queries_max.max(64)),
            hashing: tokio::sync::Semaphore::new(2),
            running: Mutex::default(),
            stopping,
            in_flight: AtomicUsize::new(0),
            engines,
            config,
        });
        let (sender, receiver) = mpsc::channel();
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new().name("web".to_owned()).spawn(move || {
            actix_web::rt::System::new().block_on(run(for_thread, tls, sender, fatal));
        })?;
        let bound = receiver.recv().context("the web server ended before it listened")??;
        for address in &bound.addresses {
            tracing::info!(%address, "serving the page and the API");
        }
        Ok(Self {
            shared,
            addresses: bound.addresses,
            redirect_addresses: bound.redirect_addresses,
            first_password,
            server: bound.server,
            thread,
        })
    }

    /// The one-time password of `admin`, where this start created that user. To be printed, not logged.
    pub fn first_password(&self) -> Option<&str> {
        self.first_password.as_deref()
    }

    /// Where it listens, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn redirect_addresses(&self) -> &[SocketAddr] {
        &self.redirect_addresses
    }

    /// `benocs token`, over the control socket.
    pub fn tokens(&self) -> TokenAnswer {
        let shared = self.shared.clone().into_inner();
        Arc::new(move |request: &TokenRequest| tokens::answer(&shared.accounts, &shared.audit, request))
    }

    /// Users, sessions and tokens.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.shared.accounts.clone()
    }

    /// Answers what is asked already, then ends. False where that took longer than `limit`.
    pub async fn stop(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.shared.stopping.send_replace(true);
        while self.shared.in_flight.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let drained = self.shared.in_flight.load(Ordering::SeqCst) == 0;
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = tokio::time::timeout(left.max(Duration::from_millis(100)), self.server.stop(drained)).await.is_ok();
        if ended {
            let thread = self.thread;
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            return drained && joined.unwrap_or(false);
        }
        false
    }
}

fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// On the server's own thread: binds, tells, serves.
async fn run(
    shared: web::Data<Shared>,
    tls: rustls::ServerConfig,
    sender: mpsc::Sender<anyhow::Result<Bound>>,
    fatal: UnboundedSender<Fatal>,
) {
    let server = match bind(&shared, tls) {
        Ok((server, bound)) => {
            if sender.send(Ok(bound)).is_err() {
                return;
            }
            server
        }
        Err(error) => {
            // The starter has it then, or is gone.
            let _ = sender.send(Err(error));
            return;
        }
    };
    let ended = server.await;
    if !shared.is_stopping() {
        let reason = ended.err().map_or_else(|| "the server ended".to_owned(), |error| error.to_string());
        let _ = fatal.send(Fatal { actor: "web", reason });
    }
}

fn bind(shared: &web::Data<Shared>, tls: rustls::ServerConfig) -> anyhow::Result<(actix_web::dev::Server, Bound)> {
    let config = &shared.config;
    let data = shared.clone();
    let mut server = HttpServer::new(move || {
        let limit = data.config.body_octets_max;
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(limit))
            .app_data(web::QueryConfig::default().error_handler(|error, _| ApiError::wrong(error.to_string()).into()))
            .wrap(from_fn(guard::outer))
            .service(web::scope(api::PREFIX).configure(api::configure).wrap(from_fn(guard::inner)))
            .route("/{path:.*}", web::get().to(assets::serve))
            .route("/{path:.*}", web::head().to(assets::serve))
    })
    .workers(config.workers.max(1))
    .max_connections(config.connections_max.max(1))
    .keep_alive(Duration::from_secs(config.keep_alive_s.max(1)))
    .client_request_timeout(Duration::from_millis(config.request_head_ms_max.max(1)))
    .h1_allow_half_closed(false)
    .tls_handshake_timeout(Duration::from_secs(5))
    .shutdown_timeout(2)
    .disable_signals();
    for address in &config.listen {
        server = server
            .bind_rustls_0_23(address, tls.clone())
            .with_context(|| format!("cannot listen on {address} (web.listen)"))?;
    }
    let addresses = server.addrs();
    let port = addresses.first().map_or(443, SocketAddr::port);
    let mut redirect_addresses = Vec::new();
    let server = server.run();
    if !config.redirect_listen.is_empty() {
        let mut redirect = HttpServer::new(move || {
            App::new().default_service(web::to(move |request: HttpRequest| async move { redirect(&request, port) }))
        })
        .workers(1)
        .max_connections(1_000)
        .keep_alive(actix_web::http::KeepAlive::Disabled)
        .client_request_timeout(Duration::from_secs(5))
        .shutdown_timeout(1)
        .disable_signals();
        for address in &config.redirect_listen {
            redirect =
                redirect.bind(address).with_context(|| format!("cannot listen on {address} (web.redirect_listen)"))?;
        }
        redirect_addresses = redirect.addrs();
        let redirect = redirect.run();
        let handle = redirect.handle();
        let mut stopping = shared.stopping.subscribe();
        actix_web::rt::spawn(redirect);
        actix_web::rt::spawn(async move {
            if stopping.wait_for(|stopping| *stopping).await.is_ok() {
                handle.stop(false).await;
            }
        });
    }
    let handle = server.handle();
    Ok((server, Bound { server: handle, addresses, redirect_addresses }))
}

/// RFC 9110 15.4.9. The host is the client's own word, and is held to be a host.
fn redirect(request: &HttpRequest, port: u16) -> HttpResponse {
    let Some(host) = guard::host(request).as_deref().and_then(host_of) else {
        return HttpResponse::BadRequest().finish();
    };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, format!("https://{host}{port}{path}"))).finish()
}

/// A name, an address, or an IPv6 address in brackets; its port is dropped.
fn host_of(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, _) = rest.split_once(']')?;
        let address: IpAddr = inside.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let host = text.split(':').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(plain)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_goes_to_a_host_and_nowhere_else() {
        assert_eq!(host_of("a.example:80").as_deref(), Some("a.example"));
        assert_eq!(host_of("[2001:db8::1]:80").as_deref(), Some("[2001:db8::1]"));
        for wrong in ["", "a b", "a@b", "a/b", "[x]", "evil\r\n"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
    }
}
