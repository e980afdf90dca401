//! Files of routes (MRT) into the running process and out of it, over the control socket.
//!
//!   client: {"rib_import":{"name":...}}\n                           | octets u32 | chunk | ... | 0 u32 |
//!   process:                              {"ok":null}\n, or why not                                     {"ok":summary}\n
//!
//!   client: {"rib_dump":{"router":...}}\n
//!   process:                              | octets u32 | chunk | ... | 0 u32 | {"ok":summary}\n, or why not

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use benocs_bgp::{DumpSummary, ImportSummary};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Request, Response, connect, response};

/// Largest chunk.
const CHUNK_OCTETS_MAX: usize = 1 << 20;
/// Chunks that wait to be read, or to be sent.
const CHUNKS: usize = 4;

/// What a file gives next, on a thread of its own; `None` at its end.
pub type Next = Box<dyn FnMut() -> anyhow::Result<Option<Vec<u8>>> + Send>;
/// Where a file's octets go.
pub type Write = Box<dyn FnMut(Vec<u8>) -> anyhow::Result<()> + Send>;

/// What this process does with files of routes.
#[derive(Clone)]
pub struct RibFiles {
    /// Name of the file, and its octets.
    pub import: Arc<dyn Fn(&str, Next) -> anyhow::Result<ImportSummary> + Send + Sync>,
    /// Name or address of a router; `None` is the whole table.
    pub dump: Arc<dyn Fn(Option<&str>, Write) -> anyhow::Result<DumpSummary> + Send + Sync>,
}

pub(super) async fn import(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    name: String,
    files: &RibFiles,
) -> anyhow::Result<()> {
    answer(&mut writer, &Response::Ok(Value::Null)).await?;
    let (chunks, waiting) = async_channel::bounded::<Vec<u8>>(CHUNKS);
    let import = files.import.clone();
    let done = tokio::task::spawn_blocking(move || {
        let next = move || match waiting.recv_blocking() {
            Ok(chunk) if chunk.is_empty() => Ok(None),
            Ok(chunk) => Ok(Some(chunk)),
            Err(_) => anyhow::bail!("whoever sent the file went away"),
        };
        import(&name, Box::new(next))
    });
    receive(&mut reader, &chunks).await?;
    drop(chunks);
    answer(&mut writer, &said(done.await?)).await
}

async fn receive(reader: &mut (impl AsyncRead + Unpin), chunks: &async_channel::Sender<Vec<u8>>) -> anyhow::Result<()> {
    loop {
        let octets = reader.read_u32().await? as usize;
        anyhow::ensure!(octets <= CHUNK_OCTETS_MAX, "a chunk of {octets} octets");
        let mut chunk = vec![0; octets];
        reader.read_exact(&mut chunk).await?;
        let last = chunk.is_empty();
        // One that has failed says why in its answer.
        if chunks.send(chunk).await.is_err() || last {
            return Ok(());
        }
    }
}

pub(super) async fn dump(
    mut writer: impl AsyncWrite + Unpin,
    router: Option<String>,
    files: &RibFiles,
) -> anyhow::Result<()> {
    let (chunks, waiting) = async_channel::bounded::<Vec<u8>>(CHUNKS);
    let dump = files.dump.clone();
    let done = tokio::task::spawn_blocking(move || {
        let write = move |octets: Vec<u8>| {
            octets.chunks(CHUNK_OCTETS_MAX).try_for_each(|chunk| {
                chunks.send_blocking(chunk.to_vec()).context("whoever asked for the table went away")
            })
        };
        dump(router.as_deref(), Box::new(write))
    });
    while let Ok(chunk) = waiting.recv().await {
        writer.write_u32(chunk.len() as u32).await?;
        writer.write_all(&chunk).await?;
    }
    writer.write_u32(0).await?;
    answer(&mut writer, &said(done.await?)).await
}

fn said(done: anyhow::Result<impl serde::Serialize>) -> Response {
    match done.and_then(|summary| Ok(serde_json::to_value(summary)?)) {
        Ok(summary) => Response::Ok(summary),
        Err(error) => Response::Error { message: format!("{error:#}") },
    }
}

async fn answer(writer: &mut (impl AsyncWrite + Unpin), response: &Response) -> anyhow::Result<()> {
    let mut octets = serde_json::to_vec(response)?;
    octets.push(b'\n');
    Ok(writer.write_all(&octets).await?)
}

fn ask(data: &Path, request: &Request) -> anyhow::Result<BufReader<UnixStream>> {
    let mut stream = BufReader::new(connect(data)?);
    let mut octets = serde_json::to_vec(request)?;
    octets.push(b'\n');
    stream.get_mut().write_all(&octets)?;
    Ok(stream)
}

fn answered(stream: &mut BufReader<UnixStream>) -> anyhow::Result<Value> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    response(&line)
}

/// The client's side of an import.
pub struct Importer(BufReader<UnixStream>);

impl Importer {
    /// Asks the process whose data directory this is.
    pub fn begin(data: &Path, name: &str) -> anyhow::Result<Self> {
        let mut stream = ask(data, &Request::RibImport { name: name.to_owned() })?;
        answered(&mut stream)?;
        Ok(Self(stream))
    }

    /// Waits while the process is busy.
    pub fn send(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        for chunk in octets.chunks(CHUNK_OCTETS_MAX) {
            self.write(&(chunk.len() as u32).to_be_bytes())?;
            self.write(chunk)?;
        }
        Ok(())
    }

    /// Once look-ups see the routes.
    pub fn finish(mut self) -> anyhow::Result<Value> {
        self.write(&0u32.to_be_bytes())?;
        answered(&mut self.0)
    }

    /// A process that does not read any more has said why.
    fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        match self.0.get_mut().write_all(octets) {
            Ok(()) => Ok(()),
            Err(error) => match answered(&mut self.0) {
                Ok(_) => Err(error).context("the process reads no more"),
                Err(said) => Err(said),
            },
        }
    }
}

/// Gives the octets of a table to `take`, piece by piece.
pub fn table(
    data: &Path,
    router: Option<&str>,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    let mut stream = ask(data, &Request::RibDump { router: router.map(str::to_owned) })?;
    if stream.fill_buf()?.first() == Some(&b'{') {
        return answered(&mut stream);
    }
    loop {
        let mut octets = [0; 4];
        stream.read_exact(&mut octets).context("the process ended before the table was whole")?;
        let octets = u32::from_be_bytes(octets) as usize;
        if octets == 0 {
            return answered(&mut stream);
        }
        anyhow::ensure!(octets <= CHUNK_OCTETS_MAX, "the process answers in another version");
        let mut chunk = vec![0; octets];
        stream.read_exact(&mut chunk).context("the process ended before the table was whole")?;
        take(&chunk)?;
    }
}
