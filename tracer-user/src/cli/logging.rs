//! Where messages go: stderr, with times for people, or with priorities for the journal.

use std::{env, io::Write as _};

use log::{Level, LevelFilter};

/// Begins to log. How much is a matter of [`log::set_max_level`].
pub fn begin(verbose: bool) {
    let mut builder = env_logger::Builder::new();
    builder
        // What others say matters only when it is bad; the loader tells of every instruction.
        .filter_level(LevelFilter::Warn)
        .filter_module("lastbyte", LevelFilter::Trace);
    // Set where stderr is the journal's (systemd.exec(5)), which has its own times.
    if env::var_os("JOURNAL_STREAM").is_some() {
        builder
            .format(|out, record| writeln!(out, "<{}>{}", priority(record.level()), record.args()));
    }
    builder.init();
    log::set_max_level(match verbose {
        true => LevelFilter::Debug,
        false => LevelFilter::Warn,
    });
}

/// As of syslog(3), sd-daemon(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
