//! The API as a client over TLS sees it: login, refusals, headers, limits.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use benocs_runtime::state::State;
use benocs_web::{Config, Engines, Role, Web};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

const NOON: i64 = 1_767_268_800_000;
const HOUR: i64 = 3_600_000;

struct Served {
    web: Web,
    client: Client,
    password: String,
    asked: Arc<AtomicUsize>,
    _data: tempfile::TempDir,
    _fatal: tokio::sync::mpsc::UnboundedReceiver<benocs_runtime::Fatal>,
}

fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".to_owned()],
        redirect_listen: vec!["127.0.0.1:0".to_owned()],
        live_ms: 100,
        ..Config::default()
    }
}

fn serve(config: Config, delay: Duration) -> anyhow::Result<Served> {
    let data = tempfile::tempdir()?;
    let mut demo = support::Demo::new(|| NOON);
    demo.delay = delay;
    let asked = demo.asked.clone();
    let engines = Engines {
        ask: Arc::new(demo),
        tables: support::tables(),
        status: Arc::new(support::status),
        rib: Some(Arc::new(support::routes)),
        history: Some(Arc::new(support::history)),
        graph: Some(Arc::new(support::graph)),
        flows: Some(Arc::new(|| support::status()["exporters"].take())),
        newest: Arc::new(|| Some(NOON)),
        runtime: tokio::runtime::Handle::current(),
    };
    let (fatal, failed) = benocs_runtime::fatal_channel();
    let web = Web::start(config, data.path(), engines, &State::temporary()?, fatal)?;
    let client = Client::new(web.addresses()[0], data.path())?;
    let password = web.first_password().unwrap_or_default().to_owned();
    Ok(Served { web, client, password, asked, _data: data, _fatal: failed })
}

impl Served {
    /// Waits until the engine has so many questions: asking for a place instead would take one.
    fn await_questions(&self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.asked.load(Ordering::SeqCst) < count {
            ensure!(Instant::now() < deadline, "the question never ran");
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// One HTTP/1.1 request a connection, over TLS, trusting only the server's own certificate.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    headers: Vec<(String, String)>,
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }
}

impl Client {
    fn new(address: SocketAddr, data: &Path) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data.join("tls/web.crt"))?)?;
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address, tls: Arc::new(tls), headers: Vec::new() })
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.retain(|(known, _)| known != name);
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    fn open(&self) -> anyhow::Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let session = rustls::ClientConnection::new(self.tls.clone(), ServerName::try_from("localhost")?)?;
        Ok(rustls::StreamOwned::new(session, socket))
    }

    fn head(&self, method: &str, path: &str, length: usize) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if length > 0 || method == "POST" {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head + "\r\n"
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Reply> {
        let mut stream = self.open()?;
        stream.write_all(self.head(method, path, body.len()).as_bytes())?;
        // A server that refuses a long body may close before it has read it.
        let _ = stream.write_all(body);
        let mut octets = Vec::new();
        if let Err(error) = stream.read_to_end(&mut octets) {
            ensure!(!octets.is_empty(), "no answer: {error}");
        }
        parse(&octets)
    }

    fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.send("GET", path, b"")
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Reply> {
        self.send("POST", path, body.to_string().as_bytes())
    }

    /// A client with the session's cookie and CSRF header.
    fn login(&self, user: &str, password: &str) -> anyhow::Result<Self> {
        let reply = self.post("/api/v1/login", &json!({ "user": user, "password": password }))?;
        ensure!(reply.status == 200, "login: {}", reply.status);
        let cookie = reply.header("set-cookie").context("no cookie")?;
        let cookie = cookie.split(';').next().context("no cookie")?.to_owned();
        let csrf = reply.json()?["csrf"].as_str().context("no csrf")?.to_owned();
        Ok(self.with("cookie", &cookie).with("x-csrf-token", &csrf))
    }
}

fn parse(octets: &[u8]) -> anyhow::Result<Reply> {
    let end = octets.windows(4).position(|window| window == b"\r\n\r\n").context("no end of the head")?;
    let head = String::from_utf8_lossy(&octets[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = octets[end + 4..].to_vec();
    if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
        body = dechunk(&body);
    }
    Ok(Reply { status, headers, body })
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).unwrap_or(0);
        if length == 0 || rest.len() < end + 2 + length {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = rest.get(end + 4 + length..).unwrap_or_default();
    }
    body
}

