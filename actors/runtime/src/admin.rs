//! The admin endpoint: `/metrics` (Prometheus text), `/healthz` (the process is
//! alive), `/readyz` (it listens and its store is open), on a thread of its own,
//! so that a busy process is still watched.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metric;

/// Upper bounds of the seconds histograms.
const SECONDS: &[f64] = &[0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];
/// A client that sends no request for this long is hung up on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const UPKEEP: Duration = Duration::from_secs(5);

/// Set once the process listens and its store is open; unset when it drains.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Installs the process's metric recorder; once, before any handle is taken.
pub fn install_recorder(version: &'static str, role: &str) -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .install_recorder()
        .context("metrics are already recorded elsewhere")?;
    metrics::gauge!(metric::BUILD_INFO, "version" => version, "role" => role.to_owned()).set(1.0);
    metrics_process::Collector::default().describe();
    Ok(handle)
}

/// Serves until the process ends.
pub fn serve(listen: &[SocketAddr], recorder: PrometheusHandle, ready: Ready) -> anyhow::Result<()> {
    let mut listeners = Vec::new();
    for address in listen {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address} (admin.listen): is the port taken?"))?;
        listener.set_nonblocking(true)?;
        listeners.push(listener);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            for listener in listeners {
                let (recorder, ready) = (recorder.clone(), ready.clone());
                tokio::spawn(accept(listener, recorder, ready));
            }
            let mut upkeep = tokio::time::interval(UPKEEP);
            loop {
                upkeep.tick().await;
                recorder.run_upkeep();
            }
        })
    })?;
    Ok(())
}

async fn accept(listener: TcpListener, recorder: PrometheusHandle, ready: Ready) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "admin endpoint cannot listen"),
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: others close theirs meanwhile.
                tracing::warn!(%error, "admin endpoint cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (recorder, ready) = (recorder.clone(), ready.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &recorder, &ready);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, recorder: &PrometheusHandle, ready: &Ready) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            metrics_process::Collector::default().collect();
            (StatusCode::OK, recorder.render())
        }
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "alive\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") if ready.get() => (StatusCode::OK, "ready\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
