//! The resolvers' dnstap connection: a bidirectional Frame Streams sender, or a file.
//!
//! Frames wait in a bounded queue; when the receiver is away for so long that it
//! is full, new ones are dropped and counted.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::Stop;
use crate::encode::dnstap::{Control, control, data};

const QUEUE_FRAMES: usize = 65_536;
const CONTROL_OCTETS_MAX: usize = 512;
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub dropped: AtomicU64,
}

pub struct Tap {
    queue: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    file: Option<BufWriter<File>>,
    pub counts: Arc<Counts>,
}

impl Tap {
    pub fn open(to: Option<SocketAddr>, file: Option<&Path>, stop: &Stop) -> anyhow::Result<Self> {
        let counts = Arc::new(Counts::default());
        let file = match file {
            Some(path) => {
                let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
                let mut file = BufWriter::new(file);
                file.write_all(&control(Control::Start))?;
                Some(file)
            }
            None => None,
        };
        let (queue, thread) = match to {
            Some(to) => {
                let (sender, receiver) = sync_channel(QUEUE_FRAMES);
                let (counts, stop) = (counts.clone(), stop.clone());
                let thread = std::thread::Builder::new()
                    .name("sim-dnstap".to_owned())
                    .spawn(move || run(to, &receiver, &counts, &stop))?;
                (Some(sender), Some(thread))
            }
            None => (None, None),
        };
        Ok(Self { queue, thread, file, counts })
    }

    pub fn send(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let frame = data(payload);
        if let Some(file) = &mut self.file {
            file.write_all(&frame)?;
        }
        if let Some(queue) = &self.queue
            && queue.try_send(frame).is_err()
        {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends what waits, and says goodbye.
    pub fn close(mut self) -> anyhow::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.write_all(&control(Control::Stop))?;
            file.flush()?;
        }
        drop(self.queue.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => bail!("the dnstap thread panicked"),
            _ => Ok(()),
        }
    }
}

fn run(to: SocketAddr, queue: &Receiver<Vec<u8>>, counts: &Counts, stop: &Stop) {
    let mut unsent = None;
    loop {
        match connection(to, queue, counts, &mut unsent) {
            Ok(()) => return,
            Err(error) => tracing::debug!(error = format!("{error:#}"), "dnstap connection failed"),
        }
        // Without a receiver there is nothing to wait for at the end.
        if !stop.wait_until(Instant::now() + RETRY) {
            return;
        }
    }
}

/// Ends when the queue is closed and empty.
fn connection(
    to: SocketAddr,
    queue: &Receiver<Vec<u8>>,
    counts: &Counts,
    unsent: &mut Option<Vec<u8>>,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(&control(Control::Ready))?;
    expect(&mut stream, Control::Accept)?;
    stream.write_all(&control(Control::Start))?;
    let mut out = BufWriter::with_capacity(1 << 16, stream);
    loop {
        let frame = match unsent.take() {
            Some(frame) => frame,
            None => match queue.recv_timeout(Duration::from_millis(20)) {
                Ok(frame) => frame,
                Err(RecvTimeoutError::Timeout) => {
                    out.flush()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            },
        };
        if let Err(error) = out.write_all(&frame) {
            *unsent = Some(frame);
            return Err(error.into());
        }
        counts.sent.fetch_add(1, Ordering::Relaxed);
    }
    out.write_all(&control(Control::Stop))?;
    out.flush()?;
    let mut stream = out.into_inner().map_err(|error| error.into_error())?;
    expect(&mut stream, Control::Finish)
}

fn expect(stream: &mut TcpStream, wanted: Control) -> anyhow::Result<()> {
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    if word != [0; 4] {
        bail!("a data frame where a control frame was due");
    }
    stream.read_exact(&mut word)?;
    let length = u32::from_be_bytes(word) as usize;
    if !(4..=CONTROL_OCTETS_MAX).contains(&length) {
        bail!("a control frame of {length} octets");
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let kind = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
    if kind != wanted as u32 {
        bail!("control frame {kind} where {} was due", wanted as u32);
    }
    Ok(())
}
