//! One resolver's connection: handshake, frames, end.
//!
//!   resolver --READY--> us --ACCEPT--> resolver --START, data ..., STOP--> us --FINISH--> resolver
//!   resolver --START, data ..., STOP--> us                       (unidirectional)

use std::rc::Rc;

use benocs_wire::error::Why;
use benocs_wire::framestream::{self, Control, ControlType, DNSTAP, Frame};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::actor::Shared;
use crate::error::Ended;
use crate::metrics::Cause;

/// What is read at once.
const READ_OCTETS: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// READY or START is expected.
    Fresh,
    /// ACCEPT was sent, START is expected.
    Accepted,
    /// Data; whether FINISH is to be sent at the end.
    Started { bidirectional: bool },
}

/// What a control frame asks for.
enum Step {
    Go(Stage),
    Reply(Stage, Vec<u8>),
    Stop(Option<Vec<u8>>),
}

impl Stage {
    fn on_control(self, control: &Control<'_>) -> Result<Step, Ended> {
        match (self, control.kind) {
            (Self::Fresh, ControlType::READY) if control.offers(DNSTAP) => {
                Ok(Step::Reply(Self::Accepted, framestream::control(ControlType::ACCEPT, Some(DNSTAP))))
            }
            (Self::Fresh | Self::Accepted, ControlType::START) if control.offers(DNSTAP) => {
                Ok(Step::Go(Self::Started { bidirectional: self == Self::Accepted }))
            }
            (Self::Fresh | Self::Accepted, ControlType::READY | ControlType::START) => Err(Ended::ContentType),
            (Self::Started { bidirectional }, ControlType::STOP) => {
                Ok(Step::Stop(bidirectional.then(|| framestream::control(ControlType::FINISH, None))))
            }
            _ => Err(Ended::NotStarted),
        }
    }
}

/// Serves until the resolver stops, does something wrong, or the receiver drains.
pub(crate) async fn serve(mut stream: TcpStream, key: usize, shared: Rc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut buffer = BytesMut::with_capacity(2 * READ_OCTETS);
    let mut stage = Stage::Fresh;
    let ended = loop {
        buffer.reserve(READ_OCTETS);
        let read = tokio::select! {
            read = stream.read_buf(&mut buffer) => read,
            _ = stop.changed() => break Ended::Draining,
        };
        match read {
            Ok(0) => break Ended::Closed,
            Ok(_) => {}
            Err(error) => break Ended::Io(error),
        }
        match consume(&mut stream, &mut buffer, &mut stage, key, &shared).await {
            Ok(()) => {}
            Err(ended) => break ended,
        }
    };
    let cause = match &ended {
        Ended::Oversize(_) => Some(Cause::Oversize),
        Ended::Malformed(_) | Ended::ContentType | Ended::NotStarted => Some(Cause::Framing),
        Ended::Stopped | Ended::Closed | Ended::Draining | Ended::Io(_) => None,
    };
    shared.close(key, &ended, cause);
}

/// All whole frames of the buffer.
async fn consume(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    stage: &mut Stage,
    key: usize,
    shared: &Rc<Shared>,
) -> Result<(), Ended> {
    let mut used = 0;
    loop {
        let input = buffer.get(used..).unwrap_or_default();
        let next = framestream::next(input, shared.frame_octets_max).map_err(|error| match error.why {
            Why::Length(_) if error.reading == "data frame" => Ended::Oversize(error),
            _ => Ended::Malformed(error),
        })?;
        let Some((frame, octets)) = next else { break };
        used += octets;
        match frame {
            Frame::Data(payload) if matches!(stage, Stage::Started { .. }) => shared.frame(key, payload),
            Frame::Data(_) => return Err(Ended::NotStarted),
            Frame::Control(control) => match stage.on_control(&control)? {
                Step::Go(next) => *stage = next,
                Step::Reply(next, reply) => {
                    stream.write_all(&reply).await?;
                    *stage = next;
                }
                Step::Stop(reply) => {
                    if let Some(reply) = reply {
                        stream.write_all(&reply).await?;
                    }
                    return Err(Ended::Stopped);
                }
            },
        }
    }
    buffer.advance(used);
    // Where the next actor is slow, this resolver waits: its own queue drops and counts.
    shared.send_full_batch().await;
    Ok(())
}
