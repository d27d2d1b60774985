//! All contact with the terminal: the loop that waits for keys, the feed, signals and time.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout},
    panic::{self, AssertUnwindSafe},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        event::{self, DisableMouseCapture, EnableMouseCapture, KeyEventKind, MouseEventKind},
        execute, queue,
        terminal::{
            BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen,
            LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        },
    },
};
use rustix::time::ClockId;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    actions, keys,
    keys::Command,
    source::{self, Inbox, Source},
    state::{Effect, Setup, State},
    view::{self, Theme},
};
use crate::tui::feed::{Feed, Phase};

/// Least time between two frames: 20 a second, ns.
const FRAME: u64 = 50_000_000;

/// Something that the loop waits for.
enum Event {
    Input(event::Event),
    /// There is no keyboard any more.
    InputLost,
    /// The source has told something.
    Fed,
    /// The source will tell nothing more.
    Ended(anyhow::Result<()>),
    Signal(Asked),
}

/// What a signal asks for.
#[derive(Clone, Copy)]
enum Asked {
    End,
    Stop,
    /// We go on after having been stopped.
    GoOn,
}

/// Shows what `source` tells until the user has had enough.
///
/// # Errors
/// Without a terminal, and when the source has nothing to tell from the start.
pub fn run(setup: Setup, source: impl Source, mouse: bool) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("`top` needs a terminal; for lines of text use `lastbyte watch`");
    }
    let mut state = State::new(setup);
    state.pass(boottime());
    let mut screen = Screen::enter(mouse)?;
    // Before anything is loaded: the user sees at once that something happens.
    screen.draw(&mut state)?;

    let (tell, events) = channel();
    listen(&tell)?;
    let wake = tell.clone();
    let (outbox, inbox, ask, asks) = source::channel(move || {
        let _ = wake.send(Event::Fed);
    });
    thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            let run = AssertUnwindSafe(|| source.run(outbox, asks));
            let ended = panic::catch_unwind(run)
                .unwrap_or_else(|_| Err(anyhow::anyhow!("this is a bug: please report it")));
            let _ = tell.send(Event::Ended(ended));
        })
        .context("starting a thread")?;
    let mut ui = Loop {
        state,
        screen,
        inbox,
        fed: false,
        dirty: true,
        drawn: boottime(),
    };
    loop {
        if let Some(wanted) = ui.state.asks() {
            // A source that has ended knows no more.
            let _ = ask.send(wanted);
        }
        let Some(event) = ui.next(&events)? else {
            continue;
        };
        if ui.take(event)? {
            return Ok(());
        }
    }
}

struct Loop {
    state: State,
    screen: Screen,
    inbox: Inbox,
    /// There is something in the inbox.
    fed: bool,
    /// The screen shows something old.
    dirty: bool,
    /// When it was last drawn.
    drawn: u64,
}

impl Loop {
    /// Draws what is due, and waits for the next event, or until something is due.
    fn next(&mut self, events: &Receiver<Event>) -> anyhow::Result<Option<Event>> {
        let now = boottime();
        let due = self.drawn + FRAME;
        if self.fed && now >= due {
            self.fed = false;
            for feed in self.inbox.take() {
                self.state.feed(feed);
            }
            return Ok(None);
        }
        self.state.pass(now);
        self.dirty |= self.state.changed();
        if self.dirty && now >= due {
            self.screen.draw(&mut self.state)?;
            self.dirty = false;
            self.drawn = now;
            return Ok(None);
        }
        let wake = match self.dirty || self.fed {
            true => Some(due),
            false => self.state.wakes(),
        };
        let event = match wake {
            Some(at) => events.recv_timeout(Duration::from_nanos(at.saturating_sub(now).max(1))),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the terminal is gone"),
        }
    }

    /// Takes in an event; true when it is the end.
    fn take(&mut self, event: Event) -> anyhow::Result<bool> {
        match event {
            Event::Fed => self.fed = true,
            Event::Input(input) => {
                if let Some(effect) = self.input(&input) {
                    return self.does(effect);
                }
            }
            Event::InputLost | Event::Signal(Asked::End) => return Ok(true),
            Event::Signal(Asked::Stop) => return self.does(Effect::Suspend),
            Event::Signal(Asked::GoOn) => {
                self.screen.enter_again()?;
                self.state.touch();
            }
            Event::Ended(Ok(())) => {}
            Event::Ended(Err(error)) => {
                for feed in self.inbox.take() {
                    self.state.feed(feed);
                }
                if self.state.clock.oldest.is_none() {
                    return Err(error);
                }
                // What is known can still be looked at.
                let why = crate::model::Visible::new(format!("{error:#}").as_bytes());
                self.state.feed(Feed::Phase(Phase::Ended(why.to_string())));
            }
        }
        Ok(false)
    }

