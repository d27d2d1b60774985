//! `cargo xtask screenshot`: pictures of the terminal UI for the README. The real binary replays a
//! recording of real sessions on a pty, a terminal emulator reads the screen, and that becomes an SVG.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    num::NonZero,
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{build, paths, sh};

const COLUMNS: u16 = 120;
const ROWS: u16 = 36;
/// How long the program may take to show what is wanted.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must come for the screen to be complete.
const REST: Duration = Duration::from_millis(700);

#[derive(clap::Args)]
pub struct Args {
    /// A lastbyte that is built already
    #[arg(long, value_name = "FILE")]
    lastbyte: Option<std::path::PathBuf>,
}

pub fn main(args: &Args) -> Result<()> {
    let lastbyte = match &args.lastbyte {
        Some(path) => path.clone(),
        None => build::release()?,
    };
    let user = paths::workspace().join("tracer-user");
    let recording = user.join("tests/golden/demo.rec");
    let folder = user.join("docs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut screen = Screen::replay(&lastbyte, &recording)?;
    // To the moment at which most is to be seen.
    for _ in 0..20 {
        screen.keys("n")?;
        screen.rests();
        let text = screen.text();
        if text.contains("1 orphaned") && text.contains("1 truncated") {
            break;
        }
    }
    screen.shows("1 truncated")?;
    screen.keys("g")?;
    screen.shows("still holds")?;
    screen.rests();
    screen.save(&folder.join("sessions.svg"))?;
    screen.keys("3")?;
    screen.rests();
    screen.save(&folder.join("findings.svg"))?;
    screen.keys("1\r")?;
    screen.shows("── history ─")?;
    screen.rests();
    screen.save(&folder.join("session.svg"))
}

/// The program on a pty, and what it shows.
struct Screen {
    child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    terminal: vt100::Parser,
}

impl Screen {
    fn replay(lastbyte: &Path, recording: &Path) -> Result<Self> {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no pty")?;
        grantpt(&keyboard).context("no pty")?;
        unlockpt(&keyboard).context("no pty")?;
        let name = ptsname(&keyboard, Vec::new()).context("no pty")?;
        let program = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .context("the pty's other end")?;
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&program, size).context("the pty's size")?;
        let mut command = sh::cmd(lastbyte);
        command
            .args(["top", "--paused", "--replay"])
            .arg(recording)
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(program.try_clone()?))
            .stdout(Stdio::from(program.try_clone()?))
            .stderr(Stdio::from(program));
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", sh::shown(&command)))?;
        let keyboard = File::from(keyboard);
        let mut reader = keyboard.try_clone()?;
        let (tell, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(len) = reader.read(&mut buffer) {
                if len == 0 || tell.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        let cells = |n| NonZero::new(n).context("a screen without cells");
        let mut screen = Self {
            child,
            keyboard,
            output,
            terminal: vt100::Parser::new(cells(ROWS)?, cells(COLUMNS)?, 0),
        };
        screen.shows("paused")?;
        Ok(screen)
    }

    fn keys(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("typing")
    }

    fn text(&self) -> String {
        self.terminal.screen().contents()
    }

    fn shows(&mut self, text: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.text().contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.terminal.process(&bytes),
                Err(_) => bail!("`{text}` is never shown:\n{}", self.text()),
            }
        }
        Ok(())
    }

    fn rests(&mut self) {
        while let Ok(bytes) = self.output.recv_timeout(REST) {
            self.terminal.process(&bytes);
        }
    }

    fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, svg(self.terminal.screen()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d5d9e0";
/// Size of a cell, and of the frame around all, in pixels.
const CELL: (f64, f64) = (8.4, 18.0);
const FRAME: f64 = 12.0;

/// Cells next to each other that look the same.
#[derive(PartialEq)]
struct Look {
    front: String,
    back: Option<String>,
    bold: bool,
    underline: bool,
}

fn svg(screen: &vt100::Screen) -> String {
    let (width, height) = (
        f64::from(COLUMNS) * CELL.0 + 2.0 * FRAME,
        f64::from(ROWS) * CELL.1 + 2.0 * FRAME,
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', Menlo, monospace\" \
         font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for row in 0..ROWS {
        let mut column = 0;
        while column < COLUMNS {
            let from = column;
            let look = look(screen, row, column);
            let mut text = String::new();
            while column < COLUMNS && self::look(screen, row, column) == look {
                let cell = screen.cell(row, column);
                let contents = cell.map(vt100::Cell::contents).unwrap_or_default();
                let wide = cell.is_some_and(vt100::Cell::is_wide);
                text.push_str(if contents.is_empty() { " " } else { contents });
                column += if wide { 2 } else { 1 };
            }
            run(&mut out, row, from, column - from, &look, &text);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Writes cells that look the same.
fn run(out: &mut String, row: u16, column: u16, cells: u16, look: &Look, text: &str) {
    let (x, y) = (
        FRAME + f64::from(column) * CELL.0,
        FRAME + f64::from(row) * CELL.1,
    );
    let wide = f64::from(cells) * CELL.0;
    if let Some(back) = &look.back {
        let height = CELL.1;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{height}\" fill=\"{back}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if look.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let under = if look.underline {
        " text-decoration=\"underline\""
    } else {
        ""
    };
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{wide:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
         fill=\"{}\"{weight}{under} xml:space=\"preserve\">{text}</text>",
        y + CELL.1 * 0.75,
        look.front,
    );
}

fn look(screen: &vt100::Screen, row: u16, column: u16) -> Look {
    let Some(cell) = screen.cell(row, column) else {
        return Look {
            front: FOREGROUND.to_owned(),
            back: None,
            bold: false,
            underline: false,
        };
    };
    let front = colour(cell.fgcolor()).unwrap_or_else(|| FOREGROUND.to_owned());
    let back = colour(cell.bgcolor());
    let (front, back) = match cell.inverse() {
        true => (back.unwrap_or_else(|| BACKGROUND.to_owned()), Some(front)),
        false => (front, back),
    };
    Look {
        front,
        back,
        bold: cell.bold(),
        underline: cell.underline(),
    }
}

/// The colour cube and the greys of xterm's 256 colours; of the first 16 the UI uses none.
fn colour(colour: vt100::Color) -> Option<String> {
    let step = |n: u8| [0, 95, 135, 175, 215, 255][usize::from(n)];
    Some(match colour {
        vt100::Color::Default | vt100::Color::Idx(0..16) => return None,
        vt100::Color::Idx(index @ 16..232) => {
            let n = index - 16;
            let (r, g, b) = (step(n / 36), step(n / 6 % 6), step(n % 6));
            format!("#{r:02x}{g:02x}{b:02x}")
        }
        vt100::Color::Idx(index) => format!("#{0:02x}{0:02x}{0:02x}", 8 + 10 * (index - 232)),
        vt100::Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    })
}
