//! Completions in the shells that people use, and manual pages in the programs that show them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Desk, EVIL};

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Runs a program that finds `vetwatch` in its path, and returns what it printed.
async fn run(desk: &Desk, program: &str, arguments: &[&str]) -> String {
    let template = desk.command(&[]);
    let bin = desk.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let _ = std::os::unix::fs::symlink(template.get_program(), bin.join("vetwatch"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("HOME", desk.folder.path()).env("TERM", "xterm");
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    command.env("VETWATCH_CONFIG", desk.path("vetwatch.toml"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers for the last word.
async fn bash(desk: &Desk, words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let script = format!(
        "source '{}'\nCOMP_WORDS=({})\nCOMP_CWORD={}\nCOMP_TYPE=9\ncomplete -p vetwatch >/dev/null || exit 1\n\
         _clap_complete_vetwatch vetwatch \"${{COMP_WORDS[COMP_CWORD]}}\" x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        desk.path("completion.bash").display(),
        quoted.join(" "),
        words.len() - 1
    );
    let out = run(desk, "bash", &["--norc", "-c", &script]).await;
    out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn completions_offer_what_there_is_and_are_silent_where_there_is_nothing() {
    let mut desk = Desk::new().await;
    let school = desk.customer("Contoso School").await;
    desk.customer(EVIL).await;
    for shell in ["bash", "zsh", "fish"] {
        let script = desk.run(&["completions", shell]).await.exits(0).out;
        fs::write(desk.path(&format!("completion.{shell}")), script).unwrap();
    }
    let offered = async |words: &[&str]| bash(&desk, words).await;
    assert_eq!(offered(&["vetwatch", "status", "--partner", ""]).await, ["emea"]);
    assert_eq!(offered(&["vetwatch", "test-send", ""]).await[..2], ["sales-mail", "crm"]);
    assert_eq!(offered(&["vetwatch", "deliveries", "redrive", "--to", "cr"]).await, ["crm"]);
    assert_eq!(offered(&["vetwatch", "route", "test", "--event", "vetting.de"]).await, ["vetting.denied"]);
    assert_eq!(offered(&["vetwatch", "status", "CONTOSO\\ Sc"]).await, ["school1.example"], "what needs no quoting");
    assert_eq!(offered(&["vetwatch", "poll", "school1"]).await, ["school1.example"]);
    assert_eq!(offered(&["vetwatch", "history", &school[..8]]).await, [school.as_str()]);
    assert_eq!(offered(&["vetwatch", "deliveries", "discard", ""]).await[0], "--endpoint", "no message yet");
    assert!(offered(&["vetwatch", "deliveries", "di"]).await.contains(&"discard".to_owned()));
    // Whatever is missing, no file's name is offered, and nothing is said.
    assert_eq!(offered(&["vetwatch", "--config", "/nowhere", "status", "vet"]).await, [""; 0]);
    let config = desk.path("no-database.toml");
    fs::write(&config, "[database]\npath = \"nowhere.db\"\n").unwrap();
    assert_eq!(offered(&["vetwatch", "--config", config.to_str().unwrap(), "status", "x"]).await, [""; 0]);
    assert!(!desk.path("nowhere.db").exists());

    if has("fish") {
        let script = format!("source {}; complete -C 'vetwatch status cont'", desk.path("completion.fish").display());
        let out = run(&desk, "fish", &["--no-config", "-c", &script]).await;
        assert!(out.starts_with("Contoso School\t"), "{out}");
        desk.keep(&out);
    }
    if has("zsh") {
        // A terminal of its own, in which a key is pressed.
        let script = format!(
            "zmodload zsh/zpty; zpty z zsh -f -i; zpty -w z 'PS1=; autoload -U compinit; compinit -u -D; source {}; echo rea\"\"dy'; \
             zpty -r -m z line '*ready*'; zpty -w -n z $'vetwatch status --partner em\\t'; zpty -r -m z line '*emea*'; print -r -- $line",
            desk.path("completion.zsh").display()
        );
        let out = run(&desk, "zsh", &["-f", "-c", &script]).await;
        assert!(out.contains("emea"), "{out}");
    }
}

#[tokio::test]
async fn every_manual_page_is_shown_without_a_complaint() {
    let desk = Desk::new().await;
    let directory = desk.path("man");
    desk.run(&["man", directory.to_str().unwrap()]).await.exits(0);
    let sections = ["man1", "man5", "man7"].map(|section| fs::read_dir(directory.join(section)).unwrap());
    let pages: Vec<_> = sections.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 30, "{pages:?}");
    assert!(directory.join("man5/vetwatch.toml.5").exists() && directory.join("man7/vetwatch.7").exists());
    for page in &pages {
        if has("mandoc") {
            complains(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page), page);
        }
        if has("groff") {
            complains(Command::new("groff").args(["-Kutf8", "-man", "-Tutf8", "-ww", "-z"]).arg(page), page);
        }
    }
}

fn complains(command: &mut Command, page: &Path) {
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(said, "", "{}", page.display());
}