    fn input(&mut self, input: &event::Event) -> Option<Effect> {
        match input {
            event::Event::Key(key) if key.kind != KeyEventKind::Release => {
                let command = keys::command(*key, self.state.mode(), self.state.place)?;
                return self.state.command(command);
            }
            event::Event::Resize(..) => self.state.touch(),
            event::Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => return self.state.command(Command::Move(-3)),
                MouseEventKind::ScrollDown => return self.state.command(Command::Move(3)),
                MouseEventKind::Down(_) => self.state.point(mouse.row),
                _ => {}
            },
            _ => {}
        }
        None
    }

    /// Does what is to be done outside; true when that is to end.
    fn does(&mut self, effect: Effect) -> anyhow::Result<bool> {
        match effect {
            Effect::Quit => return Ok(true),
            Effect::Redraw => {
                self.screen.clear()?;
                self.state.touch();
            }
            Effect::Suspend => {
                self.screen.leave()?;
                // The whole process, this thread included: it goes on when it is continued.
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::STOP,
                )
                .context("stopping")?;
                self.screen.enter_again()?;
                self.state.touch();
            }
            Effect::Copy(text) => {
                actions::copy(self.screen.terminal.backend_mut(), &text).context(DRAWING)?;
            }
            Effect::Write { name, text } => match actions::write(&name, &text) {
                Ok(path) => self.state.say(format!("written to {}", path.display())),
                Err(error) => self.state.say(format!("not written: {error:#}")),
            },
            Effect::Terminate { pid, start } => match actions::terminate(pid, start) {
                Ok(()) => self.state.say(format!("SIGTERM was sent to pid {pid}")),
                Err(error) => self.state.say(format!("{error:#}")),
            },
        }
        Ok(false)
    }
}

const DRAWING: &str = "writing to the terminal";

/// The terminal as the UI wants it; as it was before when this is dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    theme: Theme,
    mouse: bool,
}

impl Screen {
    fn enter(mouse: bool) -> anyhow::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
        enter(mouse)?;
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(out)).context("the terminal")?;
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            terminal,
            theme: Theme::new(colours),
            mouse,
        })
    }

    fn leave(&mut self) -> anyhow::Result<()> {
        self.terminal.show_cursor().context(DRAWING)?;
        restore();
        Ok(())
    }

    fn enter_again(&mut self) -> anyhow::Result<()> {
        enter(self.mouse)?;
        self.clear()
    }

    /// Forgets what is on the screen. `Terminal::clear` would ask the terminal where its cursor is, and
    /// fail where none answers.
    fn clear(&mut self) -> anyhow::Result<()> {
        let size = self.terminal.size().context("the terminal's size")?;
        self.terminal.resize(size.into()).context(DRAWING)
    }

    fn draw(&mut self, state: &mut State) -> anyhow::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate).context(DRAWING)?;
        let mut drawn = state.drawn;
        self.terminal
            .draw(|frame| drawn = view::draw(frame, state, self.theme))
            .context(DRAWING)?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate).context(DRAWING)?;
        state.drawn(drawn);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whatever fails here fails for want of a terminal.
        let _ = self.terminal.show_cursor();
        restore();
    }
}

fn enter(mouse: bool) -> anyhow::Result<()> {
    enable_raw_mode().context("the terminal")?;
    execute!(io::stdout(), EnterAlternateScreen).context(DRAWING)?;
    if mouse {
        execute!(io::stdout(), EnableMouseCapture).context(DRAWING)?;
    }
    Ok(())
}

/// Gives the terminal back. Each step whether or not the others work.
fn restore() {
    let _ = execute!(io::stdout(), DisableMouseCapture);
    let _ = execute!(
        io::stdout(),
        LeaveAlternateScreen,
        ratatui::crossterm::cursor::Show
    );
    let _ = disable_raw_mode();
}

/// Starts to listen to the keyboard and to signals.
fn listen(tell: &Sender<Event>) -> anyhow::Result<()> {
    let to = tell.clone();
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            while let Ok(input) = event::read() {
                if to.send(Event::Input(input)).is_err() {
                    return;
                }
            }
            let _ = to.send(Event::InputLost);
        })
        .context("starting a thread")?;
    let to = tell.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("listening for signals")?;
    // Made here, so that none is missed from now on.
    let of = |kind, what| signal(kind).with_context(|| format!("listening for {what}"));
    let context = runtime.enter();
    let mut interrupt = of(SignalKind::interrupt(), "SIGINT")?;
    let mut terminate = of(SignalKind::terminate(), "SIGTERM")?;
    let mut hangup = of(SignalKind::hangup(), "SIGHUP")?;
    let mut stop = of(
        SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()),
        "SIGTSTP",
    )?;
    let mut go_on = of(
        SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()),
        "SIGCONT",
    )?;
    drop(context);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    let asked = tokio::select! {
                        _ = interrupt.recv() => Asked::End,
                        _ = terminate.recv() => Asked::End,
                        _ = hangup.recv() => Asked::End,
                        _ = stop.recv() => Asked::Stop,
                        _ = go_on.recv() => Asked::GoOn,
                    };
                    if to.send(Event::Signal(asked)).is_err() {
                        return;
                    }
                }
            });
        })
        .context("starting a thread")?;
    Ok(())
}

/// The clock of the records, ns.
fn boottime() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
