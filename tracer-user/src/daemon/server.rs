//! The socket: lets clients in and tells them what they ask for, on a thread of its own, so that the
//! tracer never waits for any of them.

use std::{
    cell::RefCell,
    os::unix::net::UnixListener as StdListener,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::{AbortHandle, LocalSet},
    time::timeout,
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{
    access::{Rules, Sees},
    hub::{Hub, Subscription},
    protocol::{self, Frame, Hello, Reply, Request, Status, Welcome},
};
use crate::model::Update;

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

/// What may change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is let in.
    pub rules: Rules,
    /// How many at once.
    pub max_clients: usize,
}

/// All that clients share.
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

/// Serves until the tracer's side of `news` is dropped and every client has been told.
///
/// # Errors
/// When the socket cannot be listened on.
pub fn serve(
    listener: StdListener,
    news: mpsc::UnboundedReceiver<News>,
    settings: watch::Receiver<Settings>,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true).context("the socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop of the socket")?;
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = UnixListener::from_std(listener).context("the socket")?;
        run(&listener, news, &settings).await;
        Ok(())
    }))
}

async fn run(
    listener: &UnixListener,
    mut news: mpsc::UnboundedReceiver<News>,
    settings: &watch::Receiver<Settings>,
) {
    let room = Rc::new(RefCell::new(Room {
        hub: Hub::default(),
        tracer: Status::default(),
        guests: Vec::new(),
        began: Instant::now(),
    }));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            biased;
            told = news.recv() => match told {
                Some(News::Updates(updates)) => room.borrow_mut().hub.publish(&updates),
                Some(News::Tracer(status)) => room.borrow_mut().tracer = *status,
                None => break,
            },
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let place = Rc::new(Place::default());
                    let guest = client(stream, Rc::clone(&room), Rc::clone(&place), settings.clone());
                    let task = clients.spawn_local(guest);
                    room.borrow_mut().guests.push(Guest { task, place });
                }
                Err(error) => {
                    // Out of descriptors, or a client that left at once.
                    log::warn!("a client could not be let in: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    room.borrow_mut().hub.end();
    // Each gets what was queued for it, but a stuck one keeps nobody.
    let told = async { while clients.join_next().await.is_some() {} };
    if timeout(FAREWELL, told).await.is_err() {
        log::debug!("some clients were not told everything");
    }
}

type Connection = Framed<UnixStream, LengthDelimitedCodec>;

async fn client(
    stream: UnixStream,
    room: Rc<RefCell<Room>>,
    place: Rc<Place>,
    settings: watch::Receiver<Settings>,
) {
    let mut connection = Framed::new(stream, protocol::framing(protocol::MAX_REQUEST));
    if let Err(error) = converse(&mut connection, &room, &place, &settings).await {
        log::debug!("a client: {error:#}");
    }
}

async fn converse(
    connection: &mut Connection,
    room: &RefCell<Room>,
    place: &Place,
    settings: &watch::Receiver<Settings>,
) -> anyhow::Result<()> {
    let sees = match admitted(connection, room, settings)? {
        Ok(sees) => sees,
        Err(reason) => {
            let refused = Welcome::Refused { reason };
            return send(connection, protocol::json(&refused)).await;
        }
    };
    let hello: Hello = receive(connection).await?;
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
    match receive(connection).await {
        Ok(Request::Watch { all }) => {
            let subscription = room.borrow_mut().hub.subscribe(sees, all);
            *place.missed.borrow_mut() = Some(Arc::clone(&subscription.missed));
            listen(connection, subscription).await
        }
        Ok(Request::Now) => {
            let state = room.borrow().hub.state(sees);
            send_all(connection, state).await
        }
        Ok(Request::List(filter)) => {
            let sessions = room.borrow().hub.board.list(sees);
            let mut wanted: Vec<_> = sessions
                .into_iter()
                .filter(|session| filter.wants(session))
                .collect();
            let limit = filter.limit.and_then(|limit| usize::try_from(limit).ok());
            wanted.drain(..wanted.len().saturating_sub(limit.unwrap_or(usize::MAX)));
            let replies = wanted
                .into_iter()
                .map(|session| Reply::Listed(Box::new(session)));
            send_all(connection, replies.map(|reply| protocol::json(&reply))).await
        }
        Ok(Request::Status) => {
            let status = room.borrow().status();
            send(connection, protocol::json(&Reply::Status(Box::new(status)))).await
        }
        Err(error) => {
            let reason = format!("the request was not understood: {error:#}");
            send(connection, protocol::json(&Reply::Failed { reason })).await
        }
    }
}

/// Whether a client is let in; else why not.
fn admitted(
    connection: &Connection,
    room: &RefCell<Room>,
    settings: &watch::Receiver<Settings>,
) -> anyhow::Result<Result<Sees, String>> {
    let peer = connection.get_ref().peer_cred().context("who it is")?;
    let settings = settings.borrow();
    if !room.borrow_mut().has_room(settings.max_clients) {
        return Ok(Err(format!(
            "there are {} clients already: end some of them, or raise max_clients",
            settings.max_clients
        )));
    }
    Ok(settings.rules.sees(peer.uid(), peer.gid()).ok_or_else(|| {
        format!(
            "user id {} may not see this: become a member of the group {}, or ask root for allow_own = true",
            peer.uid(),
            settings.rules.group
        )
    }))
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
