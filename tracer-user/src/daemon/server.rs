//! The socket's server: accepts clients and answers their requests, on a thread of its own, so that the
//! tracer never waits for a client.

use std::{
    cell::RefCell,
    collections::HashSet,
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet, LocalSet},
    time::timeout,
};
use tokio_util::codec::Framed;

use super::{
    access::{Rules, Sees},
    codec::ServerCodec,
    config::Config,
    hub::{Hub, Subscription},
    log_level,
    past::{Parts, Past},
    protocol::{self, Frame, Hello, Reply, Request, Status, Welcome},
    subscriber::TracerRequest,
    warn_of_programs,
};
use crate::model::{Filter, FindingFilter, SessionId, Update};

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long clients may take to read what is queued when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// A message of the tracer's thread.
#[derive(Debug)]
pub enum TracerMessage {
    /// The updates of one tick.
    Updates(Vec<Update>),
    /// The tracer's own part of the status.
    Status(Box<Status>),
}

/// See the module.
pub struct Server {
    /// The socket that clients connect to.
    pub listener: StdListener,
    /// Messages of the tracer's thread.
    pub from_tracer: mpsc::UnboundedReceiver<TracerMessage>,
    /// Requests to the tracer's thread.
    pub requests: Sender<TracerRequest>,
    /// The configuration.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where a new configuration goes.
    pub change: watch::Sender<Arc<Config>>,
    /// The configuration's file; `None` for the default one.
    pub file: Option<PathBuf>,
    /// Log more than configured.
    pub verbose: bool,
    /// Past sessions.
    pub past: Past,
}

/// What all client tasks share.
struct Shared {
    state: RefCell<State>,
    requests: Sender<TracerRequest>,
    config: watch::Receiver<Arc<Config>>,
    past: Past,
    own_uid: u32,
}

/// What changes while the server runs.
struct State {
    hub: Hub,
    /// The tracer's own part of the status.
    tracer: Status,
    clients: Vec<Client>,
    began: Instant,
}

/// A connected client.
struct Client {
    task: AbortHandle,
    state: Rc<ClientState>,
}

/// What a client's task shows of itself.
#[derive(Default)]
struct ClientState {
    /// Once it is subscribed: how many updates were not sent to it.
    missed: RefCell<Option<Arc<AtomicU64>>>,
}

impl ClientState {
    /// Whether it was cut off and does not read from its socket.
    fn is_stuck(&self) -> bool {
        let missed = self.missed.borrow();
        missed
            .as_ref()
            .is_some_and(|missed| missed.load(Ordering::Relaxed) > 0)
    }
}

