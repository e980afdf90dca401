//! What ends a process: an actor that cannot go on.

use tokio::sync::mpsc;

/// One actor's last word.
#[derive(Debug)]
pub struct Fatal {
    pub actor: &'static str,
    pub reason: String,
}

/// The composition root holds the receiver and ends the process on the first.
pub fn fatal_channel() -> (mpsc::UnboundedSender<Fatal>, mpsc::UnboundedReceiver<Fatal>) {
    mpsc::unbounded_channel()
}
