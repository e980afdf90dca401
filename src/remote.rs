//! The same questions to a benocs on another machine: its API over HTTPS
//! (RFC 9110, RFC 9112), with a token (RFC 6750).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use benocs_model::route::HistoryQuestion;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cli::RemoteArgs;
use crate::control::Request;
use crate::roles::Usage;
use crate::settings;

const PORT: u16 = 443;
const API: &str = "/api/v1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take before the asker gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// An answer that is longer is refused.
const ANSWER_OCTETS_MAX: usize = 256 << 20;
/// The token, where `--token-file` does not name a file.
const TOKEN_VARIABLE: &str = "BENOCS_TOKEN";
/// Where systems keep the authorities that they trust: Debian, Red Hat.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A path below the API's, and a body where it is a POST.
#[derive(Debug, PartialEq)]
struct Call {
    path: String,
    body: Option<String>,
}

fn call(request: &Request) -> anyhow::Result<Call> {
    let get = |path: String| Ok(Call { path, body: None });
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match request {
        Request::Query(question) => {
            Ok(Call { path: "/query".to_owned(), body: Some(serde_json::to_string(question)?) })
        }
        Request::Rib { address, router, vrf } => {
            let more = |name: &str, value: &Option<String>| {
                value.as_deref().map(|value| format!("&{name}={}", encoded(value))).unwrap_or_default()
            };
            let (router, vrf) = (more("router", router), more("vrf", vrf));
            get(format!("/routes/lookup?address={}{router}{vrf}", encoded(address)))
        }
        Request::History(HistoryQuestion { prefix, from_ms, to_ms, router, limit }) => {
            let router = router.as_deref().map(|router| format!("&router={}", encoded(router))).unwrap_or_default();
            let range = format!("from_ms={from_ms}&to_ms={to_ms}&limit={limit}");
            get(format!("/routes/history?prefix={}&{range}{router}", encoded(prefix)))
        }
        Request::Graph { path: None } => get("/graph".to_owned()),
        Request::Graph { path: Some((from, to)) } => {
            get(format!("/graph/path?from={}&to={}", encoded(from), encoded(to)))
        }
        Request::Status => get("/status".to_owned()),
        Request::Flows => get("/flows".to_owned()),
        Request::Sql(_)
        | Request::Token(_)
        | Request::Import
        | Request::FlowRules
        | Request::RibImport { .. }
        | Request::RibDump { .. } => {
            bail!("this is answered on the machine itself only: leave out --url")
        }
    }
}

/// Asks the machine of `--url`.
pub fn ask(remote: &RemoteArgs, url: &str, request: &Request) -> anyhow::Result<Value> {
    let usage = |text: String| anyhow::Error::new(Usage(text));
    let wrong = || usage(format!("--url {url}: write https://HOST or https://HOST:PORT"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
    if !matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/")) || authority.as_str().contains('@') {
        return Err(wrong());
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let server = ServerName::try_from(name.clone()).map_err(|_| wrong())?;
    let token = token(remote.token_file.as_deref())?;
    let connector = TlsConnector::from(Arc::new(tls(remote.ca_file.as_deref())?));
    let call = call(request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connecting = async {
            let at = (name.as_str(), authority.port_u16().unwrap_or(PORT));
            let stream = TcpStream::connect(at).await.with_context(|| format!("cannot connect to {authority}"))?;
            connector.connect(server, stream).await.map_err(|error| distrust(&error, authority.as_str()))
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let stream = connected.with_context(|| format!("{authority} does not answer"))??;
        let exchanging = exchange(stream, authority.as_str(), &token, call);
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, exchanging).await;
        let (status, body) = answered.with_context(|| format!("{authority} did not answer in time"))??;
        verdict(status, &body, authority.as_str(), request)
    })
}

/// One request and its answer, on a connection of its own.
async fn exchange(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    authority: &str,
    token: &HeaderValue,
    call: Call,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let lost = || format!("the connection to {authority} broke");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(lost)?;
    tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(if call.body.is_some() { Method::POST } else { Method::GET })
        .uri(format!("{API}{}", call.path))
        .header(HOST, authority)
        .header(USER_AGENT, concat!("benocs/", env!("CARGO_PKG_VERSION")))
        .header(AUTHORIZATION, token)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(call.body.unwrap_or_default())))?;
    let response = sender.send_request(request).await.with_context(lost)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_OCTETS_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("cannot read the answer of {authority}: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// What the command prints: the answer as the control socket gives it, or the machine's own words.
fn verdict(status: StatusCode, body: &[u8], authority: &str, request: &Request) -> anyhow::Result<Value> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    match (status, value) {
        (StatusCode::OK, Some(mut value)) => {
            // Names that the API adds for the page.
            let added = match request {
                Request::Query(_) => "labels",
                _ => "as_names",
            };
            if let Some(fields) = value.as_object_mut() {
                fields.remove(added);
            }
            Ok(value)
        }
        (StatusCode::UNAUTHORIZED, _) => {
            bail!("{authority} does not know the token: make one there with benocs token create")
        }
        (status, Some(value)) if value["message"].is_string() => {
            let message = value["message"].as_str().unwrap_or_default();
            if status != StatusCode::BAD_REQUEST {
                bail!("{message}");
            }
            Err(crate::control::wrong(message, value["at"].as_u64().map(|at| at as usize)))
        }
        _ => bail!("{authority} answers with status {status}: is it a benocs?"),
    }
}

