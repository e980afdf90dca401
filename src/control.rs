//! The control socket: questions to the running process, from its own machine.
//!
//! A UNIX socket (0600) in the data directory. One JSON line asks, one answers;
//! then the connection is closed. An import is longer: see [`import`].

pub mod import;
pub mod rib;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use benocs_model::question::{Ask, AskError, Question};
use benocs_model::route::HistoryQuestion;
pub use benocs_web::GraphAnswer;
use benocs_web::{HistoryAnswer, TokenAnswer, TokenRequest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::roles::Usage;

/// A request that is longer is refused.
const REQUEST_OCTETS_MAX: u64 = 1 << 20;
/// How long an answer may take before the asker gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Query(Box<Question>),
    Sql(String),
    Rib {
        address: String,
        router: Option<String>,
        vrf: Option<String>,
    },
    FlowRules,
    History(HistoryQuestion),
    RibImport {
        name: String,
    },
    RibDump {
        router: Option<String>,
    },
    /// The network graph, or a path in it.
    Graph {
        path: Option<(String, String)>,
    },
    Status,
    Flows,
    Token(TokenRequest),
    Import,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Ok(Value),
    Error {
        message: String,
    },
    /// The question cannot be asked so; `at` is the offset of the character in the filter.
    Wrong {
        message: String,
        at: Option<usize>,
    },
}

/// What this process can answer; what it lacks, another role's process has.
#[derive(Clone, Default)]
pub struct Answers {
    pub ask: Option<Arc<dyn Ask>>,
    pub sql: Option<SqlAnswer>,
    pub rib: Option<RibAnswer>,
    pub history: Option<HistoryAnswer>,
    pub flow_rules: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    pub graph: Option<GraphAnswer>,
    pub status: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    pub flows: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
    pub tokens: Option<TokenAnswer>,
    pub import: Option<import::Imports>,
    pub rib_files: Option<rib::RibFiles>,
}

/// Address, router, VRF.
pub type RibAnswer = Arc<dyn Fn(&str, Option<&str>, Option<&str>) -> anyhow::Result<Value> + Send + Sync>;
pub type SqlAnswer =
    Arc<dyn Fn(String) -> benocs_model::question::BoxFuture<'static, anyhow::Result<Value>> + Send + Sync>;

pub fn socket_path(data: &Path) -> PathBuf {
    data.join("benocs.sock")
}

/// Whether a process runs on the data directory.
pub fn is_answered(data: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket_path(data)).is_ok()
}

