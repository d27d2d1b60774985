//! The event loop and the terminal: waits for keys, the source, signals and time, and draws.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stdout},
    mem::ManuallyDrop,
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
        event::{
            self, DisableMouseCapture, EnableMouseCapture, KeyCode, KeyEvent, KeyEventKind,
            KeyModifiers, MouseEventKind,
        },
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
    keys::{Command, Press},
    source::{self, Inbox, Source},
    state::{Effect, Setup, State},
    view::{self, Theme},
};
use crate::tui::feed::{Feed, Phase};

/// Minimum time between two frames, ns: at most 20 frames a second.
const FRAME: u64 = 50_000_000;

/// What the loop waits for.
enum Event {
    Input(event::Event),
    /// The terminal is gone.
    InputLost,
    /// The inbox has messages.
    Inbox,
    /// The source has ended.
    SourceEnded(anyhow::Result<()>),
    Signal(JobSignal),
}

/// What a signal means.
#[derive(Clone, Copy)]
enum JobSignal {
    Quit,
    Stop,
    Continue,
}

/// Runs the UI until the user quits.
///
/// # Errors
/// Without a terminal, and if the source fails before it has sent anything.
pub fn run(setup: Setup, source: impl Source, mouse: bool) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("`top` needs a terminal; for lines of text use `lastbyte watch`");
    }
    let mut state = State::new(setup);
    state.advance(boottime());
    let mut screen = Screen::enter(mouse)?;
    // Drawn before anything is loaded, so that the user sees at once that the program runs.
    screen.draw(&mut state)?;

    let (events_in, events) = channel();
    listen(&events_in)?;
    let wake = events_in.clone();
    let (outbox, inbox, request, requests) = source::channel(move || {
        let _ = wake.send(Event::Inbox);
    });
    thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            let run = AssertUnwindSafe(|| source.run(outbox, requests));
            let ended = panic::catch_unwind(run)
                .unwrap_or_else(|_| Err(anyhow::anyhow!("this is a bug: please report it")));
            let _ = events_in.send(Event::SourceEnded(ended));
        })
        .context("cannot start a thread")?;
    let mut ui = Loop {
        state,
        screen,
        inbox,
        inbox_ready: false,
        dirty: true,
        drawn_at: boottime(),
    };
    loop {
        if let Some(wanted) = ui.state.take_request() {
            // Fails only once the source has ended, and then there is nothing to request.
            let _ = request.send(wanted);
        }
        let quit = match ui.next(&events) {
            Ok(Some(event)) => ui.handle(event),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        match quit {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            // The window was closed: nobody is left to read why.
            Err(error) if is_terminal_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error says that the other end of the terminal has gone.
fn is_terminal_gone(error: &anyhow::Error) -> bool {
    let code = error.chain().find_map(|cause| {
        let error: &io::Error = cause.downcast_ref()?;
        error.raw_os_error()
    });
    code == Some(rustix::io::Errno::IO.raw_os_error())
}

struct Loop {
    state: State,
    screen: Screen,
    inbox: Inbox,
    /// The inbox has messages.
    inbox_ready: bool,
    /// The screen is out of date.
    dirty: bool,
    /// When the last frame was drawn, ns of `CLOCK_BOOTTIME`.
    drawn_at: u64,
}

impl Loop {
    /// Draws a frame if one is due, or waits for the next event or for the next frame.
    fn next(&mut self, events: &Receiver<Event>) -> anyhow::Result<Option<Event>> {
        let now = boottime();
        let due = self.drawn_at + FRAME;
        if self.inbox_ready && now >= due {
            self.inbox_ready = false;
            for feed in self.inbox.drain() {
                self.state.feed(feed);
            }
            return Ok(None);
        }
        self.state.advance(now);
        self.dirty |= self.state.take_changed();
        if self.dirty && now >= due {
            self.screen.draw(&mut self.state)?;
            self.dirty = false;
            self.drawn_at = now;
            return Ok(None);
        }
        let wake = match self.dirty || self.inbox_ready {
            true => Some(due),
            false => self.state.next_wake(),
        };
        let event = match wake {
            Some(at) => events.recv_timeout(Duration::from_nanos(at.saturating_sub(now).max(1))),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the terminal was closed"),
        }
    }

    /// Handles an event. True means quit.
    fn handle(&mut self, event: Event) -> anyhow::Result<bool> {
        match event {
            Event::Inbox => self.inbox_ready = true,
            Event::Input(input) => {
                if let Some(effect) = self.input(&input) {
                    return self.perform(effect);
                }
            }
            Event::InputLost | Event::Signal(JobSignal::Quit) => return Ok(true),
            Event::Signal(JobSignal::Stop) => return self.perform(Effect::Suspend),
            Event::Signal(JobSignal::Continue) => {
                self.screen.reenter()?;
                self.state.request_redraw();
            }
            Event::SourceEnded(Ok(())) => {}
            Event::SourceEnded(Err(error)) => {
                for feed in self.inbox.drain() {
                    self.state.feed(feed);
                }
                if self.state.clock.oldest.is_none() {
                    return Err(error);
                }
                // What has been received can still be looked at.
                let why = crate::model::Visible::new(format!("{error:#}").as_bytes());
                self.state.feed(Feed::Phase(Phase::Ended(why.to_string())));
            }
        }
        Ok(false)
    }

    fn input(&mut self, input: &event::Event) -> Option<Effect> {
        match input {
            event::Event::Key(key) if key.kind != KeyEventKind::Release => {
                let command = keys::command(press(key)?, self.state.mode(), self.state.view)?;
                return self.state.command(command);
            }
            event::Event::Resize(..) => self.state.request_redraw(),
            event::Event::Mouse(mouse) => match mouse.kind {
                MouseEventKind::ScrollUp => return self.state.command(Command::Move(-3)),
                MouseEventKind::ScrollDown => return self.state.command(Command::Move(3)),
                MouseEventKind::Down(_) => self.state.click(mouse.row),
                _ => {}
            },
            _ => {}
        }
        None
    }

    /// Performs an effect. True means quit.
    fn perform(&mut self, effect: Effect) -> anyhow::Result<bool> {
        match effect {
            Effect::Quit => return Ok(true),
            Effect::Redraw => {
                self.screen.clear()?;
                self.state.request_redraw();
            }
            Effect::Suspend => {
                self.screen.leave()?;
                // Stops the whole process; this thread resumes here after SIGCONT.
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::STOP,
                )
                .context("cannot stop")?;
                self.screen.reenter()?;
                self.state.request_redraw();
            }
            Effect::Copy(text) => {
                actions::copy(self.screen.terminal.backend_mut(), &text).context(DRAWING)?;
            }
            Effect::Write { name, text } => match actions::write(&name, &text) {
                Ok(path) => self.state.notify(format!("written to {}", path.display())),
                Err(error) => self.state.notify(format!("not written: {error:#}")),
            },
            Effect::Terminate { pid, start } => match actions::terminate(pid, start) {
                Ok(()) => self.state.notify(format!("sent SIGTERM to pid {pid}")),
                Err(error) => self.state.notify(format!("{error:#}")),
            },
        }
        Ok(false)
    }
}

/// The key that crossterm reports, if it can be bound.
fn press(key: &KeyEvent) -> Option<Press> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char(c) if control => Press::Control(c),
        _ if control => return None,
        KeyCode::Char(c) => Press::Char(c),
        KeyCode::Enter => Press::Enter,
        KeyCode::Esc => Press::Esc,
        KeyCode::Backspace => Press::Backspace,
        KeyCode::Tab => Press::Tab,
        KeyCode::BackTab => Press::BackTab,
        KeyCode::Up => Press::Up,
        KeyCode::Down => Press::Down,
        KeyCode::Left => Press::Left,
        KeyCode::Right => Press::Right,
        KeyCode::PageUp => Press::PageUp,
        KeyCode::PageDown => Press::PageDown,
        KeyCode::Home => Press::Home,
        KeyCode::End => Press::End,
        KeyCode::F(number) => Press::Function(number),
        _ => return None,
    })
}

