//! `vetwatch page`: the page as files, and one customer's alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{DaemonHarness, complaint};

const REASON: &str = "Not an Education Customer";

/// Two customers one of them denied; the messages about it wait.
async fn town() -> DaemonHarness {
    let town = DaemonHarness::new("in_review = \"1h\"", "").await;
    let ids = town.in_review(2).await;
    town.sandbox.deny(&ids[0], REASON).unwrap();
    town.tell(&["poll"]);
    town
}

fn files(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path, text);
        }
    }
}

fn write(town: &DaemonHarness, folder: &Path, more: &[&str]) -> BTreeMap<PathBuf, String> {
    let output = town.run(&[&["page", folder.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}", complaint(&output));
    let mut found = BTreeMap::new();
    files(folder, &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_as_files_has_no_dead_link_and_replaces_only_itself() {
    let town = town().await;
    let folder = town.folder.path().join("page");
    let found = write(&town, &folder, &[]);
    assert!(found[&folder.join("index.html")].contains("School 0002"));
    assert!(found[&folder.join("decided.html")].contains(REASON));
    let mut links = 0;
    for (path, text) in found.iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "html")) {
        for link in text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            // The templates escape the slash.
            let link = link.replace("&#x2f;", "/");
            if !link.starts_with('#') {
                let there = path.parent().unwrap().join(&link);
                assert!(there.is_file(), "{}: {link}", path.display());
                links += 1;
            }
        }
    }
    assert!(links > 10, "{links}");

    fs::write(folder.join("index.html"), "old").unwrap();
    assert_eq!(write(&town, &folder, &[]).len(), found.len(), "it replaces its own");
    assert_ne!(fs::read_to_string(folder.join("index.html")).unwrap(), "old");
    assert!(!folder.with_file_name("page.new").exists() && !folder.with_file_name("page.old").exists());

    let other = town.folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "important").unwrap();
    let output = town.run(&["page", other.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("holds something"), "{}", complaint(&output));
    assert_eq!(fs::read_to_string(other.join("thesis.txt")).unwrap(), "important");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customers_page_shows_nothing_of_others_or_of_the_partner() {
    let town = town().await;
    let ids = town
        .rows("select lower(id) from event union select correlation_id from transition where correlation_id <> ''")
        .await;
    assert!(!ids.is_empty());
    let folder = town.folder.path().join("one");
    let found = write(&town, &folder, &["--customer", "School 0001"]);
    let index = &found[&folder.join("index.html")];
    assert!(index.contains("School 0001") && index.contains(REASON) && index.contains("Denied"), "{index}");
    let hidden = ["School 0002", "school-0002", "crm", "sales-mail", "emea", "Correlation", "raw", "Evidence"];
    for text in found.values() {
        for hidden in hidden.iter().copied().chain(ids.iter().map(String::as_str)) {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    let output = town.run(&["page", folder.to_str().unwrap(), "--customer", "Nobody"]);
    assert_eq!(output.status.code(), Some(4), "{}", complaint(&output));
    assert!(folder.join("index.html").is_file(), "the old one stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_into_one_folder_wait_for_each_other_and_a_link_stays_one() {
    let town = town().await;
    let (folder, link) = (town.folder.path().join("page"), town.folder.path().join("public"));
    let whole = write(&town, &folder, &[]).len();
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    let mut running: Vec<_> = (0..6)
        .map(|n| town.command(&["page", if n % 2 == 0 { &folder } else { &link }.to_str().unwrap()]).spawn().unwrap())
        .collect();
    for one in &mut running {
        assert!(one.wait().unwrap().success());
    }
    let mut found = BTreeMap::new();
    files(&folder, &mut found);
    assert_eq!(found.len(), whole);
    assert!(link.is_symlink() && !folder.with_file_name("page.new").exists());
}