fn distrust(error: &std::io::Error, authority: &str) -> anyhow::Error {
    let within = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match within {
        Some(rustls::Error::InvalidCertificate(reason)) => anyhow::anyhow!(
            "the certificate of {authority} is not trusted ({reason}): give its own or its authority's with --ca-file"
        ),
        _ => anyhow::anyhow!("no TLS with {authority}: {error}"),
    }
}

/// The Authorization header (RFC 6750 2.1), kept out of what is printed.
fn token(file: Option<&Path>) -> anyhow::Result<HeaderValue> {
    let token = match file {
        Some(file) => settings::secret(file).context("--token-file")?,
        None => std::env::var(TOKEN_VARIABLE).unwrap_or_default().trim().to_owned(),
    };
    if token.is_empty() {
        return Err(Usage(format!("--url needs a token: give --token-file FILE, or {TOKEN_VARIABLE}")).into());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).context("the token has odd characters")?;
    header.set_sensitive(true);
    Ok(header)
}

fn tls(ca_file: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let file = match ca_file {
        Some(file) => file.to_owned(),
        None => AUTHORITIES
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists())
            .context("this system has no list of certificate authorities: give --ca-file")?,
    };
    let unreadable = || format!("cannot read the certificates of {}", file.display());
    let mut roots = rustls::RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
    let (taken, _) = roots.add_parsable_certificates(certificates.with_context(unreadable)?);
    if taken == 0 {
        bail!("{} holds no certificate", file.display());
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> RemoteArgs {
        RemoteArgs { url: None, token_file: None, ca_file: None }
    }

    #[test]
    fn what_is_no_address_of_a_server_is_wrong_usage() {
        for url in ["af00", "http://af00", "https://", "https://af00/x", "https://u@af00", "https://a b", "ftp://af00"]
        {
            let error = ask(&remote(), url, &Request::Status).unwrap_err();
            assert!(error.downcast_ref::<Usage>().is_some(), "{url}: {error:#}");
            assert!(error.to_string().contains("https://HOST"), "{url}: {error:#}");
        }
    }

    #[test]
    fn requests_are_paths_of_the_api() -> anyhow::Result<()> {
        let (router, vrf) = (Some("r1&x".to_owned()), Some("blue".to_owned()));
        let lookup = Request::Rib { address: "2001:db8::1".to_owned(), router, vrf };
        assert_eq!(call(&lookup)?.path, "/routes/lookup?address=2001%3Adb8%3A%3A1&router=r1%26x&vrf=blue");
        let path = Request::Graph { path: Some(("r1".to_owned(), "10.0.0.1".to_owned())) };
        assert_eq!(call(&path)?.path, "/graph/path?from=r1&to=10%2E0%2E0%2E1");
        assert_eq!(call(&Request::Status)?, Call { path: "/status".to_owned(), body: None });
        assert!(call(&Request::Sql("select 1".to_owned())).is_err());
        Ok(())
    }

    #[test]
    fn refusals_are_said_in_the_machines_words() {
        let said = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            verdict(status, body.as_bytes(), "af00", &Request::Status).unwrap_err().to_string()
        };
        assert_eq!(
            said(400, r#"{"message":"no such dimension","at":7}"#),
            "no such dimension (at character 7 of the filter)"
        );
        assert_eq!(said(403, r#"{"message":"this needs the role analyst"}"#), "this needs the role analyst");
        assert!(said(401, "{}").contains("benocs token create"));
        assert!(said(200, "<html>").contains("is it a benocs"));
    }
}