const DRAWING: &str = "cannot write to the terminal";

/// The terminal in raw mode on the alternate screen. Dropping it restores the terminal.
struct Screen {
    /// Never dropped: it would complain on stderr about a terminal that has gone.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<BufWriter<Stdout>>>>,
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
        let terminal =
            Terminal::new(CrosstermBackend::new(out)).context("cannot set up the terminal")?;
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            terminal: ManuallyDrop::new(terminal),
            theme: Theme::new(colours),
            mouse,
        })
    }

    fn leave(&mut self) -> anyhow::Result<()> {
        self.terminal.show_cursor().context(DRAWING)?;
        restore();
        Ok(())
    }

    fn reenter(&mut self) -> anyhow::Result<()> {
        enter(self.mouse)?;
        self.clear()
    }

    /// Draws everything again with the next frame. `Terminal::clear` would query the cursor position,
    /// which fails on terminals that do not answer.
    fn clear(&mut self) -> anyhow::Result<()> {
        let size = self
            .terminal
            .size()
            .context("cannot read the terminal's size")?;
        self.terminal.resize(size.into()).context(DRAWING)
    }

    fn draw(&mut self, state: &mut State) -> anyhow::Result<()> {
        queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate).context(DRAWING)?;
        let mut viewport = state.viewport;
        self.terminal
            .draw(|frame| viewport = view::draw(frame, state, self.theme))
            .context(DRAWING)?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate).context(DRAWING)?;
        state.set_viewport(viewport);
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
    enable_raw_mode().context("cannot set up the terminal")?;
    execute!(io::stdout(), EnterAlternateScreen).context(DRAWING)?;
    if mouse {
        execute!(io::stdout(), EnableMouseCapture).context(DRAWING)?;
    }
    Ok(())
}

/// Restores the terminal. Every step is tried even if another fails.
fn restore() {
    let _ = execute!(io::stdout(), DisableMouseCapture);
    let _ = execute!(
        io::stdout(),
        LeaveAlternateScreen,
        ratatui::crossterm::cursor::Show
    );
    let _ = disable_raw_mode();
}

/// Starts the threads that read the keyboard and receive signals.
fn listen(events: &Sender<Event>) -> anyhow::Result<()> {
    let to = events.clone();
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
        .context("cannot start a thread")?;
    let to = events.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot receive signals")?;
    // Registered before the thread starts, so that no signal is missed.
    let of = |kind, what| signal(kind).with_context(|| format!("cannot receive {what}"));
    let context = runtime.enter();
    let mut interrupt = of(SignalKind::interrupt(), "SIGINT")?;
    let mut terminate = of(SignalKind::terminate(), "SIGTERM")?;
    let mut hangup = of(SignalKind::hangup(), "SIGHUP")?;
    let mut stop = of(
        SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()),
        "SIGTSTP",
    )?;
    let mut resume = of(
        SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()),
        "SIGCONT",
    )?;
    drop(context);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    let signal = tokio::select! {
                        _ = interrupt.recv() => JobSignal::Quit,
                        _ = terminate.recv() => JobSignal::Quit,
                        _ = hangup.recv() => JobSignal::Quit,
                        _ = stop.recv() => JobSignal::Stop,
                        _ = resume.recv() => JobSignal::Continue,
                    };
                    if to.send(Event::Signal(signal)).is_err() {
                        return;
                    }
                }
            });
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// The clock of the records: `CLOCK_BOOTTIME`, ns.
fn boottime() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
