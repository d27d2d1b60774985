//! A line for each process, for each holder from outside the session, and for the server.

use ratatui::text::Line;

use super::chart::Chart;
use crate::model::{
    ExitStatus, Slot, Visible,
    message::ended,
    timeline::{Life, Stage, Timeline},
};

/// Maximum indentation of a process below its parent.
const MAX_DEPTH: usize = 6;

impl Chart {
    pub(super) fn life(&self, line: &Timeline, depth: usize, life: &Life) -> Line<'static> {
        let theme = self.theme;
        let indent = match depth {
            0 => " ".to_owned(),
            _ => format!(" {}└ ", "  ".repeat(depth.min(MAX_DEPTH) - 1)),
        };
        let name = match life.name().as_str() {
            "" => "?",
            name => name,
        };
        let label = format!("{indent}{name} {}", life.pid);
        let mut cells = self.empty();
        let ended = life.ended.filter(|ended| *ended <= self.now);
        let end = ended.unwrap_or(self.now);
        let executed = life
            .programs
            .first()
            .map_or(end, |program| program.time)
            .min(end);
        self.stroke(&mut cells, life.began, executed, '╍', theme.faint());
        self.stroke(&mut cells, executed, end, '━', theme.process());
        for program in life.programs.iter().skip(1).filter(|it| it.time <= end) {
            if let Some(column) = self.column(program.time) {
                cells.set(column, '┿', theme.process());
            }
        }
        let holds = line.holds.iter().filter(|hold| {
            (hold.holder.pid, hold.holder.start) == (life.pid, life.start) && hold.began <= self.now
        });
        let mut held: Vec<Slot> = Vec::new();
        for hold in holds {
            // It held them since the exit; the finding came later because of the grace period.
            let from = line.session.exited.unwrap_or(hold.began).max(life.began);
            let to = hold
                .ended
                .filter(|ended| *ended <= self.now)
                .unwrap_or(self.now);
            self.stroke(&mut cells, from, to.min(end), '█', theme.holder());
            held.extend(&hold.streams);
        }
        held.sort_unstable();
        held.dedup();
        let mut after = String::new();
        if let Some(ended) = ended
            && let Some(column) = self.column(ended)
        {
            let good = life.exit.is_none_or(|exit| exit == ExitStatus::Code(0));
            cells.set(
                column,
                if good { '┫' } else { '✗' },
                if good { theme.process() } else { theme.bad() },
            );
            if !good {
                after = life.exit.map(short).unwrap_or_default();
            }
        }
        let words = [
            after,
            names(&held),
            life.argv()
                .iter()
                .map(Visible::as_str)
                .collect::<Vec<_>>()
                .join(" "),
        ];
        let text = words
            .iter()
            .filter(|it| !it.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("  ");
        self.beside(&mut cells, life.began, end, &text);
        let style = if held.is_empty() {
            theme.plain()
        } else {
            theme.holder()
        };
        self.finish(&label, style, cells)
    }

    /// Holders that are not processes of the session.
    pub(super) fn outside_holders(&self, line: &Timeline) -> Vec<Line<'static>> {
        let is_member = |pid, start| {
            line.processes
                .iter()
                .any(|life| (life.pid, life.start) == (pid, start))
        };
        let holds = line.holds.iter().filter(|hold| {
            !is_member(hold.holder.pid, hold.holder.start) && hold.began <= self.now
        });
        holds
            .map(|hold| {
                let mut cells = self.empty();
                let to = hold
                    .ended
                    .filter(|ended| *ended <= self.now)
                    .unwrap_or(self.now);
                self.stroke(&mut cells, hold.began, to, '█', self.theme.holder());
                let text = format!("{}  not part of this session", names(&hold.streams));
                self.beside(&mut cells, hold.began, to, &text);
                let label = format!(" ▲ {} {}", hold.holder.comm, hold.holder.pid);
                self.finish(&label, self.theme.holder(), cells)
            })
            .collect()
    }

    /// The server: signals it received, and the end of the connection.
    pub(super) fn server(&self, line: &Timeline) -> Line<'static> {
        let mut cells = self.empty();
        let theme = self.theme;
        for change in line.connection.iter().filter(|it| it.time <= self.now) {
            self.put(
                &mut cells,
                change.time,
                if change.error == 0 { 'F' } else { '!' },
                theme.warning(),
            );
        }
        for news in line.news.iter().filter(|it| it.time <= self.now) {
            let sign = match news.stage {
                Stage::Generated => 's',
                Stage::Delivered => 'S',
                Stage::Reaped => 'R',
            };
            self.put(&mut cells, news.time, sign, theme.bold());
        }
        for signal in line
            .signals
            .iter()
            .filter(|it| it.to_server && it.time <= self.now)
        {
            self.put(&mut cells, signal.time, 'K', theme.bad());
        }
        if let Some(exit) = line.server_exit.filter(|it| it.time <= self.now) {
            self.put(&mut cells, exit.time, '┫', theme.bold());
        }
        let view = &line.session;
        let name = if view.server_exe.is_empty() {
            "server"
        } else {
            &view.server_exe
        };
        self.finish(
            &format!(" {name} {}", view.server_pid),
            theme.plain(),
            cells,
        )
    }
}

fn names(slots: &[Slot]) -> String {
    match slots {
        [] => String::new(),
        _ => {
            let names: Vec<_> = slots.iter().map(|slot| slot.name()).collect();
            format!("holds {}", names.join(", "))
        }
    }
}

fn short(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => format!("exit {code}"),
        ExitStatus::Signal(_) => ended(exit).trim_start_matches("was killed by ").to_owned(),
    }
}
