//! A worker: behaviour behind a mailbox, on an actix arbiter of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use actix::prelude::{Actor, ActorContext as _, Context as ActixContext};
use actix::{AsyncContext as _, StreamHandler};
use metrics::{Counter, Gauge};
use tokio::sync::{mpsc, oneshot};

use crate::metric;
use crate::outbox::Outbox;
use crate::watch::Fatal;

/// Behaviour. `new` of an implementor is inert; `start` acts.
pub trait Worker: Sized + Unpin + 'static {
    type Message: Send + Unpin + 'static;

    fn start(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        Ok(())
    }

    /// An error is fatal to the process: what can go wrong in normal operation is counted, not returned.
    fn handle(&mut self, message: Self::Message, context: &mut Context<Self>) -> anyhow::Result<()>;

    /// At least every [`Settings::tick`], between messages too, so that load does not starve it.
    fn tick(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        Ok(())
    }

    /// After the last message.
    fn drain(&mut self, _context: &mut Context<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What a worker may do to itself.
#[derive(Debug)]
pub struct Context<W: Worker> {
    outbox: Outbox<W::Message>,
    name: &'static str,
}

impl<W: Worker> Context<W> {
    /// Its own mailbox, for tasks that it spawns with [`Context::spawn`].
    pub fn outbox(&self) -> Outbox<W::Message> {
        self.outbox.clone()
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs a task on this worker's thread; it ends with the worker.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        actix::spawn(task);
    }
}

/// What happens after a panic.
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// The process ends; the log replays. For every actor that flow rows pass through.
    Never,
    /// Rebuilt, at most this often in a row, with backoff; what it was handling is lost.
    AtMost(u32),
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub name: &'static str,
    /// Bound of the mailbox, in messages.
    pub capacity: usize,
    pub tick: Duration,
    pub restart: Restart,
}

/// The owner's side: drains or just waits.
#[derive(Debug)]
pub struct Handle<M> {
    pub name: &'static str,
    pub outbox: Outbox<M>,
    done: oneshot::Receiver<()>,
}

impl<M> Handle<M> {
    /// Takes no more messages, handles those queued, drains, ends. False where it took longer than `limit`.
    pub async fn drain(self, limit: Duration) -> bool {
        self.outbox.close();
        tokio::time::timeout(limit, self.done).await.is_ok()
    }
}

/// Starts a worker on an arbiter of its own. `build` runs there, again after a panic where `restart` allows it.
pub fn spawn<W, B>(settings: Settings, fatal: mpsc::UnboundedSender<Fatal>, build: B) -> Handle<W::Message>
where
    W: Worker,
    B: FnMut() -> anyhow::Result<W> + Send + Unpin + 'static,
{
    let (outbox, receiver) = Outbox::channel(settings.capacity);
    spawn_on(settings, fatal, outbox, receiver, build)
}

/// As [`spawn`], with a mailbox that exists already ([`Outbox::channel`]): where actors send to each other.
pub fn spawn_on<W, B>(
    settings: Settings,
    fatal: mpsc::UnboundedSender<Fatal>,
    outbox: Outbox<W::Message>,
    receiver: async_channel::Receiver<W::Message>,
    build: B,
) -> Handle<W::Message>
where
    W: Worker,
    B: FnMut() -> anyhow::Result<W> + Send + Unpin + 'static,
{
    let (done, finished) = oneshot::channel();
    let own = outbox.clone();
    let arbiter = actix::Arbiter::new();
    let arbiter_handle = arbiter.handle();
    arbiter.spawn_fn(move || {
        // Arbiters name all threads alike; a thread that keeps that name works as well.
        let _ = std::fs::write("/proc/thread-self/comm", settings.name);
        let labels = [("actor", settings.name)];
        let shell = Shell {
            settings,
            build,
            worker: None,
            context: Context { outbox: own, name: settings.name },
            receiver: Box::new(receiver),
            fatal,
            failures: 0,
            last_tick: Instant::now(),
            done: Some(done),
            arbiter: arbiter_handle,
            mailbox: metrics::gauge!(metric::MAILBOX_BATCHES, &labels),
            handled: metrics::counter!(metric::ACTOR_MESSAGES, &labels),
            panics: metrics::counter!(metric::ACTOR_PANICS, &labels),
        };
        shell.start();
    });
    Handle { name: settings.name, outbox, done: finished }
}

