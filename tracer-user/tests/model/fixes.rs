//! What a person pastes: it parses, it says what it means, and it holds no secret.

use std::process::{Command, Stdio};

use lastbyte::model::{Fix, Kind};
use proptest::prelude::*;

use crate::scenario::{Scenario, empty, id, proc};

const OUTPUTS: &[(u32, u32)] = &[(1, 1), (2, 2)];

/// The fix for a job that was started with these programs, one executing the next, and that keeps these
/// descriptors of the session.
fn fix_of(programs: &[&[&str]], fds: &'static [(u32, u32)]) -> Fix {
    let mut scenario = Scenario::exact();
    scenario.runs(5000, "job &").fork(5000, 5000, 5001, "bash");
    for argv in programs {
        scenario.exec(5000, 5001, 5000, argv);
    }
    scenario.after(5).leader_exits(5000, 0, empty());
    scenario.run(1500, |scenario| {
        scenario.server_holds(5000).holds(5000, 5001, "job", fds);
    });
    scenario.findings(Kind::Orphaned)[0].fix.clone()
}

fn next(programs: &[&[&str]], fds: &'static [(u32, u32)]) -> Option<String> {
    fix_of(programs, fds).next
}

/// Whether bash takes it for a program.
fn parses(command: &str) -> bool {
    let status = Command::new("bash")
        .args(["-n", "-c", command])
        .stderr(Stdio::null())
        .status();
    status.expect("bash").success()
}

#[test]
fn what_started_a_job_stays_before_it() {
    let java = &["java", "-jar", "x y.jar"][..];
    let nohup = &["nohup", "setsid", "java", "-jar", "x y.jar"][..];
    let fix = fix_of(&[nohup, &nohup[1..], java], OUTPUTS);
    assert_eq!(
        fix.next.as_deref(),
        Some("nohup setsid java -jar 'x y.jar' </dev/null >job.log 2>&1 &")
    );
    assert_eq!(
        fix.note.as_deref(),
        Some("nohup alone does not redirect without a terminal")
    );
}

#[test]
fn what_is_redirected_already_is_a_note_and_no_part_of_the_command() {
    let fix = fix_of(&[&["sleep", "20"]], &[(2, 2)]);
    assert_eq!(
        fix.next.as_deref(),
        Some("sleep 20 </dev/null >job.log 2>&1 &")
    );
    assert_eq!(
        fix.note.as_deref(),
        Some("if its other streams are redirected already, `2>&1` after that is enough")
    );
    let fix = fix_of(&[&["sleep", "20"]], &[(3, 1)]);
    assert_eq!(
        fix.next.as_deref(),
        Some("sleep 20 </dev/null >job.log 2>&1 3>&- &")
    );
}

#[test]
fn a_masked_secret_is_not_pasted() {
    let fix = fix_of(&[&["mysql", "--password=***"]], OUTPUTS);
    assert_eq!(fix.next, None);
    assert_eq!(
        fix.text(),
        Some("append `</dev/null >job.log 2>&1 &` to the command that starts job")
    );
    let sudo: &[&str] = &["env", "TOKEN=***", "job"];
    assert_eq!(next(&[sudo, &sudo[2..]], OUTPUTS), None);
}

#[test]
fn arguments_that_cannot_be_shown_as_they_are_are_not_pasted() {
    assert_eq!(next(&[&["job", "two\nlines"]], OUTPUTS), None);
    assert_eq!(next(&[&["job", "\u{202e}"]], OUTPUTS), None);
    assert_eq!(next(&[&["-bash"]], OUTPUTS), None, "a login shell");
}

/// A script's subshell that starts `java` and waits for it.
fn subshell(pause: u64) -> Scenario {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "cd /app && java &")
        .fork(5000, 5000, 5001, "bash")
        .after(pause);
    let late = 5001 + u32::try_from(pause).unwrap() + 1;
    scenario
        .spawn(5000, 5001, late, &["java"])
        .leader_exits(5000, 0, empty());
    scenario.run(1100, |scenario| {
        scenario
            .server_holds(5000)
            .holds(5000, 5001, "bash", OUTPUTS)
            .holds(5000, late, "java", OUTPUTS);
    });
    scenario
}

#[test]
fn the_job_is_named_and_not_the_subshell_that_started_it() {
    let scenario = subshell(0);
    let found = scenario.findings(Kind::Orphaned)[0];
    assert!(
        found.message.contains("java pid 5002 still holds"),
        "{}",
        found.message
    );
    assert_eq!(
        found.fix,
        Fix {
            now: Some("kill 5001 5002".to_owned()),
            warning: Some("ends bash, java".to_owned()),
            next: Some("java </dev/null >java.log 2>&1 &".to_owned()),
            advice: None,
            note: Some(
                "bash pid 5001, the subshell that started it, has to be redirected as well: \
                 `( … ) </dev/null >java.log 2>&1 &`"
                    .to_owned()
            ),
        }
    );
}

#[test]
fn a_script_that_runs_on_is_not_taken_for_one_of_its_steps() {
    let scenario = subshell(5000);
    let found = scenario.findings(Kind::Orphaned)[0];
    assert!(found.message.contains("bash pid 5001 still holds"));
    assert_eq!(found.fix.next, None, "its arguments are not its own");
    assert_eq!(
        found.fix.text(),
        Some("redirect that part of the script as a whole: `( … ) </dev/null >bash.log 2>&1 &`")
    );
    assert_eq!(proc(5001).pid, 5001);
    assert_eq!(found.session.id.0, id(5000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_command_parses_and_says_its_words(
        words in prop::collection::vec("[ -~\u{e9}\u{65e5}\t\n\u{1b}]{0,12}", 1..5),
        program in prop::sample::select(vec!["job", "if", "a=1", "~", "{", "!", "[[", "", "time", "50%", "./x y"]),
        fds in prop::sample::select(vec![OUTPUTS, &[(2, 2)], &[(7, 1)], &[(0, 0), (1, 1)]]),
    ) {
        let mut argv = vec![program];
        argv.extend(words.iter().map(String::as_str));
        let visible = argv.iter().all(|word| !word.contains(|c: char| c.is_control()));
        let can = visible && !program.is_empty() && !argv.iter().any(|word| word.contains("***"));
        let next = next(&[&argv], fds);
        prop_assert_eq!(next.is_some(), can);
        if let Some(command) = next {
            prop_assert!(parses(&command), "{}", command);
            let read = shlex::split(&command).expect("words");
            prop_assert_eq!(&read[..argv.len()], &argv[..], "{}", command);
            prop_assert!(read[argv.len()..].starts_with(&["</dev/null".to_owned()]));
        }
    }
}
