//! Files into the running process, over the control socket.
//!
//!   client: {"import":null}\n                                  | octets u32 | chunk | ... | 0 u32 |
//!   process:                  {"ok":null}\n, or why not                                            {"ok":summary}\n

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use benocs_collector::import::{self, CHUNK_OCTETS_MAX, Chunk, Import, Summary};
use benocs_model::question::BoxFuture;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Request, Response, connect, response};

/// Datagrams are sent together up to about so many octets.
const CHUNK_OCTETS: usize = 256 << 10;

/// What this process does with files.
#[derive(Clone)]
pub struct Imports {
    pub begin: BeginImport,
    /// Milliseconds for which flows are kept; `None` where that is for ever, or not known here.
    pub retention_ms: Option<i64>,
}

pub type BeginImport = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<Import>> + Send + Sync>;

/// One import, from the answer to the request to its summary.
pub(super) async fn converse(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    imports: &Imports,
) -> anyhow::Result<()> {
    let import = match (imports.begin)().await {
        Ok(import) => import,
        Err(error) => return answer(&mut writer, &failed(&error)).await,
    };
    answer(&mut writer, &Response::Ok(Value::Null)).await?;
    // Where the client goes away, the import ends with what it has: dropping the sender tells it.
    receive(&mut reader, &import).await?;
    drop(import.chunks);
    let response = match import.summary.await.context("the import was given up").flatten() {
        Ok(summary) => said(summary, imports.retention_ms, crate::when::now_ms()),
        Err(error) => failed(&error),
    };
    answer(&mut writer, &response).await
}

async fn receive(reader: &mut (impl AsyncRead + Unpin), import: &Import) -> anyhow::Result<()> {
    loop {
        let octets = reader.read_u32().await? as usize;
        anyhow::ensure!(octets <= CHUNK_OCTETS_MAX, "a chunk of {octets} octets");
        let mut chunk = vec![0; octets];
        reader.read_exact(&mut chunk).await?;
        let last = chunk.is_empty();
        let chunk = if last { Chunk::End } else { Chunk::Datagrams(chunk) };
        // One that has failed says why in its summary.
        if import.chunks.send(chunk).await.is_err() || last {
            return Ok(());
        }
    }
}

fn said(summary: Summary, retention_ms: Option<i64>, now_ms: i64) -> Response {
    let mut notes = Vec::new();
    let oldest_ms = retention_ms.map(|retention| now_ms - retention);
    if let (Some(oldest), Some(from)) = (oldest_ms, summary.received_from_ms)
        && from < oldest
    {
        notes.push(format!(
            "flows received before {} are older than store.retention_flows_s: their rows go within the hour, sums of \
             one and five minutes stay for as long as those are kept",
            crate::when::rfc3339(oldest)
        ));
    }
    match serde_json::to_value(&summary) {
        Ok(mut value) => {
            value["notes"] = notes.into();
            Response::Ok(value)
        }
        Err(error) => failed(&error.into()),
    }
}

fn failed(error: &anyhow::Error) -> Response {
    Response::Error { message: format!("{error:#}") }
}

async fn answer(writer: &mut (impl AsyncWrite + Unpin), response: &Response) -> anyhow::Result<()> {
    let mut octets = serde_json::to_vec(response)?;
    octets.push(b'\n');
    Ok(writer.write_all(&octets).await?)
}

/// The client's side.
pub struct Importer {
    stream: BufReader<UnixStream>,
    chunk: Vec<u8>,
}

impl Importer {
    /// Asks the process whose data directory this is.
    pub fn begin(data: &Path) -> anyhow::Result<Self> {
        let mut stream = BufReader::new(connect(data)?);
        let mut octets = serde_json::to_vec(&Request::Import)?;
        octets.push(b'\n');
        stream.get_mut().write_all(&octets)?;
        let mut importer = Self { stream, chunk: Vec::with_capacity(CHUNK_OCTETS) };
        importer.response()?;
        Ok(importer)
    }

    /// Waits while the process is busy.
    pub fn send(&mut self, received_ms: i64, source: IpAddr, payload: &[u8]) -> anyhow::Result<()> {
        import::put(&mut self.chunk, received_ms, source, payload);
        if self.chunk.len() >= CHUNK_OCTETS { self.flush() } else { Ok(()) }
    }

    /// Once everything is on the disk.
    pub fn finish(mut self) -> anyhow::Result<Value> {
        if !self.chunk.is_empty() {
            self.flush()?;
        }
        self.write(&0u32.to_be_bytes())?;
        self.response()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        self.write(&(chunk.len() as u32).to_be_bytes())?;
        self.write(&chunk)?;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    /// A process that does not read any more has said why.
    fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        match self.stream.get_mut().write_all(octets) {
            Ok(()) => Ok(()),
            Err(error) => match self.response() {
                Ok(_) => Err(error).context("the process reads no more"),
                Err(said) => Err(said),
            },
        }
    }

    fn response(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        response(&line)
    }
}