struct Shell<W: Worker, B> {
    settings: Settings,
    build: B,
    worker: Option<W>,
    context: Context<W>,
    receiver: Box<async_channel::Receiver<W::Message>>,
    fatal: mpsc::UnboundedSender<Fatal>,
    failures: u32,
    last_tick: Instant,
    done: Option<oneshot::Sender<()>>,
    arbiter: actix::ArbiterHandle,
    mailbox: Gauge,
    handled: Counter,
    panics: Counter,
}

/// What came of one call into the worker.
enum Outcome {
    Fine,
    Panicked,
    Failed,
}

impl<W: Worker, B: FnMut() -> anyhow::Result<W> + Unpin + 'static> Shell<W, B> {
    fn guarded(&mut self, call: impl FnOnce(&mut W, &mut Context<W>) -> anyhow::Result<()>) -> Outcome {
        let Some(worker) = self.worker.as_mut() else { return Outcome::Failed };
        let context = &mut self.context;
        match catch_unwind(AssertUnwindSafe(|| call(worker, context))) {
            Ok(Ok(())) => Outcome::Fine,
            Ok(Err(error)) => {
                self.give_up(format!("{error:#}"));
                Outcome::Failed
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                tracing::error!(actor = self.settings.name, reason = %text, "actor panicked");
                self.panics.increment(1);
                self.worker = None;
                Outcome::Panicked
            }
        }
    }

    fn give_up(&mut self, reason: String) {
        self.worker = None;
        let fatal = Fatal { actor: self.settings.name, reason };
        if self.fatal.send(fatal).is_err() {
            tracing::error!(actor = self.settings.name, "actor failed after the process began to end");
        }
    }

    fn construct(&mut self, context: &mut ActixContext<Self>) {
        let built = catch_unwind(AssertUnwindSafe(|| (self.build)()));
        match built {
            Ok(Ok(worker)) => {
                self.worker = Some(worker);
                if let Outcome::Panicked = self.guarded(|worker, context| worker.start(context)) {
                    self.rebuild(context);
                }
            }
            Ok(Err(error)) => self.give_up(format!("{error:#}")),
            Err(panic) => {
                self.panics.increment(1);
                tracing::error!(actor = self.settings.name, reason = %panic_text(panic.as_ref()), "actor panicked");
                self.rebuild(context);
            }
        }
    }

    fn rebuild(&mut self, context: &mut ActixContext<Self>) {
        self.failures += 1;
        match self.settings.restart {
            Restart::AtMost(limit) if self.failures <= limit => {
                // The mailbox waits meanwhile: this thread is the actor's own.
                std::thread::sleep(Duration::from_millis(50 << self.failures.min(7)));
                self.construct(context);
            }
            _ => self.give_up(format!("panicked {} times", self.failures)),
        }
    }

    fn tick_if_due(&mut self, context: &mut ActixContext<Self>) {
        if self.last_tick.elapsed() < self.settings.tick {
            return;
        }
        self.last_tick = Instant::now();
        self.mailbox.set(self.receiver.len() as f64);
        if self.worker.is_some()
            && let Outcome::Panicked = self.guarded(|worker, context| worker.tick(context))
        {
            self.rebuild(context);
        }
    }
}

impl<W: Worker, B: FnMut() -> anyhow::Result<W> + Unpin + 'static> Actor for Shell<W, B> {
    type Context = ActixContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.construct(context);
        context.add_stream((*self.receiver).clone());
        context.run_interval(self.settings.tick, |shell, context| shell.tick_if_due(context));
    }
}

impl<W: Worker, B: FnMut() -> anyhow::Result<W> + Unpin + 'static> StreamHandler<W::Message> for Shell<W, B> {
    fn handle(&mut self, message: W::Message, context: &mut Self::Context) {
        self.handled.increment(1);
        match self.guarded(|worker, context| worker.handle(message, context)) {
            Outcome::Fine => self.failures = 0,
            Outcome::Panicked => self.rebuild(context),
            Outcome::Failed => {}
        }
        self.tick_if_due(context);
    }

    /// The mailbox is closed and empty.
    fn finished(&mut self, context: &mut Self::Context) {
        if self.worker.is_some() {
            let _ = self.guarded(|worker, context| worker.drain(context));
        }
        self.worker = None;
        self.mailbox.set(0.0);
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
        context.stop();
        self.arbiter.stop();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
