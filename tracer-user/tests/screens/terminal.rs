//! Runs a program on a pty, with a terminal emulator that reads its output.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

/// How long anything may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub struct Terminal {
    child: Child,
    ours: File,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    /// Everything that was written.
    pub written: Vec<u8>,
    before: Termios,
}

impl Terminal {
    /// Runs `lastbyte` with these arguments on a terminal of that size.
    pub fn lastbyte(args: &[&str], size: (u16, u16)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastbyte"));
        command
            .args(args)
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .env("TZ", "UTC");
        Self::run(&command, size)
    }

    /// Runs a command as the terminal's foreground job.
    pub fn run(command: &Command, (columns, rows): (u16, u16)) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        grantpt(&ours).expect("grantpt");
        unlockpt(&ours).expect("unlockpt");
        let name = ptsname(&ours, Vec::new()).expect("ptsname");
        let theirs = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .expect("the pty's other end");
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&theirs, size).expect("a window size");
        let before = tcgetattr(&theirs).expect("the terminal's settings");
        // The pty is its controlling terminal, so that a resize sends SIGWINCH.
        let mut job = Command::new("setsid");
        job.arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => job.env(name, value),
                None => job.env_remove(name),
            };
        }
        let end = || Stdio::from(theirs.try_clone().expect("a copy of the pty"));
        let child = job
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid (util-linux) runs");
        drop(job);
        drop(theirs);
        let ours = File::from(ours);
        let mut reader = ours.try_clone().expect("a copy of the pty");
        let (tell, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while let Ok(len) = reader.read(&mut buffer) {
                if len == 0 || tell.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            ours,
            output,
            screen: vt100::Parser::new(cells(rows), cells(columns), 0),
            written: Vec::new(),
            before,
        }
    }

    /// Types.
    pub fn keys(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("typing");
    }

    /// The text on the screen, without blanks at the ends of lines.
    pub fn text(&self) -> String {
        let lines = self.screen.screen().contents();
        let mut text: String = lines
            .lines()
            .flat_map(|line| [line.trim_end(), "\n"])
            .collect();
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// Reads until the screen is as wanted.
    #[track_caller]
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !wanted(self) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.took(&bytes),
                Err(_) => panic!("never came: {what}\n{}", self.text()),
            }
        }
    }

    /// Reads until the screen shows a text.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        self.until(text, |it| it.text().contains(text));
    }

    /// Reads until there is no output for a while.
    pub fn rests(&mut self) {
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(1)) {
            self.took(&bytes);
        }
    }

    /// Reads for a time.
    pub fn for_a_while(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.took(&bytes),
                Err(_) => return,
            }
        }
    }

    /// The program's pid.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn took(&mut self, bytes: &[u8]) {
        self.screen.process(bytes);
        self.written.extend_from_slice(bytes);
    }

    /// Whether the program uses the alternate screen.
    pub fn is_taken(&self) -> bool {
        self.screen.screen().alternate_screen()
    }

    /// Changes the size of the terminal.
    pub fn resize(&mut self, (columns, rows): (u16, u16)) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        self.screen
            .screen_mut()
            .set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.ours, size).expect("a window size");
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the program is there");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The program's state, a letter as in proc_pid_stat(5).
    pub fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("the program is there");
        let after = stat.rsplit_once(") ").map(|(_, after)| after);
        after
            .and_then(|after| after.chars().next())
            .expect("a state")
    }

    /// Waits for the program to end, and checks that it restored the terminal. Returns the exit status and
    /// the screen.
    #[track_caller]
    pub fn ends(mut self) -> (Option<i32>, String) {
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.took(&bytes),
                // All copies of the other end are closed.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end\n{}", self.text()),
            }
        }
        let status = self.child.wait().expect("the program ends");
        let after = tcgetattr(&self.ours).expect("the terminal's settings");
        assert_eq!(
            (after.local_modes, after.input_modes, after.output_modes),
            (
                self.before.local_modes,
                self.before.input_modes,
                self.before.output_modes
            ),
            "the terminal's settings are as they were"
        );
        assert!(!self.is_taken(), "it is back on the terminal's own screen");
        assert!(!self.screen.screen().hide_cursor(), "the cursor is back");
        (status.code(), self.text())
    }
}

/// Runs `lastbyte` on a terminal of its own, but for its stderr; gives the only copy of our end, which the
/// child does not have.
pub fn spawn(args: &[&str], stderr: Stdio) -> (Child, File) {
    let ours =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
    grantpt(&ours).expect("grantpt");
    unlockpt(&ours).expect("unlockpt");
    let name = ptsname(&ours, Vec::new()).expect("ptsname");
    let theirs = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
        .expect("the pty's other end");
    let child = Command::new("setsid")
        .args(["--ctty", env!("CARGO_BIN_EXE_lastbyte")])
        .args(args)
        .stdin(theirs.try_clone().expect("a copy of the pty"))
        .stdout(theirs)
        .stderr(stderr)
        .spawn()
        .expect("setsid (util-linux) runs");
    (child, File::from(ours))
}

fn cells(of: u16) -> NonZero<u16> {
    NonZero::new(of).expect("a screen has cells")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
