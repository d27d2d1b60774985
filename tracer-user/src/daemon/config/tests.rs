use std::path::Path;

use super::*;

fn mistakes(text: &str) -> Vec<String> {
    match Config::parse(text, "f") {
        Err(ConfigError::Wrong(mistakes)) => mistakes,
        other => panic!("{text}: {other:?}"),
    }
}

/// The default text with every key that it comments out.
fn uncommented(text: &str) -> String {
    let key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    text.lines()
        .map(|line| format!("{}\n", if key(line) { &line[1..] } else { line }))
        .collect()
}

#[test]
fn the_default_file_changes_nothing() {
    let text = Config::default_text();
    assert_eq!(Config::parse(&text, "f").unwrap(), Config::default());
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
}

#[test]
fn the_packaged_file_is_the_default_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/lastbyte.toml");
    let packaged = fs::read_to_string(file).unwrap();
    assert_eq!(
        packaged,
        Config::default_text(),
        "lastbyte config default >dist/lastbyte.toml"
    );
}

#[test]
fn the_default_file_shows_each_key_with_its_default() {
    let text = Config::default_text();
    let (settings, hook) = text.split_once("#[[hook]]").expect("a hook");
    assert_eq!(
        Config::parse(&uncommented(settings), "f").unwrap(),
        Config::default()
    );
    for key in SETTINGS {
        assert!(
            settings.contains(&format!("\n#{} = ", key.name())),
            "{}",
            key.full
        );
    }
    for key in HOOK {
        assert!(
            hook.contains(&format!("\n#{} = ", key.name())),
            "{}",
            key.full
        );
    }
    // Either a command or a URL.
    let hook = uncommented(hook).replace("\nurl = ", "\n#url = ");
    let config = Config::parse(&format!("[[hook]]\n{hook}"), "f").unwrap();
    assert_eq!(config.hooks.len(), 1);
}

#[test]
fn the_readme_has_each_key() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let default = Config::default();
    for key in SETTINGS {
        let restart = if key.restart { "restart" } else { "reload" };
        let row = format!(
            "| `{}` | `{}` | {restart} |",
            key.full,
            (key.show)(&default)
        );
        assert!(readme.contains(&row), "not in the README: {row}");
    }
    for key in HOOK {
        assert!(
            readme.contains(&format!("`{}`", key.name())),
            "{}",
            key.full
        );
    }
}

#[test]
fn what_is_written_is_read_back() {
    let text = r#"
        log = "debug"
        [tracing]
        servers = ["/opt/my sshd", "x"]
        backend = "syscall"
        grace = "1500ms"
        ring_bytes = 4096
        [store]
        max_bytes = "3 MiB"
        [privacy]
        capture_argv = "comm"
        mask = ['a"b(\d+)']
        [[hook]]
        command = ["/bin/x", "a b"]
        kinds = ["near_miss"]
        rate = "1/2h"
        [[hook]]
        url = "https://h:1/p?q"
        states = ["open", "resolved"]
        min_bytes = 5
    "#;
    let config = Config::parse(text, "f").unwrap();
    assert_eq!(config.tracing.ring_bytes, 4096);
    assert_eq!(config.tracing.grace, Duration::from_millis(1500));
    assert_eq!(config.hooks[0].rate.per, Duration::from_hours(2));
    assert_eq!(Config::parse(&config.text(), "f").unwrap(), config);
    assert_eq!(
        Config::parse(&Config::default().text(), "f").unwrap(),
        Config::default()
    );
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_may_be_meant() {
    for (text, expected) in [
        (
            "\n[tracing]\ngracee = 1",
            "f:3: unknown key `gracee`; did you mean `grace`?",
        ),
        (
            "[tracin]",
            "f:1: unknown section [tracin]; did you mean [tracing]?",
        ),
        (
            "[tracing]\nzz = 1",
            "f:2: unknown key `zz`; valid are `servers`, `backend`, `grace`, `stall_after`, `ring_bytes`, `pins`",
        ),
        ("grace = \"1s\"", "f:1: `grace` belongs in [tracing]"),
        (
            "[tracing]\nuser = \"x\"",
            "f:2: `user` belongs before the first section",
        ),
        (
            "tracing = 1",
            "f:1: `tracing` is a section: write [tracing]",
        ),
        ("[hook]", "f:1: a hook is written [[hook]]"),
        (
            "[[hook]]\ntimeout = \"1s\"",
            "f:1: this hook does nothing: it needs a command or a url",
        ),
        (
            "[tracing]\ngrace = \"soon\"",
            "f:2: tracing.grace: expected a time such as \"500ms\", \"1m30s\" or \"30d\"; found \"soon\"",
        ),
        (
            "[tracing]\n\nring_bytes = 5000",
            "f:3: tracing.ring_bytes: expected a power of two from 4 KiB, such as \"8 MiB\"; found 5000",
        ),
        (
            "[socket]\nallow_own = \"yes\"",
            "f:2: socket.allow_own: expected true or false; found \"yes\"",
        ),
        (
            "[privacy]\nmask = [\"(\"]",
            "f:2: privacy.mask: expected a list of regular expressions; invalid regular expression `(`: unclosed group",
        ),
        (
            "[[hook]]\ncommand = [\"page\"]",
            "f:2: hook.command: expected a list of strings, the first of which is an absolute path; found another list",
        ),
        (
            "[[hook]]\nurl = \"ftp://x\"",
            "f:2: hook.url: expected a URL that begins with http:// or https://; found \"ftp://x\"",
        ),
        (
            "[[hook]]\nkinds = [\"trunkated\"]",
            "f:2: hook.kinds: expected a list of \"truncated\", \"orphaned\", \"stalled\", \"waiting\", \"near_miss\"; found \"trunkated\"",
        ),
        (
            "[[hook]]\nrate = \"0/1m\"",
            "f:2: hook.rate: expected a number and a time such as \"10/1m\"; found \"0/1m\"",
        ),
    ] {
        assert_eq!(mistakes(text), [expected], "{text}");
    }
    let both = mistakes("[[hook]]\ncommand = [\"/x\"]\nurl = \"http://x\"");
    assert_eq!(both.len(), 1);
    assert!(both[0].contains("a command or a url, not both"), "{both:?}");
    let syntax = mistakes("user = \"x\nlog = 1");
    assert!(syntax[0].starts_with("f:1: "), "{syntax:?}");
}

#[test]
fn all_mistakes_are_told_in_order() {
    let told = mistakes("log = \"loud\"\n[store]\nmax_age = 1\nmax_byte = 1\n");
    let lines: Vec<&str> = told.iter().map(|mistake| &mistake[..4]).collect();
    assert_eq!(lines, ["f:1:", "f:3:", "f:4:"], "{told:?}");
}

#[test]
fn only_some_settings_need_a_restart() {
    let old = Config::default();
    let mut new = old.clone();
    new.log = LevelFilter::Debug;
    new.store.max_age = Duration::ZERO;
    new.privacy.mask = vec!["x".to_owned()];
    new.hooks = Config::parse("[[hook]]\nurl = \"http://x\"", "f")
        .unwrap()
        .hooks;
    assert!(old.changed_only_by_restart(&new).is_empty());
    new.tracing.grace = Duration::ZERO;
    new.socket.path = "/x".into();
    assert_eq!(
        old.changed_only_by_restart(&new),
        ["tracing.grace", "socket.path"]
    );
}

#[test]
fn only_the_default_file_may_be_absent() {
    let absent = Path::new("/nonexistent/lastbyte.toml");
    let error = Config::load(Some(absent)).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/lastbyte.toml"));
}
