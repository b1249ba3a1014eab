//! The demo on a terminal: its screen, its keys, and every way it ends.

use std::path::Path;

use nix::libc;
use serde_json::{Value, json};

use super::is_empty;
use crate::peers::run;

/// The first look at the customers is over.
const BEGUN: &str = "has looked at 8 customers";
const DAEMON: &str = r"daemon pid (\d+)";

/// Runs a demo on a terminal. Its temporary files are in `folder`.
fn on_screen(folder: &Path, size: (u16, u16), more: &[(&str, &str)], steps: &Value) -> Value {
    let program = std::env::var("VETWATCH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vetwatch").to_owned());
    let mut environment = json!({"TERM": "xterm-256color", "TMPDIR": folder, "PATH": ""});
    for (name, value) in more {
        environment[*name] = json!(value);
    }
    let size = [size.0, size.1];
    let input = json!({"argv": [program, "demo"], "env": environment, "size": size, "steps": steps});
    let seen = run("on_screen.py", Path::new("-"), &input).unwrap();
    assert_eq!(seen["stuck"], Value::Null, "{}", seen["screens"]["stuck"].as_str().unwrap_or_default());
    seen
}

fn screen<'s>(seen: &'s Value, name: &str) -> &'s str {
    seen["screens"][name].as_str().unwrap()
}

#[test]
fn keys_decide_and_switch_and_a_kill_while_the_mail_server_is_off_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let steps = json!([
        ["wait", BEGUN],
        ["key", "m"],
        ["wait", "is off: it refuses every connection"],
        ["key", "a"],
        ["wait", "approves Wingtip Town Council for GovernmentCommunityCloud"],
        ["wait", "Wingtip Town Council, GovernmentCommunityCloud: InReview → Approved"],
        ["wait", "cannot reach sales-mail, keeps its message"],
        ["key", "d"],
        ["wait", ": Not an Academic Domain"],
        ["wait", "Education: InReview → Denied"],
        ["wait", "webhook #"],
        ["show", "decided"],
        ["key", "k"],
        ["wait", "killed (SIGKILL); "],
        ["show", "killed"],
        ["wait", "started again, pid "],
        ["watch", DAEMON],
        ["key", "m"],
        ["wait", "is on again"],
        ["wait", "at the kill "],
        ["wait", "  waiting 0"],
        ["show", "recovered"],
        ["key", "q"],
    ]);
    let seen = on_screen(folder.path(), (110, 40), &[], &steps);
    let (decided, killed, recovered) = (screen(&seen, "decided"), screen(&seen, "killed"), screen(&seen, "recovered"));
    let row = |screen: &str, customer: &str| {
        let row = screen.lines().take(20).find(|line| line.contains(customer)).map(str::to_owned);
        row.unwrap_or_else(|| panic!("{customer} is missing:\n{screen}"))
    };
    assert!(row(decided, "Wingtip Town Council").contains("Approved"), "{decided}");
    assert!(decided.contains("mail server off") && !decided.contains("waiting 0"), "{decided}");
    assert!(decided.contains("webhook #"), "{decided}");
    assert!(killed.contains("daemon killed"), "{killed}");
    assert!(recovered.contains("mail server on") && recovered.contains("  (after "), "{recovered}");
    let last = seen["last"].as_str().unwrap();
    for wanted in ["  lost         0\n", "  two ids      0\n", "  killed       once, and started again\n"] {
        assert!(last.contains(wanted), "{wanted:?} is missing:\n{last}");
    }
    assert_eq!((&seen["exit"], &seen["restored"]), (&json!(0), &json!(true)), "{last}");
    assert_eq!(seen["watched ended"], true, "the daemon goes on");
    assert!(is_empty(folder.path()));
}

#[test]
fn however_the_demo_ends_its_daemon_ends_and_the_terminal_is_as_before() {
    let ctrl_c = ["key", "\u{3}"];
    let signal = |number: i32| json!(["signal", number]);
    for end in [json!(["key", "q"]), json!(ctrl_c), signal(libc::SIGTERM), signal(libc::SIGHUP), signal(libc::SIGQUIT)]
    {
        let folder = tempfile::tempdir().unwrap();
        let seen = on_screen(folder.path(), (80, 24), &[], &json!([["wait", BEGUN], ["watch", DAEMON], end]));
        assert_eq!(seen["exit"], 0, "{end}: {}", seen["last"]);
        assert_eq!((&seen["restored"], &seen["watched ended"]), (&json!(true), &json!(true)), "{end}");
        assert!(is_empty(folder.path()), "{end}");
    }
    // Nobody can restore the terminal or remove the folder then; the daemon ends all the same.
    let folder = tempfile::tempdir().unwrap();
    let steps = json!([["wait", BEGUN], ["watch", DAEMON], signal(libc::SIGKILL)]);
    let seen = on_screen(folder.path(), (80, 24), &[], &steps);
    assert_eq!((&seen["exit"], &seen["watched ended"]), (&json!(-9), &json!(true)));
}

#[test]
fn the_screen_follows_the_terminals_size_and_the_keys_are_always_there() {
    let folder = tempfile::tempdir().unwrap();
    let steps = json!([
        ["wait", BEGUN],
        ["wait", "mail #"],
        ["last line", "q quit"],
        ["show", "80x24"],
        ["resize", [130, 40]],
        ["last line", "q quit"],
        ["wait", "Approved: Northwind Library – Education  http://127.0.0.1:"],
        ["resize", [60, 12]],
        ["wait", " more"],
        ["last line", "k kill  q quit"],
        ["show", "60x12"],
        ["key", "q"],
    ]);
    let seen = on_screen(folder.path(), (80, 24), &[], &steps);
    let small = screen(&seen, "80x24");
    for wanted in
        ["Northwind Library", "Contoso School", "Wingtip Town", "page  http://127.0.0.1:", "mails and cards  http"]
    {
        assert!(small.contains(wanted), "{wanted:?} is missing:\n{small}");
    }
    let tiny = screen(&seen, "60x12");
    assert!(tiny.contains("Wingtip") && tiny.contains("Approved: Northwind") && tiny.ends_with("q quit"), "{tiny}");
    assert_eq!(seen["restored"], true);
    let raw = seen["raw"].as_str().unwrap();
    assert!(raw.contains("\u{1b}[32mApproved\u{1b}[0m"), "no colour");
    let page = small.split_once("page  ").unwrap().1.split_whitespace().next().unwrap();
    assert!(raw.contains(&format!("\u{1b}]8;;{page}customer/emea/")), "no link");
}

#[test]
fn without_colours_there_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let steps = json!([["wait", BEGUN], ["wait", "▸  Northwind Library"], ["key", "q"]]);
    let seen = on_screen(folder.path(), (80, 24), &[("NO_COLOR", "1")], &steps);
    let raw = seen["raw"].as_str().unwrap().replace("\u{1b}[0m\u{1b}[?7h", "");
    assert!(!raw.contains("m\u{1b}") && !raw.contains("\u{1b}[1m") && !raw.contains("\u{1b}[0m"), "{raw}");
}

#[test]
fn a_daemon_that_dies_by_itself_ends_the_demo_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let steps = json!([["wait", BEGUN], ["watch", DAEMON], ["kill watched", null]]);
    let seen = on_screen(folder.path(), (80, 24), &[], &steps);
    assert_eq!((&seen["exit"], &seen["restored"]), (&json!(1), &json!(true)));
    let last = seen["last"].as_str().unwrap();
    assert!(last.contains("the daemon ended by itself: signal: 9") && last.contains("vetwatch 0."), "{last}");
    assert!(is_empty(folder.path()));
}