/// Serves on the runtime of the caller until the process ends.
pub fn serve(data: &Path, answers: Answers) -> anyhow::Result<()> {
    let path = socket_path(data);
    if is_answered(data) {
        bail!("another benocs runs on {}: choose another --data directory", data.display());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answers = answers.clone();
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, answers).await {
                            tracing::debug!(%error, "control connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn converse(stream: UnixStream, answers: Answers) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(REQUEST_OCTETS_MAX));
    reader.read_line(&mut line).await?;
    let request = serde_json::from_str::<Request>(&line);
    if let (Ok(Request::Import), Some(imports)) = (&request, &answers.import) {
        reader.get_mut().set_limit(u64::MAX);
        return import::converse(reader, writer, imports).await;
    }
    let request = match (request, &answers.rib_files) {
        (Ok(Request::RibImport { name }), Some(files)) => {
            reader.get_mut().set_limit(u64::MAX);
            return rib::import(reader, writer, name, files).await;
        }
        (Ok(Request::RibDump { router }), Some(files)) => return rib::dump(writer, router, files).await,
        (request, _) => request,
    };
    let response = match request {
        // A client that hangs up cancels its question.
        Ok(request) => tokio::select! {
            response = answer(request, &answers) => response,
            _ = hung_up(&mut reader) => return Ok(()),
        },
        Err(error) => Response::Error { message: format!("not a request: {error}") },
    };
    let mut octets = serde_json::to_vec(&response)?;
    octets.push(b'\n');
    writer.write_all(&octets).await?;
    Ok(())
}

async fn hung_up(reader: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = [0; 64];
    while matches!(reader.read(&mut rest).await, Ok(1..)) {}
}

async fn answer(request: Request, answers: &Answers) -> Response {
    let elsewhere = |what: &str, role: &str| Response::Error {
        message: format!("this process does not answer {what}: ask the one that runs {role}"),
    };
    let failed = |error: anyhow::Error| Response::Error { message: format!("{error:#}") };
    match request {
        Request::Query(question) => match &answers.ask {
            None => elsewhere("queries", "storage00"),
            Some(ask) => match ask.ask(*question).await {
                Ok(answer) => serde_json::to_value(answer).map_or_else(|error| failed(error.into()), Response::Ok),
                Err(AskError::Wrong { message, at }) => Response::Wrong { message, at },
                Err(AskError::Failed(message)) => Response::Error { message },
            },
        },
        Request::Sql(text) => match &answers.sql {
            None => elsewhere("SQL", "storage00"),
            Some(sql) => sql(text).await.map_or_else(failed, Response::Ok),
        },
        Request::Rib { address, router, vrf } => match &answers.rib {
            None => elsewhere("routes", "ce00"),
            Some(rib) => rib(&address, router.as_deref(), vrf.as_deref()).map_or_else(failed, Response::Ok),
        },
        Request::FlowRules => match &answers.flow_rules {
            None => elsewhere("FlowSpec rules", "ce00"),
            Some(rules) => Response::Ok(rules()),
        },
        Request::History(question) => match answers.history.clone() {
            None => elsewhere("for the history of routes", "ce00"),
            Some(history) => match tokio::task::spawn_blocking(move || history(&question)).await {
                Ok(found) => found.map_or_else(failed, Response::Ok),
                Err(error) => failed(error.into()),
            },
        },
        Request::Graph { path } => match answers.graph.clone() {
            None => elsewhere("for the network graph", "ce00"),
            Some(graph) => {
                let asked = move || graph(path.as_ref().map(|(from, to)| (from.as_str(), to.as_str())));
                match tokio::task::spawn_blocking(asked).await {
                    Ok(found) => found.map_or_else(failed, Response::Ok),
                    Err(error) => failed(error.into()),
                }
            }
        },
        Request::Status => match &answers.status {
            None => elsewhere("its status", "all"),
            Some(status) => Response::Ok(status()),
        },
        Request::Flows => match &answers.flows {
            None => elsewhere("for exporters", "netflow00"),
            Some(flows) => Response::Ok(flows()),
        },
        Request::Token(request) => match &answers.tokens {
            None => elsewhere("for tokens", "af00"),
            Some(tokens) => tokens(&request).map_or_else(failed, Response::Ok),
        },
        // Answered elsewhere where there is one.
        Request::Import => elsewhere("imports", "netflow00"),
        Request::RibImport { .. } | Request::RibDump { .. } => elsewhere("routes", "ce00"),
    }
}

fn connect(data: &Path) -> anyhow::Result<std::os::unix::net::UnixStream> {
    let path = socket_path(data);
    std::os::unix::net::UnixStream::connect(&path).with_context(|| {
        format!("no benocs answers on {}: is it running with --data {}?", path.display(), data.display())
    })
}

fn response(line: &str) -> anyhow::Result<Value> {
    match serde_json::from_str(line).context("the process ended before it answered")? {
        Response::Ok(value) => Ok(value),
        Response::Wrong { message, at } => Err(wrong(&message, at)),
        Response::Error { message } => bail!("{message}"),
    }
}

/// A question that cannot be asked so is wrong usage.
pub fn wrong(message: &str, at: Option<usize>) -> anyhow::Error {
    let text = match at {
        Some(at) => format!("{message} (at character {at} of the filter)"),
        None => message.to_owned(),
    };
    Usage(text).into()
}

/// Asks the process whose data directory this is.
pub fn ask(data: &Path, request: &Request) -> anyhow::Result<Value> {
    let mut stream = connect(data)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut octets = serde_json::to_vec(request)?;
    octets.push(b'\n');
    stream.write_all(&octets)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    response(&line)
}
