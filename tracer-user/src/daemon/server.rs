//! The socket: lets clients in and tells them what they ask for, on a thread of its own, so that the
//! tracer never waits for any of them.

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
    told::Ask,
    warn_of_programs,
};
use crate::model::{Filter, FindingFilter, Update};

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long clients may take for what is queued when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the tracer's thread tells this one.
#[derive(Debug)]
pub enum News {
    /// What became known at one tick.
    Updates(Vec<Update>),
    /// How the tracer is.
    Tracer(Box<Status>),
}

/// See the module.
pub struct Server {
    /// The end that clients connect to.
    pub listener: StdListener,
    /// What the tracer tells.
    pub news: mpsc::UnboundedReceiver<News>,
    /// The way to ask it.
    pub asks: Sender<Ask>,
    /// What is configured.
    pub config: watch::Receiver<Arc<Config>>,
    /// The way to change that.
    pub change: watch::Sender<Arc<Config>>,
    /// Where it came from.
    pub file: Option<PathBuf>,
    /// More is logged than is configured.
    pub verbose: bool,
    /// What has been.
    pub past: Past,
}

/// All that clients share.
struct House {
    room: RefCell<Room>,
    asks: Sender<Ask>,
    config: watch::Receiver<Arc<Config>>,
    past: Past,
    own_uid: u32,
}

/// Who listens, and to what.
struct Room {
    hub: Hub,
    tracer: Status,
    guests: Vec<Guest>,
    began: Instant,
}

/// A client that is connected.
struct Guest {
    task: AbortHandle,
    place: Rc<Place>,
}

/// What the room knows of a client.
#[derive(Default)]
struct Place {
    /// Once it listens: how much it was not sent.
    missed: RefCell<Option<Arc<AtomicU64>>>,
}

impl Place {
    /// It was cut off and takes nothing off its socket.
    fn is_stuck(&self) -> bool {
        let missed = self.missed.borrow();
        missed
            .as_ref()
            .is_some_and(|missed| missed.load(Ordering::Relaxed) > 0)
    }
}

impl Server {
    /// Serves until the tracer's side of `news` is dropped and every client has been told.
    ///
    /// # Errors
    /// When the socket cannot be listened on.
    pub fn serve(self) -> anyhow::Result<()> {
        self.listener.set_nonblocking(true).context("the socket")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the event loop of the socket")?;
        runtime.block_on(LocalSet::new().run_until(self.run()))
    }