fn question() -> Value {
    json!({ "from_ms": NOON - 3 * HOUR, "to_ms": NOON, "by": ["src_as", "ingress_router"], "limit": 5 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_begun_used_and_ended() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let anonymous = &served.client;
    assert_eq!(anonymous.get("/api/v1/me")?.status, 401);
    let wrong = anonymous.post("/api/v1/login", &json!({ "user": "admin", "password": "not this one" }))?;
    assert_eq!(wrong.status, 401);
    let unknown = anonymous.post("/api/v1/login", &json!({ "user": "nobody", "password": "not this one" }))?;
    assert_eq!((unknown.status, &unknown.body), (wrong.status, &wrong.body));

    let right = anonymous.post("/api/v1/login", &json!({ "user": "admin", "password": served.password }))?;
    let cookie = right.header("set-cookie").context("no cookie")?;
    assert!(cookie.starts_with("__Host-benocs="), "{cookie}");
    for attribute in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
    assert!(!cookie.contains("Domain"));

    let client = anonymous.login("admin", &served.password)?;
    let me = client.get("/api/v1/me")?.json()?;
    assert_eq!(me["user"], "admin");
    assert_eq!(me["role"], "administrator");
    assert_eq!(me["one_time_password"], true);
    let changed = client.post("/api/v1/password", &json!({ "old": served.password, "new": "a password of my own" }))?;
    assert_eq!(changed.status, 204);
    assert_eq!(client.get("/api/v1/me")?.json()?["one_time_password"], false);
    assert!(anonymous.login("admin", &served.password).is_err());
    assert_eq!(client.post("/api/v1/logout", &json!({}))?.status, 204);
    assert_eq!(client.get("/api/v1/me")?.status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_slowed_down_even_when_the_right_one_comes() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let attempt =
        |password: &str| served.client.post("/api/v1/login", &json!({ "user": "admin", "password": password }));
    for _ in 0..5 {
        assert_eq!(attempt("not this one")?.status, 401);
    }
    let locked = attempt(&served.password)?;
    assert_eq!(locked.status, 429);
    let seconds: u64 = locked.header("retry-after").context("no retry-after")?.parse()?;
    assert!((1..=2).contains(&seconds));
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let reply = attempt(&served.password)?;
        if reply.status == 200 {
            break;
        }
        assert_eq!(reply.status, 429);
        ensure!(Instant::now() < deadline, "still locked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let audit = std::fs::read_to_string(served._data.path().join("audit.jsonl"))?;
    for action in ["login_failed", "login_locked", "\"login\""] {
        assert!(audit.contains(action), "{action} is not in the audit log");
    }
    assert!(!audit.contains(&served.password));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_and_missing_csrf_headers_are_refused() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let client = served.client.login("admin", &served.password)?;
    assert_eq!(client.post("/api/v1/query", &question())?.status, 200);
    let mut bare = client.clone();
    bare.headers.retain(|(name, _)| name != "x-csrf-token");
    for wrong in [bare, client.with("x-csrf-token", "forged")] {
        assert_eq!(wrong.post("/api/v1/query", &question())?.status, 403);
        assert_eq!(wrong.post("/api/v1/logout", &json!({}))?.status, 403);
        assert_eq!(wrong.get("/api/v1/me")?.status, 200);
    }
    assert_eq!(client.with("origin", "https://evil.example").post("/api/v1/query", &question())?.status, 403);
    assert_eq!(client.with("sec-fetch-site", "cross-site").post("/api/v1/query", &question())?.status, 403);
    assert_eq!(client.with("origin", "https://localhost").post("/api/v1/query", &question())?.status, 200);
    let login = json!({ "user": "admin", "password": served.password });
    assert_eq!(served.client.with("origin", "https://evil.example").post("/api/v1/login", &login)?.status, 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    for path in ["/", "/explore", "/api/v1/me", "/api/v1/nothing", "/assets/none.js", "/api/v1/openapi.json"] {
        let reply = served.client.get(path)?;
        for (name, value) in [
            ("strict-transport-security", "max-age=31536000"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path} {name}");
        }
        let csp = reply.header("content-security-policy").context("no CSP")?;
        assert!(csp.contains("default-src 'none'") && !csp.contains("unsafe"), "{csp}");
        assert!(!csp.contains("http"), "{csp} names another origin");
        if path.starts_with("/api/") {
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        }
    }
    let index = served.client.get("/")?;
    assert_eq!(index.status, 200);
    let tag = index.header("etag").context("no etag")?;
    assert_eq!(served.client.with("if-none-match", tag).get("/explore")?.status, 304);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_passes_through_and_its_numbers_are_the_engines() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let client = served.client.login("admin", &served.password)?;
    let answer = client.post("/api/v1/query", &question())?.json()?;
    let direct: benocs_model::question::Question = serde_json::from_value(question())?;
    let engine = support::Demo::new(|| NOON);
    let expected = benocs_model::question::Ask::ask(&engine, direct).await?;
    assert_eq!(answer["rows"], json!(expected.rows));
    assert_eq!(answer["totals"], json!(expected.totals));
    assert_eq!(answer["other"], json!(expected.other));
    assert!(expected.totals.octets > 0 && expected.rows.len() == 5);
    assert_eq!(answer["labels"]["src_as"]["2906"], "Netflix");

    let by_text = json!({ "from": "2026-01-01T09:00:00Z", "to": "2026-01-01T13:00:00+01:00", "by": ["src_as", "ingress_router"], "limit": 5 });
    assert_eq!(client.post("/api/v1/query", &by_text)?.json()?["rows"], answer["rows"]);

    let filtered = json!({ "from_ms": NOON - HOUR, "to_ms": NOON, "by": ["src_as"], "filter": "src_as = AS2906" });
    let rows = client.post("/api/v1/query", &filtered)?.json()?["rows"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_say_what_is_wrong_and_where() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let client = served.client.login("admin", &served.password)?;
    let asked = |part: Value| {
        let mut question = question();
        for (name, value) in part.as_object().into_iter().flatten() {
            question[name] = value.clone();
        }
        client.post("/api/v1/query", &question)
    };
    let filter = asked(json!({ "filter": "src_as = 1 AND (dst_as" }))?;
    assert_eq!(filter.status, 400);
    let filter = filter.json()?;
    assert!(filter["at"].is_u64() && filter["message"].is_string(), "{filter}");
    for part in [
        json!({ "to_ms": NOON - 4 * HOUR }),
        json!({ "limit": 1_000_000 }),
        json!({ "from_ms": "yesterday" }),
        json!({ "by": ["no_such_dimension"] }),
        json!({ "unknown_field": 1 }),
        json!({ "filter": "x".repeat(10_000) }),
        json!({ "by": vec!["src_as"; 20] }),
    ] {
        let reply = asked(part.clone())?;
        assert_eq!(reply.status, 400, "{part}");
        assert!(reply.json()?["message"].is_string(), "{part}");
    }
    assert_eq!(client.send("POST", "/api/v1/query", b"{not json")?.status, 400);
    // The head alone is refused: the body need not come.
    let mut stream = client.open()?;
    stream.write_all(client.head("POST", "/api/v1/query", 100_000).as_bytes())?;
    let mut octets = Vec::new();
    // The connection may end without TLS's farewell.
    let _ = stream.read_to_end(&mut octets);
    let long = parse(&octets)?;
    assert_eq!(long.status, 413);
    assert!(long.json()?["message"].is_string());
    assert_eq!(client.send("POST", "/api/v1/query", b"")?.status, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_out_of_the_embedded_files() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    for path in [
        "/../Cargo.toml",
        "/..%2f..%2fetc%2fpasswd",
        "/assets/../../Cargo.toml",
        "/%2e%2e/%2e%2e/Cargo.toml",
        "//etc/passwd.txt",
        "/assets/..%5c..%5cCargo.toml",
    ] {
        let reply = served.client.get(path)?;
        assert!(reply.status == 404 || reply.status == 400, "{path} {}", reply.status);
        assert!(!String::from_utf8_lossy(&reply.body).contains("[package]"), "{path}");
    }
    for path in ["/api/v1/../me", "/api/v2/me", "/api/v1/users/..%2f..", "/api/v1/query"] {
        let reply = served.client.get(path)?;
        assert!((400..500).contains(&reply.status), "{path} {}", reply.status);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_tokens_limit_what_is_served() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let admin = served.client.login("admin", &served.password)?;
    let user = json!({ "name": "ann", "password": "password of ann", "role": "viewer" });
    assert_eq!(admin.post("/api/v1/users", &user)?.status, 201);
    let viewer = served.client.login("ann", "password of ann")?;
    assert_eq!(viewer.post("/api/v1/query", &question())?.status, 200);
    assert_eq!(viewer.get("/api/v1/routes/lookup?address=203.0.113.1")?.status, 403);
    assert_eq!(viewer.get("/api/v1/users")?.status, 403);
    assert_eq!(viewer.post("/api/v1/tokens", &json!({ "label": "x", "role": "operator", "days": 1 }))?.status, 403);
    let routes = admin.get("/api/v1/routes/lookup?address=203.0.113.1")?;
    assert_eq!(routes.status, 200);
    let routes = routes.json()?;
    assert_eq!(routes["routes"][0]["prefix"], "203.0.113.0/24");
    assert_eq!(routes["as_names"], json!({ "1299": "Arelion", "15169": "Google" }));
    assert_eq!(admin.get("/api/v1/routes/lookup?address=%27%3B--")?.status, 400);
    let asked = format!("from_ms={}&to_ms={NOON}&limit=10", NOON - 3_600_000);
    assert_eq!(viewer.get(&format!("/api/v1/routes/history?prefix=203.0.113.0%2F24&{asked}"))?.status, 403);
    let history = admin.get(&format!("/api/v1/routes/history?prefix=203.0.113.0%2F24&{asked}"))?.json()?;
    assert_eq!(
        (history["events"][2]["ms"].as_i64(), history["as_names"]["1299"].as_str()),
        (Some(NOON - 30_000), Some("Arelion"))
    );
    assert_eq!(admin.get(&format!("/api/v1/routes/history?prefix=nonsense&{asked}"))?.status, 400);
    assert_eq!(viewer.get("/api/v1/graph")?.status, 403);
    assert_eq!(admin.get("/api/v1/graph")?.json()?["links"].as_array().map(Vec::len), Some(4));
    assert_eq!(admin.get("/api/v1/graph/path?from=r1.fra&to=r1.ber")?.json()?["cost"], 20);
    assert_eq!(admin.get("/api/v1/graph/path?from=r1.fra&to=nobody")?.status, 400);
    assert_eq!(admin.get("/api/v1/graph/path?from=r1.fra")?.status, 400);

    let made = admin.post("/api/v1/tokens", &json!({ "label": "script", "role": "viewer", "days": 30 }))?;
    assert_eq!(made.status, 201);
    let secret = made.json()?["token"].as_str().context("no token")?.to_owned();
    let script = served.client.with("authorization", &format!("Bearer {secret}"));
    assert_eq!(script.post("/api/v1/query", &question())?.status, 200);
    assert_eq!(script.get("/api/v1/routes/lookup?address=203.0.113.1")?.status, 403);
    assert_eq!(served.client.with("authorization", "Bearer forged").get("/api/v1/me")?.status, 401);
    let tokens = admin.get("/api/v1/tokens")?.json()?;
    assert!(!tokens.to_string().contains(&secret));
    let id = tokens[0]["id"].as_str().context("no id")?.to_owned();
    assert_eq!(viewer.send("DELETE", &format!("/api/v1/tokens/{id}"), b"")?.status, 404);
    assert_eq!(admin.send("DELETE", &format!("/api/v1/tokens/{id}"), b"")?.status, 204);
    assert_eq!(script.get("/api/v1/me")?.status, 401);
    assert_eq!(admin.send("DELETE", "/api/v1/users/ann", b"")?.status, 204);
    assert_eq!(viewer.get("/api/v1/me")?.status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_knows_words_values_and_names_of_systems() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let client = served.client.login("admin", &served.password)?;
    let values = client.get("/api/v1/complete?dimension=src_as&text=goo")?.json()?;
    assert_eq!(values, json!([{ "value": "15169", "label": "Google" }]));
    let words = client.get("/api/v1/complete?filter=src_a")?.json()?;
    assert_eq!(words["kind"], "word");
    let offered: Vec<&str> =
        words["candidates"].as_array().into_iter().flatten().filter_map(|one| one["value"].as_str()).collect();
    assert!(offered.contains(&"src_as") && offered.contains(&"src_addr"), "{offered:?}");
    let services = client.get("/api/v1/complete?filter=service%20%3D%20Net")?.json()?;
    assert_eq!(services["kind"], "value");
    assert_eq!(services["candidates"][0]["value"], "Netflix");
    assert_eq!(client.get("/api/v1/complete")?.status, 400);
    let unknown = client.get("/api/v1/complete?nonsense=1")?;
    assert_eq!(unknown.status, 400);
    assert!(unknown.json()?["message"].is_string());
    assert!(client.get("/api/v1/dimensions")?.json()?.as_array().is_some_and(|all| all.len() > 40));
    assert!(client.get("/api/v1/flows")?.json()?.as_array().is_some_and(|all| all.len() == 5));
    assert!(client.get("/api/v1/status")?.json()?["exporters"].as_array().is_some_and(|all| all.len() == 5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_limited_given_up_and_cancelled() -> anyhow::Result<()> {
    let limited = Config { queries_per_user_max: 1, query_ms_max: 10_000, ..config() };
    let served = serve(limited, Duration::from_secs(60))?;
    let client = served.client.login("admin", &served.password)?;
    let first = client.with("x-query-id", "one");
    let asked = tokio::task::spawn_blocking(move || first.post("/api/v1/query", &question()));
    served.await_questions(1)?;
    assert_eq!(client.post("/api/v1/query", &json!({}))?.status, 400);
    assert_eq!(client.with("x-query-id", "two").post("/api/v1/query", &question())?.status, 429);
    assert_eq!(client.send("DELETE", "/api/v1/query/other", b"")?.status, 204);
    assert_eq!(client.post("/api/v1/query", &question())?.status, 429);
    assert_eq!(client.send("DELETE", "/api/v1/query/one", b"")?.status, 204);
    assert_eq!(asked.await??.status, 409);
    let late = tokio::task::spawn_blocking(move || client.post("/api/v1/query", &question())).await??;
    assert_eq!(late.status, 504);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_ends_with_its_reader() -> anyhow::Result<()> {
    let served = serve(Config { queries_per_user_max: 1, ..config() }, Duration::from_secs(60))?;
    let client = served.client.login("admin", &served.password)?;
    let body = question().to_string();
    let mut stream = client.open()?;
    stream.write_all(client.head("POST", "/api/v1/query", body.len()).as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()?;
    let place = |client: &Client| client.get("/api/v1/complete?dimension=service&text=Net").map(|reply| reply.status);
    served.await_questions(1)?;
    assert_eq!(place(&client)?, 429);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(10);
    while place(&client)? != 200 {
        ensure!(Instant::now() < deadline, "the question outlived its reader");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn live_streams_say_how_new_the_data_is_and_end_with_the_server() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let client = served.client.login("admin", &served.password)?;
    let mut stream = client.open()?;
    stream.write_all(client.head("GET", "/api/v1/live", 0).as_bytes())?;
    let mut seen = String::new();
    let mut octets = [0u8; 4096];
    while !seen.contains("newest_ms") {
        let count = stream.read(&mut octets)?;
        ensure!(count > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&octets[..count]));
    }
    assert!(seen.contains("text/event-stream") && seen.contains(&NOON.to_string()), "{seen}");
    let began = Instant::now();
    assert!(served.web.stop(Duration::from_secs(10)).await);
    assert!(began.elapsed() < Duration::from_secs(8), "stopping took {:?}", began.elapsed());
    assert!(client.get("/api/v1/me").is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_the_stop_is_answered() -> anyhow::Result<()> {
    let served = serve(Config { queries_per_user_max: 1, ..config() }, Duration::from_secs(2))?;
    let client = served.client.login("admin", &served.password)?;
    let asking = client.clone();
    let asked = tokio::task::spawn_blocking(move || asking.post("/api/v1/query", &question()));
    served.await_questions(1)?;
    assert!(served.web.stop(Duration::from_secs(10)).await);
    let reply = asked.await??;
    assert_eq!(reply.status, 200);
    assert!(reply.json()?["totals"]["octets"].as_u64().is_some_and(|octets| octets > 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_sent_to_https() -> anyhow::Result<()> {
    let served = serve(config(), Duration::ZERO)?;
    let send = |request: &str| -> anyhow::Result<Reply> {
        let mut socket = TcpStream::connect(served.web.redirect_addresses()[0])?;
        socket.write_all(request.as_bytes())?;
        let mut octets = Vec::new();
        socket.read_to_end(&mut octets)?;
        parse(&octets)
    };
    let port = served.web.addresses()[0].port();
    let reply = send("GET /explore?by=src_as HTTP/1.1\r\nhost: flows.example:80\r\n\r\n")?;
    assert_eq!(reply.status, 308);
    assert_eq!(reply.header("location"), Some(format!("https://flows.example:{port}/explore?by=src_as").as_str()));
    assert_eq!(send("GET / HTTP/1.1\r\nhost: a@evil.example\r\n\r\n")?.status, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_password_may_come_from_a_file_and_is_not_shown_then() -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "a password from a file\n")?;
    let served = serve(Config { admin_password_file: Some(file.path().into()), ..config() }, Duration::ZERO)?;
    assert_eq!(served.web.first_password(), None);
    let client = served.client.login("admin", "a password from a file")?;
    assert_eq!(client.get("/api/v1/me")?.json()?["one_time_password"], false);
    served.web.accounts().create_user("bob", "password of bob", Role::Analyst, NOON)?;
    assert_eq!(served.client.login("bob", "password of bob")?.get("/api/v1/me")?.json()?["role"], "analyst");
    Ok(())
}
