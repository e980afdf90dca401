//! The sending side of a mailbox.

use std::fmt;

/// The mailbox is full; here is the message back.
#[derive(Debug)]
pub struct Full<M>(pub M);

/// The receiver is gone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the receiving actor is gone")]
pub struct Closed;

/// Where messages of one kind go: a bounded mailbox of a local actor, be it the
/// consumer itself or the link that carries them to another machine.
pub struct Outbox<M> {
    sender: async_channel::Sender<M>,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<M> fmt::Debug for Outbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({}/{:?})", self.sender.len(), self.sender.capacity())
    }
}

impl<M> Outbox<M> {
    /// A mailbox without an actor: for tests, and for threads that read it themselves.
    pub fn channel(capacity: usize) -> (Self, async_channel::Receiver<M>) {
        let (sender, receiver) = async_channel::bounded(capacity);
        (Self { sender }, receiver)
    }

    /// Queues the message, or gives it back where the mailbox is full or closed.
    pub fn offer(&self, message: M) -> Result<(), Full<M>> {
        self.sender.try_send(message).map_err(|error| Full(error.into_inner()))
    }

    /// Waits for room; for plain threads and for handlers of workers (each has a thread of its own).
    pub fn send_blocking(&self, message: M) -> Result<(), Closed> {
        self.sender.send_blocking(message).map_err(|_| Closed)
    }

    /// Waits for room; for asynchronous tasks.
    pub async fn send(&self, message: M) -> Result<(), Closed> {
        self.sender.send(message).await.map_err(|_| Closed)
    }

    pub fn len(&self) -> usize {
        self.sender.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn close(&self) {
        self.sender.close();
    }
}
