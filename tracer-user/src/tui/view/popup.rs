//! Popups: the keys, the explanation of a session, and questions.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::{Block, BorderType, Clear, Widget as _},
};

use super::{Theme, explain, left, lines, session, text::under};
use crate::{
    model::Visible,
    tui::{
        keys,
        state::{Mode, Popup, State, Target, Viewport},
    },
};

pub fn draw(
    buffer: &mut Buffer,
    area: Rect,
    popup: &Popup,
    state: &State,
    theme: Theme,
) -> Viewport {
    let cells = usize::from(area.width).saturating_sub(8).min(110);
    let (title, text) = match popup {
        Popup::Help => (" keys ", help(state, cells, theme)),
        Popup::Explain => (" explain ", explain::lines(state, cells, theme)),
        Popup::Copy => (" copy ", copy(theme)),
        Popup::Confirm(target) => (" send SIGTERM? ", confirm(target, state, cells, theme)),
    };
    let most = usize::from(area.height).saturating_sub(2);
    let wide = text
        .iter()
        .map(Line::width)
        .max()
        .unwrap_or(0)
        .clamp(24, cells) as u16
        + 4;
    let tall = text.len().min(most) as u16 + 2;
    let window = Rect {
        x: area.x + (area.width.saturating_sub(wide)) / 2,
        y: area.y + (area.height.saturating_sub(tall)) / 2,
        width: wide.min(area.width),
        height: tall.min(area.height),
    };
    Clear.render(window, buffer);
    let more = match text.len() > most {
        true => " ↑ ↓ scroll, Esc close ",
        false => " Esc close ",
    };
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.faint())
        .title(Span::styled(title, theme.heading()))
        .title_bottom(Line::styled(more, theme.faint()).right_aligned());
    let inner = block.inner(window);
    block.render(window, buffer);
    let inner = Rect {
        x: inner.x + 1,
        width: inner.width.saturating_sub(2),
        ..inner
    };
    lines(buffer, inner, &text, state.scroll)
}

fn help(state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    for (name, table) in keys::tables(Mode::Viewing, state.view) {
        if table.is_empty() {
            continue;
        }
        out.push(Line::styled(name, theme.heading()));
        for key in table {
            let label = Span::styled(format!("  {} ", left(key.keys, 10)), theme.key());
            out.extend(under(label, key.does, theme.plain(), cells));
        }
    }
    out
}

fn copy(theme: Theme) -> Vec<Line<'static>> {
    let tables = keys::tables(Mode::Copying, crate::tui::state::View::Sessions);
    let keys = tables.iter().flat_map(|(_, keys)| *keys);
    keys.map(|key| {
        Line::from(vec![
            Span::styled(left(key.keys, 4), theme.key()),
            Span::raw(key.does),
        ])
    })
    .collect()
}

fn confirm(target: &Target, state: &State, cells: usize, theme: Theme) -> Vec<Line<'static>> {
    let Some(holder) = target.holder() else {
        return Vec::new();
    };
    let argv: Vec<&str> = holder.argv.iter().map(Visible::as_str).collect();
    let started = super::time_of_day_in_zone(state, holder.start);
    let age = super::text::age(state.clock.now().saturating_sub(holder.start));
    let mut out = vec![Line::from(vec![
        Span::styled(
            format!("{} pid {}", holder.comm, holder.pid),
            theme.holder(),
        ),
        Span::raw(format!(
            "  started {started}, {age} ago, uid {}",
            holder.uid
        )),
    ])];
    out.extend(under(
        Span::raw("  "),
        &argv.join(" "),
        theme.plain(),
        cells,
    ));
    out.extend(under(
        Span::raw("  "),
        &session::described(holder),
        theme.plain(),
        cells,
    ));
    out.push(Line::default());
    if target.holders.len() > 1 {
        out.push(Line::styled(
            format!(
                "holder {} of {} (↑ ↓ to choose)",
                target.at + 1,
                target.holders.len()
            ),
            theme.faint(),
        ));
    }
    out.push(Line::from(vec![
        Span::styled("y", theme.key()),
        Span::raw(" send SIGTERM if it is still the same process   "),
        Span::styled("any other key", theme.key()),
        Span::raw(" cancel"),
    ]));
    out
}