    async fn run(self) -> anyhow::Result<()> {
        let Self {
            listener,
            mut news,
            asks,
            config,
            change,
            file,
            verbose,
            past,
        } = self;
        let listener = UnixListener::from_std(listener).context("the socket")?;
        let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        let house = Rc::new(House {
            room: RefCell::new(Room {
                hub: Hub::default(),
                tracer: Status::default(),
                guests: Vec::new(),
                began: Instant::now(),
            }),
            asks,
            config,
            past,
            own_uid: rustix::process::geteuid().as_raw(),
        });
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                told = news.recv() => match told {
                    Some(News::Updates(updates)) => house.room.borrow_mut().hub.publish(&updates),
                    Some(News::Tracer(status)) => house.room.borrow_mut().tracer = *status,
                    None => break,
                },
                _ = hangup.recv() => reload(file.as_deref(), verbose, &change),
                Some(_) = clients.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => house.let_in(stream, &mut clients),
                    Err(error) => {
                        // Out of descriptors, or a client that left at once.
                        log::warn!("a client could not be let in: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        house.room.borrow_mut().hub.end();
        // Each gets what was queued for it, but a stuck one keeps nobody.
        let told = async { while clients.join_next().await.is_some() {} };
        if timeout(FAREWELL, told).await.is_err() {
            log::debug!("some clients were not told everything");
        }
        Ok(())
    }
}

/// Reads the configuration again; one that is wrong changes nothing.
fn reload(file: Option<&Path>, verbose: bool, change: &watch::Sender<Arc<Config>>) {
    match Config::load(file) {
        Ok(new) => {
            let late = change.borrow().changed_only_by_restart(&new);
            if !late.is_empty() {
                log::warn!("changed by a restart only: {}", late.join(", "));
            }
            log::set_max_level(log_level(&new, verbose));
            warn_of_programs(&new);
            change.send_replace(Arc::new(new));
            log::info!("the configuration was read again");
        }
        Err(error) => log::error!("the configuration stays as it was: {error}"),
    }
}

type Connection = Framed<UnixStream, ServerCodec>;

impl House {
    fn let_in(self: &Rc<Self>, stream: UnixStream, clients: &mut JoinSet<()>) {
        let (house, place) = (Rc::clone(self), Rc::new(Place::default()));
        let own = Rc::clone(&place);
        let task = clients.spawn_local(async move {
            let mut connection = Framed::new(stream, ServerCodec::default());
            if let Err(error) = house.converse(&mut connection, &own).await {
                log::debug!("a client: {error:#}");
            }
        });
        self.room.borrow_mut().guests.push(Guest { task, place });
    }

    async fn converse(&self, connection: &mut Connection, place: &Place) -> anyhow::Result<()> {
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
                let reason = format!("this is not lastbyte's protocol: {error:#}");
                return send(connection, protocol::json(&Welcome::Refused { reason })).await;
            }
        };
        log::debug!("{} with protocol {}", hello.client, hello.protocol);
        let welcome = match hello.protocol {
            protocol::VERSION => Welcome::Welcome {
                protocol: protocol::VERSION,
                daemon: env!("CARGO_PKG_VERSION").to_owned(),
                sees,
            },
            other => Welcome::Refused {
                reason: format!(
                    "the daemon speaks protocol {}, this client {other}: use the lastbyte that the daemon runs, or restart the daemon",
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
                let subscription = self.room.borrow_mut().hub.subscribe(sees, all);
                *place.missed.borrow_mut() = Some(Arc::clone(&subscription.missed));
                return listen(connection, subscription).await;
            }
            Ok(Request::Course { session }) => {
                self.hand_over().await;
                return send_course(connection, self.past.course(session, sees)).await;
            }
            Ok(Request::Now) => Ok(self.room.borrow().hub.state(sees)),
            Ok(Request::Status) => {
                let status = Reply::Status(Box::new(self.room.borrow().status()));
                Ok(vec![protocol::json(&status)])
            }
            Ok(Request::List(filter)) => self.list(&filter, sees).await,
            Ok(Request::Findings(filter)) => self.findings(&filter, sees).await,
            Ok(Request::Past { limit }) => self.past(limit, sees).await,
            Err(error) => Err(error.context("the request was not understood")),
        };
        let last = match &answered {
            Ok(_) => Reply::Done,
            Err(error) => Reply::failed(error),
        };
        send_all(connection, answered.into_iter().flatten()).await?;
        send(connection, protocol::json(&last)).await
    }

    async fn list(&self, filter: &Filter, sees: Sees) -> anyhow::Result<Vec<Bytes>> {
        // What closes meanwhile may be in neither: the past is looked at last.
        let mut open = self.room.borrow().hub.board.list(sees);
        open.retain(|session| filter.wants(session));
        let past = match filter.open {
            Some(true) => Ok(Vec::new()),
            _ => self.past.list(filter, sees).await,
        };
        let mut frames = Vec::new();
        let mut sessions = match past {
            Ok(sessions) => sessions,
            // What is open is worth having all the same.
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
        self.hand_over().await;
        let found = self.past.findings(filter, sees).await?.into_iter();
        let replies = found.map(|found| Reply::Found(Box::new(found)));
        Ok(replies.map(|reply| protocol::json(&reply)).collect())
    }

    async fn past(&self, limit: u64, sees: Sees) -> anyhow::Result<Vec<Bytes>> {
        self.hand_over().await;
        let updates = self.past.updates(limit, sees).await?.into_iter();
        Ok(updates
            .map(|update| protocol::json(&Reply::State(update)))
            .collect())
    }

    /// Waits until everything that is known has been handed to the flight recorder.
    async fn hand_over(&self) {
        let (ask, answer) = oneshot::channel();
        if self.asks.send(ask).is_ok() {
            // A tracer that is too busy, or gone, hands nothing over: then there is what there was.
            let _ = timeout(PATIENCE, answer).await;
        }
    }

    /// Whether a client is let in; else why not.
    fn admitted(&self, connection: &Connection) -> anyhow::Result<Result<Sees, String>> {
        let peer = connection.get_ref().peer_cred().context("who it is")?;
        let config = self.config.borrow();
        let max = config.socket.max_clients;
        if !self.room.borrow_mut().has_room(max) {
            return Ok(Err(format!(
                "there are {max} clients already: end some of them, or raise max_clients"
            )));
        }
        let rules = Rules {
            group: config.socket.group.clone(),
            allow_own: config.socket.allow_own,
            own_uid: self.own_uid,
        };
        Ok(rules.sees(peer.uid(), peer.gid()).ok_or_else(|| {
            format!(
                "user id {} may not see this: become a member of the group {}, or ask root for allow_own = true",
                peer.uid(),
                rules.group
            )
        }))
    }
}

/// Sends a session and its records as they are read, at most a few frames ahead of the client.
async fn send_course(connection: &mut Connection, mut course: Parts) -> anyhow::Result<()> {
    let mut last = Reply::Done;
    while let Some(frame) = course.recv().await {
        match frame {
            // Reading keeps the database from tidying up its log, so a client may not keep it waiting.
            Ok(frame) => timeout(PATIENCE, send(connection, frame))
                .await
                .context("it takes nothing off its socket")??,
            Err(error) => last = Reply::failed(&error),
        }
    }
    send(connection, protocol::json(&last)).await
}

/// Sends what is so, then what follows, until the listener leaves, is cut off or the daemon ends.
async fn listen(connection: &mut Connection, mut subscription: Subscription) -> anyhow::Result<()> {
    let state = std::mem::take(&mut subscription.state);
    send_all(connection, state).await?;
    let mut frames = Vec::new();
    loop {
        let count = tokio::select! {
            count = subscription.news.recv_many(&mut frames, 256) => count,
            // It has nothing more to say: this is its end, or a mistake.
            said = connection.next() => match said {
                None => return Ok(()),
                Some(_) => anyhow::bail!("it went on talking"),
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
        .context("it said nothing")?
        .context("it left")??;
    match protocol::read(frame.freeze())? {
        Frame::Message(message) => Ok(message),
        Frame::Records(_) => anyhow::bail!("records instead of a request"),
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
    // However long that takes: only its own place waits, and that is given away when it is needed.
    SinkExt::<Bytes>::flush(connection).await?;
    Ok(())
}

impl Room {
    /// Whether there is room for one more, who is here already. One that was cut off and is stuck
    /// makes room.
    fn has_room(&mut self, max: usize) -> bool {
        self.guests.retain(|guest| !guest.task.is_finished());
        while self.guests.len() > max {
            let Some(stuck) = self.guests.iter().position(|guest| guest.place.is_stuck()) else {
                return false;
            };
            self.guests.remove(stuck).task.abort();
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
                .guests
                .iter()
                .filter(|guest| !guest.task.is_finished())
                .count() as u64,
            cut_off: self.hub.cut_off,
            ..self.tracer.clone()
        }
    }
}