impl Server {
    /// Serves until the tracer's end of `from_tracer` is dropped and every client has got what is queued.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub fn serve(self) -> anyhow::Result<()> {
        self.listener
            .set_nonblocking(true)
            .context("cannot use the socket")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the server's event loop")?;
        runtime.block_on(LocalSet::new().run_until(self.run()))
    }

    async fn run(self) -> anyhow::Result<()> {
        let Self {
            listener,
            mut from_tracer,
            requests,
            config,
            change,
            file,
            verbose,
            past,
        } = self;
        let listener = UnixListener::from_std(listener).context("cannot use the socket")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
        let shared = Rc::new(Shared {
            state: RefCell::new(State {
                hub: Hub::default(),
                tracer: Status::default(),
                clients: Vec::new(),
                began: Instant::now(),
            }),
            requests,
            config,
            past,
            own_uid: rustix::process::geteuid().as_raw(),
        });
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                message = from_tracer.recv() => match message {
                    Some(TracerMessage::Updates(updates)) => {
                        shared.state.borrow_mut().hub.publish(&updates);
                    }
                    Some(TracerMessage::Status(status)) => {
                        shared.state.borrow_mut().tracer = *status;
                    }
                    None => break,
                },
                _ = hangup.recv() => reload(file.as_deref(), verbose, &change),
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => shared.accept(stream, &mut tasks),
                    Err(error) => {
                        // Too many open files, or the client disconnected at once.
                        log::warn!("cannot accept a client: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        shared.state.borrow_mut().hub.end();
        // Each gets what is queued for it, but one that does not read delays nobody.
        let served = async { while tasks.join_next().await.is_some() {} };
        if timeout(FAREWELL, served).await.is_err() {
            log::debug!("some clients did not read everything");
        }
        Ok(())
    }
}

/// Reads the configuration again. If it has mistakes, nothing changes.
fn reload(file: Option<&Path>, verbose: bool, change: &watch::Sender<Arc<Config>>) {
    match Config::load(file) {
        Ok(new) => {
            let late = change.borrow().changed_only_by_restart(&new);
            if !late.is_empty() {
                log::warn!(
                    "these settings change only with a restart: {}",
                    late.join(", ")
                );
            }
            log::set_max_level(log_level(&new, verbose));
            warn_of_programs(&new);
            change.send_replace(Arc::new(new));
            log::info!("configuration reloaded");
        }
        Err(error) => log::error!("configuration not reloaded: {error}"),
    }
}

type Connection = Framed<UnixStream, ServerCodec>;

impl Shared {
    fn accept(self: &Rc<Self>, stream: UnixStream, tasks: &mut JoinSet<()>) {
        let (shared, state) = (Rc::clone(self), Rc::new(ClientState::default()));
        let own = Rc::clone(&state);
        let task = tasks.spawn_local(async move {
            let mut connection = Framed::new(stream, ServerCodec::default());
            if let Err(error) = shared.serve(&mut connection, &own).await {
                log::debug!("client disconnected: {error:#}");
            }
        });
        self.state.borrow_mut().clients.push(Client { task, state });
    }

    /// Answers a client's one request.
    async fn serve(&self, connection: &mut Connection, client: &ClientState) -> anyhow::Result<()> {
        let sees = match self.admitted(connection)? {
            Ok(sees) => sees,
            Err(reason) => {
                let refused = Welcome::Refused { reason };
                return send(connection, protocol::json(&refused)).await;
            }
        };
        let hello: Hello = match receive(connection).await {
            Ok(hello) => hello,
            Err(error) => {
                let reason = format!("not lastbyte's protocol: {error:#}");
                return send(connection, protocol::json(&Welcome::Refused { reason })).await;
            }
        };
        log::debug!("client {} (protocol {})", hello.client, hello.protocol);
        let welcome = match hello.protocol {
            protocol::VERSION => Welcome::Welcome {
                protocol: protocol::VERSION,
                daemon: env!("CARGO_PKG_VERSION").to_owned(),
                sees,
            },
            other => Welcome::Refused {
                reason: format!(
                    "the daemon uses protocol {}, this client {other}: use the same version of lastbyte as the daemon, or restart the daemon",
                    protocol::VERSION
                ),
            },
        };
        send(connection, protocol::json(&welcome)).await?;
        if matches!(welcome, Welcome::Refused { .. }) {
            return Ok(());
        }
        let answered = match receive(connection).await {
            Ok(Request::Watch { all }) => {
                let subscription = self.state.borrow_mut().hub.subscribe(sees, all);
                *client.missed.borrow_mut() = Some(Arc::clone(&subscription.missed));
                return listen(connection, subscription).await;
            }
            Ok(Request::Course { session }) => {
                self.flush().await;
                return send_course(connection, self.past.course(session, sees)).await;
            }
            Ok(Request::Timeline { session }) => self.timeline(&session, sees).await,
            Ok(Request::Now) => Ok(self.state.borrow().hub.state(sees)),
            Ok(Request::Status) => {
                let status = Reply::Status(Box::new(self.state.borrow().status()));
                Ok(vec![protocol::json(&status)])
            }
            Ok(Request::List(filter)) => self.list(&filter, sees).await,
            Ok(Request::Findings(filter)) => self.findings(&filter, sees).await,
            Ok(Request::Past { limit }) => self.past(limit, sees).await,
            Err(error) => Err(error.context("unknown request")),
        };
        let last = match &answered {
            Ok(_) => Reply::Done,
            Err(error) => Reply::failed(error),
        };
        send_all(connection, answered.into_iter().flatten()).await?;
        send(connection, protocol::json(&last)).await
    }

    async fn list(&self, filter: &Filter, sees: Sees) -> anyhow::Result<Vec<Bytes>> {
        // A session that closes meanwhile is in both rather than in none.
        let mut open = self.state.borrow().hub.board.list(sees);
        open.retain(|session| filter.wants(session));
        let past = match filter.open {
            Some(true) => Ok(Vec::new()),
            _ => self.past.list(filter, sees).await,
        };
        let mut frames = Vec::new();
        let mut sessions = match past {
            Ok(sessions) => sessions,
            // Open sessions are known without the database.
            Err(error) if filter.open.is_none() => {
                let reason = format!("{error:#}");
                frames.push(protocol::json(&Reply::Incomplete { reason }));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let known: HashSet<_> = sessions.iter().map(|it| it.name.clone()).collect();
        open.retain(|session| !known.contains(&session.name));
        sessions.extend(open);
        let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
        sessions.drain(..sessions.len().saturating_sub(limit.unwrap_or(usize::MAX)));
        let replies = sessions
            .into_iter()
            .map(|session| Reply::Listed(Box::new(session)));
        frames.extend(replies.map(|reply| protocol::json(&reply)));
        Ok(frames)
    }

    async fn findings(&self, filter: &FindingFilter, sees: Sees) -> anyhow::Result<Vec<Bytes>> {
        self.flush().await;
        let found = self.past.findings(filter, sees).await?.into_iter();
        let replies = found.map(|found| Reply::Found(Box::new(found)));
        Ok(replies.map(|reply| protocol::json(&reply)).collect())
    }

    async fn past(&self, limit: u64, sees: Sees) -> anyhow::Result<Vec<Bytes>> {
        self.flush().await;
        let updates = self.past.updates(limit, sees).await?.into_iter();
        Ok(updates
            .map(|update| protocol::json(&Reply::State(update)))
            .collect())
    }

    /// The timeline of an open session, if the tracer has it in memory and the client may see it.
    async fn timeline(&self, session: &str, sees: Sees) -> anyhow::Result<Vec<Bytes>> {
        let session: SessionId = session
            .parse()
            .with_context(|| format!("{session} is no session id"))?;
        let (request, reply) = oneshot::channel();
        let request = TracerRequest::Timeline(session, request);
        let timeline = match self.requests.send(request) {
            Ok(()) => timeout(PATIENCE, reply).await,
            Err(_) => return Ok(Vec::new()),
        };
        let timeline = timeline.ok().and_then(Result::ok).flatten();
        let timeline = timeline.filter(|timeline| sees.session(&timeline.session));
        let reply = timeline.map(|timeline| protocol::json(&Reply::Timeline(timeline)));
        Ok(reply.into_iter().collect())
    }

    /// Waits until everything that is known was handed to the flight recorder.
    async fn flush(&self) {
        let (request, done) = oneshot::channel();
        if self.requests.send(TracerRequest::Flush(request)).is_ok() {
            // If the tracer is too busy, or has ended, the answer is what was handed over before.
            let _ = timeout(PATIENCE, done).await;
        }
    }

    /// What a client may see, or why it is refused.
    fn admitted(&self, connection: &Connection) -> anyhow::Result<Result<Sees, String>> {
        let peer = connection
            .get_ref()
            .peer_cred()
            .context("cannot find out its user")?;
        let config = self.config.borrow();
        let max = config.socket.max_clients;
        if !self.state.borrow_mut().has_room(max) {
            return Ok(Err(format!(
                "{max} clients are connected already: close some of them, or raise socket.max_clients"
            )));
        }
        let rules = Rules {
            group: config.socket.group.clone(),
            allow_own: config.socket.allow_own,
            own_uid: self.own_uid,
        };
        Ok(rules.sees(peer.uid(), peer.gid()).ok_or_else(|| {
            format!(
                "permission denied for user id {}: join the group {}, or set socket.allow_own = true",
                peer.uid(),
                rules.group
            )
        }))
    }
}

/// Sends a session's history as it is read from the database.
async fn send_course(connection: &mut Connection, mut course: Parts) -> anyhow::Result<()> {
    let mut last = Reply::Done;
    while let Some(frame) = course.recv().await {
        match frame {
            // SQLite cannot shorten its write-ahead log meanwhile, so the client must not be slow.
            Ok(frame) => timeout(PATIENCE, send(connection, frame))
                .await
                .context("it does not read from its socket")??,
            Err(error) => last = Reply::failed(&error),
        }
    }
    send(connection, protocol::json(&last)).await
}

/// Sends the current state, then updates, until the client disconnects, is cut off or the daemon ends.
async fn listen(connection: &mut Connection, mut subscription: Subscription) -> anyhow::Result<()> {
    let state = std::mem::take(&mut subscription.state);
    send_all(connection, state).await?;
    let mut frames = Vec::new();
    loop {
        let count = tokio::select! {
            count = subscription.news.recv_many(&mut frames, 256) => count,
            // A client sends only one request: this is its end, or a mistake.
            sent = connection.next() => match sent {
                None => return Ok(()),
                Some(_) => anyhow::bail!("it sent a second request"),
            },
        };
        if count == 0 {
            break;
        }
        send_all(connection, frames.drain(..)).await?;
    }
    let last = match subscription.missed.load(Ordering::Relaxed) {
        0 => Reply::Bye,
        updates => Reply::Missed { updates },
    };
    send(connection, protocol::json(&last)).await
}

async fn receive<T: serde::de::DeserializeOwned>(connection: &mut Connection) -> anyhow::Result<T> {
    let frame = timeout(PATIENCE, connection.next())
        .await
        .context("it sent no request in time")?
        .context("it closed the connection")??;
    match protocol::read(frame.freeze())? {
        Frame::Message(message) => Ok(message),
        Frame::Records(_) => anyhow::bail!("it sent records instead of a request"),
    }
}

async fn send(connection: &mut Connection, frame: Bytes) -> anyhow::Result<()> {
    send_all(connection, [frame]).await
}

/// Through the connection's buffer, so that many small frames are few writes.
async fn send_all(
    connection: &mut Connection,
    frames: impl IntoIterator<Item = Bytes>,
) -> anyhow::Result<()> {
    for frame in frames {
        connection.feed(frame).await?;
    }
    // This may take as long as the client likes: only its own task waits, which is ended when there are
    // too many clients.
    SinkExt::<Bytes>::flush(connection).await?;
    Ok(())
}

impl State {
    /// Whether there are at most `max` clients, the newest included. Drops clients that were cut off and do
    /// not read, if there are more.
    fn has_room(&mut self, max: usize) -> bool {
        self.clients.retain(|client| !client.task.is_finished());
        while self.clients.len() > max {
            let Some(stuck) = self
                .clients
                .iter()
                .position(|client| client.state.is_stuck())
            else {
                return false;
            };
            self.clients.remove(stuck).task.abort();
        }
        true
    }

    fn status(&self) -> Status {
        let board = &self.hub.board;
        Status {
            uptime_s: self.began.elapsed().as_secs(),
            open: board.open() as u64,
            closed: board.closed,
            updates: board.updates,
            gaps: board.gaps,
            clients: self
                .clients
                .iter()
                .filter(|client| !client.task.is_finished())
                .count() as u64,
            cut_off: self.hub.cut_off,
            ..self.tracer.clone()
        }
    }
}
