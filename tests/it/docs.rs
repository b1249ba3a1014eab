//! What the README and the pages under docs/ say is true: their queries run, the views have the columns that are
//! described, their commands can be typed, their configuration can be loaded, the receiver verifies, the tests that are
//! named exist, and every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use vetwatch::config::{Config, CredentialDirs};
use vetwatch::partner_center::error_codes;
use vetwatch::sandbox::webhook_receiver::WebhookAction;
use vetwatch::sandbox::{Fault, FaultRule, Operation};
use vetwatch::store::Store;
use vetwatch::store::customers::NewCustomer;
use vetwatch::time::{Clock as _, Timestamp};

use crate::peers;
use crate::world::{SIGNING_SECRET, World};

/// `README.md`, the other pages beside it, and every page under `docs/`, by its path from the repository's root.
static PAGES: LazyLock<BTreeMap<PathBuf, String>> = LazyLock::new(|| {
    let mut pages = BTreeMap::new();
    for page in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        pages.insert(PathBuf::from(page), fs::read_to_string(root().join(page)).unwrap());
    }
    add_pages(&root().join("docs"), &mut pages);
    pages
});

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn add_pages(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_pages(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            pages.insert(path.strip_prefix(root()).unwrap().to_owned(), text);
        }
    }
}

fn page(path: &str) -> &'static str {
    PAGES.get(Path::new(path)).unwrap_or_else(|| panic!("there is no page {path}"))
}

/// The contents of the code blocks of a language, each with the page that it is on. One that is indented, as in a list,
/// loses its indentation.
pub(crate) fn blocks(language: &str) -> Vec<(&'static Path, String)> {
    let start = format!("```{language}");
    let mut found = Vec::new();
    for (path, text) in &*PAGES {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim_start() == start {
                let indent = line.len() - line.trim_start().len();
                let block = lines.by_ref().take_while(|line| line.trim() != "```");
                let block = block.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()));
                found.push((path.as_path(), block.collect()));
            }
        }
    }
    assert!(!found.is_empty(), "no block of {language}");
    found
}

/// What stands below a heading of a page, up to the next one.
fn section(path: &str, heading: &str) -> &'static str {
    let (_, rest) = page(path).split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("there is no {heading}"));
    rest.split("\n#").next().unwrap()
}

/// The texts between backticks.
fn ticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// A year of a small provider: schools that were approved, denied, denied and approved, or are still waiting; one that
/// cannot be read; a receiver that takes nothing any more.
pub(crate) async fn a_year() -> World {
    let mut world = World::new().await;
    let mut schools = Vec::new();
    for n in 0..12 {
        schools.push(world.in_review(&format!("Contoso School {n}")).await);
    }
    world.sandbox.apply(&schools[0], Operation::Submit { qualification: "GovernmentCommunityCloud".into() }).unwrap();
    for (n, school) in schools.iter().enumerate().take(9) {
        world.poll_later().await;
        if n % 3 == 0 {
            world.sandbox.approve(school).unwrap();
        } else {
            world.sandbox.deny(school, ["Not an Academic Domain", "Not an Education Customer"][n % 2]).unwrap();
        }
        world.poll_later().await;
    }
    world.deliver().await;
    world.sandbox.submit(&schools[1]).unwrap();
    world.poll_later().await;
    world.sandbox.approve(&schools[1]).unwrap();
    world.sandbox.fault(FaultRule::about(&schools[11], Fault::status(500)));
    world.poll_later().await;
    world.hook.script(WebhookAction::status(500), None);
    world.deliver().await;
    world
}

/// Writes, one transaction after the other, until it is told to stop.
pub(crate) async fn write(store: Store, id: String, now: Timestamp, stop: Arc<AtomicBool>, written: Arc<AtomicU32>) {
    while !stop.load(Ordering::Relaxed) {
        let name = format!("Contoso School {}", written.fetch_add(1, Ordering::Relaxed));
        rename(&store, &id, &name, now).await;
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn rename(store: &Store, id: &str, name: &str, now: Timestamp) {
    let renamed = NewCustomer { partner: "emea", id, name: Some(name), domain: None, tags: None, contact: None };
    let mut tx = store.begin().await.unwrap();
    tx.add_customer(renamed, now).await.unwrap();
    tx.make_due(None, None, now).await.unwrap();
    tx.commit().await.unwrap();
}

/// As `docs/database.md` says to: read-only, by URI.
fn sqlite3(database: &Path, sql: &str) -> Vec<Value> {
    let uri = format!("file:{}?mode=ro", database.display());
    let output = Command::new("sqlite3").args(["-json", &uri, sql]).output().expect("sqlite3 is installed");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}\n{sql}");
    if output.stdout.is_empty() {
        return Vec::new();
    }
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{sql}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_pages_runs_through_sqlite3_while_somebody_writes() {
    let world = a_year().await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let id = world.rows("select customer_id from v_customers where name = 'Contoso School 10'").await.remove(0);
    let writer = write(world.store.clone(), id, world.clock.now(), stop.clone(), written.clone());
    let writer = tokio::spawn(writer);

    let queries = blocks("sql");
    assert_eq!(queries.len(), 12);
    let mut answers = Vec::new();
    for (_, sql) in &queries {
        let before = written.load(Ordering::Relaxed);
        let rows = sqlite3(&world.config.database, sql);
        assert!(!rows.is_empty(), "nothing to show for\n{sql}");
        // The writer was not held up, and the next query reads beside it again.
        while written.load(Ordering::Relaxed) == before {
            assert!(!writer.is_finished(), "the writer failed");
            tokio::task::yield_now().await;
        }
        answers.push(rows);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();

    // How long reviews take, and what share is approved.
    let education = answers[0].iter().find(|row| row["qualification"] == "Education").unwrap();
    assert_eq!(education["reviews"], 10, "{education}");
    let days = ["median_days", "p90_days", "longest_days"].map(|column| education[column].as_f64().unwrap());
    assert!(0.0 < days[0] && days[0] <= days[1] && days[1] <= days[2] && days[2] < 40.0, "{education}");
    let sum = |rows: &[Value], column: &str| rows.iter().map(|row| row[column].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum(&answers[1], "verdicts"), sum(&answers[1], "approved")), (10, 4));
    assert_eq!((answers[2].len(), sum(&answers[2], "denials")), (2, 6), "{:?}", answers[2]);
    // The longest first; who could not be read is still believed to be in review.
    let waiting: Vec<_> = answers[3].iter().map(|row| row["days"].as_f64().unwrap()).collect();
    assert!(waiting.len() == 4 && waiting.is_sorted_by(|a, b| a >= b), "{:?}", answers[3]);
    let second = answers[4].iter().find(|row| row["attempt"] == 2).unwrap();
    assert_eq!((&second["reviews"], &second["approved"]), (&json!(1), &json!(1)));
    assert_eq!(answers[5].len(), 5, "{:?}", answers[5]);
    assert!(answers[6].iter().any(|row| row["from"] == "InReview" && row["to"] == "Approved"));
    assert_eq!(sum(&answers[7], "verdicts"), 10);
    assert_eq!((&answers[8][0]["endpoint"], &answers[8][0]["state"]), (&json!("crm"), &json!("pending")));
    assert!(answers[8][0]["an_error"].as_str().unwrap().contains("500"), "{:?}", answers[8]);
    let unseen: Vec<_> = answers[9].iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(unseen.contains(&"Contoso School 11"), "{unseen:?}");
    // The newest change first; and all that v_current has, counted.
    assert_eq!(answers[10][0]["to"], "Approved", "{:?}", answers[10]);
    let holders = world.rows("select count(*) from v_current").await;
    assert_eq!(sum(&answers[11], "customers").to_string(), holders[0]);
}

#[tokio::test]
async fn every_column_of_every_view_is_described() {
    let world = World::new().await;
    let views = world.rows("select name from sqlite_schema where type = 'view' order by name").await;
    assert_eq!(views.len(), 5);
    for view in views {
        let columns = world.rows(&format!("select name from pragma_table_info('{view}')")).await;
        let described: BTreeSet<&str> = section("docs/database.md", &format!("### {view}:"))
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|line| ticked_cell(line).collect::<Vec<_>>())
            .collect();
        assert_eq!(described, columns.iter().map(String::as_str).collect::<BTreeSet<_>>(), "{view}");
    }
}

/// The texts between backticks in the first cell of a row, of which the first backtick is gone.
fn ticked_cell(line: &str) -> impl Iterator<Item = &str> {
    line.split(" |").next().unwrap().split('`').step_by(2)
}

#[test]
fn every_test_that_the_pages_name_exists() {
    let mut sources = String::new();
    read(&root().join("src"), &mut sources);
    read(&root().join("crates"), &mut sources);
    read(&root().join("tests/it"), &mut sources);
    let is_there = |name: &str| sources.contains(&format!("fn {name}("));
    let guarantees = page("docs/guarantees.md");
    for n in 1..=7 {
        let held_by = section("docs/guarantees.md", &format!("## {n}. "));
        let names: Vec<_> = held_by.lines().filter(|line| line.starts_with("- `")).flat_map(ticked).collect();
        assert!(names.len() >= 3, "guarantee {n}: {names:?}");
        for name in names {
            assert!(is_there(name), "docs/guarantees.md names the test {name}, and there is none");
        }
    }
    assert_eq!(guarantees.matches("\n## ").count(), 7);
    // Elsewhere a text in backticks that can only be a test's name is one.
    for (path, text) in &*PAGES {
        for name in text.lines().flat_map(ticked).filter(|text| text.matches('_').count() >= 5) {
            let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let is_metric = name.starts_with("vetwatch_");
            assert!(
                !is_name || is_metric || is_there(name),
                "{} names the test {name}, and there is none",
                path.display()
            );
        }
    }
}

/// Adds all of the Rust sources below a folder.
pub(crate) fn read(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *into += &fs::read_to_string(&path).unwrap();
        }
    }
}

/// The commands of a line of a shell: `vetwatch` and its arguments, without what is before it.
fn vetwatch_arguments(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches(['$', '#']).trim_start();
    let line = line.strip_prefix("sudo ").unwrap_or(line);
    let line = line.strip_prefix("-u vetwatch ").unwrap_or(line);
    line.strip_prefix("vetwatch ")
}

#[test]
fn every_command_of_the_pages_can_be_typed() {
    let mut typed = BTreeMap::from([("sh", 0), ("console", 0)]);
    for language in ["sh", "console"] {
        for (path, block) in blocks(language) {
            for line in block.replace("\\\n", " ").lines() {
                // What a console shows begins with no prompt.
                if language == "console" && !line.starts_with(['$', '#']) {
                    continue;
                }
                let line = line.split(" # ").next().unwrap();
                for command in line.split(['|', '>', ';']).flat_map(|part| part.split("&&")) {
                    let Some(arguments) = vetwatch_arguments(command) else { continue };
                    let words = arguments.split('"').enumerate().flat_map(|(n, piece)| match n % 2 {
                        0 => piece.split_whitespace().collect(),
                        _ => vec![piece],
                    });
                    let words: Vec<_> = ["vetwatch"].into_iter().chain(words).collect();
                    if let Err(error) = vetwatch::cli::Cli::try_parse_from(&words) {
                        panic!("{}: {line}\n{error}", path.display());
                    }
                    *typed.get_mut(language).unwrap() += 1;
                }
            }
        }
    }
    assert!(typed["sh"] >= 20 && typed["console"] >= 5, "{typed:?} were found");
}

/// A text in backticks that begins with `vetwatch` and a small character names a command.
#[test]
fn every_command_that_the_pages_mention_exists() {
    let cli = vetwatch::cli::Cli::command();
    let mut found = 0;
    for (path, text) in &*PAGES {
        for mention in text.lines().flat_map(ticked).filter_map(|text| text.strip_prefix("vetwatch ")) {
            let mut command = &cli;
            for word in mention.split_whitespace() {
                let name = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
                let Some(next) = command.find_subcommand(name) else {
                    let is_complete = !command.has_subcommands() || word.starts_with('-') || name.is_empty();
                    let is_promised = PROMISED.contains(&name);
                    let is_placeholder = name.chars().all(|c| c.is_ascii_uppercase());
                    assert!(
                        is_complete || is_promised || is_placeholder,
                        "{}: `vetwatch {mention}`: no {name}",
                        path.display()
                    );
                    break;
                };
                (command, found) = (next, found + 1);
            }
        }
    }
    assert!(found >= 50, "{found} were found");
}

/// Commands of which the pages say that they are not there yet.
const PROMISED: [&str; 2] = ["backup", "restore"];

/// What the blocks of configuration are parts of: with each of them it is a whole one.
const AROUND: &str = r#"
    [database]
    path = "vetwatch.db"
    [[partner]]
    name = "emea"
    tenant = "contoso.onmicrosoft.com"
    client_id = "00000000-0000-0000-0000-000000000000"
    [partner.credential]
    kind = "client-secret"
    client_secret_file = "client-secret"
    [smtp.office]
    host = "smtp.contoso.example"
    [[endpoint]]
    name = "sales-mail"
    kind = "email"
    smtp = "office"
    from = "vetwatch@contoso.example"
    to = ["education-sales@contoso.example"]
    [[endpoint]]
    name = "ops-mail"
    kind = "email"
    smtp = "office"
    from = "vetwatch@contoso.example"
    to = ["it-operations@contoso.example"]
    [[endpoint]]
    name = "crm"
    kind = "webhook"
    url = "https://crm.contoso.example/hook"
    secret_file = "crm-signing-secret"
    [[route]]
    events = ["vetting.approved"]
    endpoints = ["sales-mail"]
    [operators]
    endpoints = ["ops-mail", "crm"]
"#;

/// Puts a part into its place: a section replaces one of its name, a key one of its name.
fn put(part: toml::Table, whole: &mut toml::Table) {
    let name_of = |item: &toml::Value| item.get("name").and_then(toml::Value::as_str).map(str::to_owned);
    for (key, value) in part {
        match (whole.get_mut(&key), value) {
            (Some(toml::Value::Array(items)), toml::Value::Array(new)) if key != "route" => {
                items.retain(|item| !new.iter().any(|new| name_of(new) == name_of(item)));
                items.extend(new);
            }
            // `[partner.credential]` alone belongs to the partner.
            (Some(toml::Value::Array(items)), toml::Value::Table(new)) => {
                for (key, value) in new {
                    items[0].as_table_mut().unwrap().insert(key, value);
                }
            }
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
            (_, value) => _ = whole.insert(key, value),
        }
    }
}

/// The files that the configuration names, with something of the right form in each.
fn write_secrets(folder: &Path, table: &toml::Table) {
    for (key, value) in table {
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        items.iter().filter_map(toml::Value::as_table).for_each(|table| write_secrets(folder, table));
        let Some(file) = value.as_str().filter(|_| key.ends_with("_file")) else { continue };
        let text = match key.as_str() {
            "url_file" | "heartbeat_url_file" => "https://hooks.contoso.example/hook",
            "secret_file" => SIGNING_SECRET,
            "certificate_file" | "private_key_file" => include_str!("../data/certificates/app.pem"),
            _ => "something-secret-of-no-use",
        };
        if !Path::new(file).is_absolute() {
            fs::write(folder.join(file), text).unwrap();
            fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// The files of the machine that the blocks name.
fn at_home(block: &str, folder: &Path) -> String {
    let templates = root().join("deploy/templates");
    let token = folder.join("federated-token");
    fs::write(&token, "a.federated.token").unwrap();
    block
        .replace("/etc/vetwatch/templates", &templates.display().to_string())
        .replace("/var/run/secrets/azure/tokens/azure-identity-token", &token.display().to_string())
}

#[test]
fn every_configuration_of_the_pages_can_be_loaded_and_fits_the_schema() {
    let (mut loaded, wholes) = (0, tempfile::tempdir().unwrap());
    for (path, block) in blocks("toml") {
        let folder = tempfile::tempdir().unwrap();
        let block = at_home(&block, folder.path());
        let part: toml::Table = block.parse().unwrap_or_else(|error| panic!("{}: {error}\n{block}", path.display()));
        let mut whole: toml::Table = AROUND.parse().unwrap();
        put(part, &mut whole);
        write_secrets(folder.path(), &whole);
        let file = folder.path().join("vetwatch.toml");
        fs::write(&file, whole.to_string()).unwrap();
        fs::copy(&file, wholes.path().join(format!("{loaded}.toml"))).unwrap();
        if let Err(problems) = Config::load(&file, &CredentialDirs::only(folder.path())) {
            panic!("{}: {problems}\n{block}", path.display());
        }
        loaded += 1;
    }
    assert!(loaded >= 10, "{loaded} were found");
    peers::run("check_config_schema.py", wholes.path(), &Value::Null).unwrap();
}

/// The README's is a whole one, not only with something around it.
#[test]
fn the_configuration_of_the_readme_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (_, block) = blocks("toml").into_iter().find(|(path, _)| *path == Path::new("README.md")).unwrap();
    write_secrets(folder.path(), &block.parse().unwrap());
    let file = folder.path().join("vetwatch.toml");
    fs::write(&file, block).unwrap();
    Config::load(&file, &CredentialDirs::only(folder.path())).unwrap_or_else(|problems| panic!("{problems}"));
}

/// Every key of the configuration's schema has a row below the heading of its section.
#[test]
fn the_reference_has_every_key_of_the_schema() {
    let schema = include_str!("../../schemas/vetwatch.toml.schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let mut found = 0;
    for (heading, pointer) in [
        ("[database]", "/database"),
        ("[[partner]]", "/partner/items"),
        ("[partner.credential]", "/partner/items/properties/credential"),
        ("[schedule]", "/schedule"),
        ("[overdue]", "/overdue"),
        ("[smtp.NAME]", "/smtp/additionalProperties"),
        ("[smtp.NAME.oauth]", "/smtp/additionalProperties/properties/oauth"),
        ("[[endpoint]]", "/endpoint/items"),
        ("[[route]]", "/route/items"),
        ("[operators]", "/operators"),
        ("[retry]", "/retry"),
        ("[web]", "/web"),
        ("[retention]", "/retention"),
        ("[log]", "/log"),
    ] {
        let rows = section("docs/configuration.md", &format!("## `{heading}`"));
        let keys = schema["properties"].pointer(&format!("{pointer}/properties")).unwrap().as_object().unwrap();
        for key in keys.keys() {
            let is_there = rows.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{key}`")));
            assert!(is_there || key == "oauth", "docs/configuration.md lacks {key} of {heading}");
            found += 1;
        }
    }
    assert!(found > 70, "{found} were found");
}

/// Of each link only its words.
fn without_links(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((before, link)) = rest.split_once('[') {
        let (words, after) = link.split_once(']').unwrap();
        text += before;
        text += words;
        rest = after.strip_prefix('(').and_then(|after| after.split_once(')')).map_or(after, |(_, after)| after);
    }
    text + rest
}

/// The anchor that forges make of a heading.
fn anchor(heading: &str) -> String {
    // A table's name, such as `[[partner]]`, keeps its letters.
    let kept = without_links(heading).to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The page without its code: what looks like a heading or a link there is none.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(|heading| anchor(&heading.replace('`', "").replace("[[", "").replace("]]", ""))).collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut followed = 0;
    for (path, text) in &*PAGES {
        let text = prose(text);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") || link.is_empty() {
                continue;
            }
            let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
            let file = match target {
                "" => root().join(path),
                _ => root().join(path).parent().unwrap().join(target),
            };
            let shown = path.display();
            assert!(file.exists(), "{shown} links to {link}, and there is none");
            if !fragment.is_empty() {
                let there = anchors(&fs::read_to_string(&file).unwrap());
                assert!(there.contains(fragment), "{shown} links to {link}, and there are only {there:?}");
            }
            followed += 1;
        }
    }
    assert!(followed >= 100, "{followed} were found");
}

/// A text in backticks that begins as a path of the repository is one.
#[test]
fn every_file_that_the_pages_name_exists() {
    let mut found = 0;
    for (path, text) in &*PAGES {
        for name in prose(text).lines().flat_map(ticked) {
            let folders = [
                "src/",
                "tests/",
                "deploy/",
                "docs/",
                "schemas/",
                "migrations/",
                "benches/",
                "crates/",
                ".ci/",
                ".config/",
            ];
            if !folders.iter().any(|folder| name.starts_with(folder)) {
                continue;
            }
            let file = name.split(' ').next().unwrap();
            assert!(root().join(file).exists(), "{} names {file}, and there is none", path.display());
            found += 1;
        }
    }
    assert!(found >= 50, "{found} were found");
}

#[test]
fn the_summary_has_every_page() {
    let summary = page("docs/SUMMARY.md");
    for path in PAGES.keys().filter_map(|path| path.strip_prefix("docs").ok()) {
        let link = format!("({})", path.display());
        assert!(path == Path::new("SUMMARY.md") || summary.contains(&link), "docs/SUMMARY.md lacks {link}");
    }
}

#[test]
fn the_installation_page_names_the_packages_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let page = page("docs/install.md");
    let packages = [
        format!("vetwatch_{version}-1_amd64.deb"),
        format!("vetwatch-{version}-1.x86_64.rpm"),
        format!("vetwatch-{version}-x86_64-linux.tar.gz"),
    ];
    for package in packages {
        assert!(page.contains(&package), "docs/install.md does not name {package}");
    }
}

#[test]
fn the_readme_is_short() {
    assert!(page("README.md").lines().count() <= 150);
}

#[tokio::test]
async fn the_receiver_of_the_pages_verifies_what_is_sent_and_nothing_else() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.sandbox.deny(&school, "Not an Academic Domain").unwrap();
    world.poll_later().await;
    // The library compares the timestamp with the clock on the wall.
    world.clock.set(vetwatch::time::SystemClock.now());
    world.deliver().await;
    let hook = world.hook.hooks().remove(0);
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = headers.iter().map(|name| (*name, hook.header(name).unwrap())).collect();
    let body = String::from_utf8(hook.body).unwrap();

    let receiver = blocks("python").into_iter().find(|(_, block)| block.contains("standardwebhooks")).unwrap().1;
    let script = format!(
        "{}\nimport json, sys\ngiven = json.load(sys.stdin)\n\
         print(receive(given['body'].encode(), given['headers'])['type'])",
        receiver.replace("whsec_…", SIGNING_SECRET)
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("receive.py"), script).unwrap();
    let receive = |body: &str| {
        let given = json!({ "body": body, "headers": headers });
        fs::write(folder.path().join("given"), given.to_string()).unwrap();
        let python = root().join(".venv/bin/python");
        let mut python = Command::new(python);
        let given = fs::File::open(folder.path().join("given")).unwrap();
        let output = python.arg(folder.path().join("receive.py")).stdin(given).output().unwrap();
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).into_owned()
    };
    assert_eq!(receive(&body).trim(), "vetting.denied");
    let refused = receive(&body.replace("Denied", "Approved"));
    assert!(refused.contains("WebhookVerificationError"), "{refused}");
}

/// The tables that are generated: page, marker, and what the code says. `UPDATE_TABLES=1` writes them.
#[test]
fn every_generated_table_is_the_one_of_the_code() {
    let tables = [
        ("README.md", "reasons", vetwatch::attention::table()),
        ("docs/events.md", "events", vetwatch::event::table()),
        ("docs/monitoring.md", "metrics", vetwatch::metrics::list::table()),
        ("docs/partner-center.md", "codes", error_codes::table()),
        ("docs/partner-center.md", "submission-codes", error_codes::submission_table()),
    ];
    for (page, name, table) in tables {
        let path = root().join(page);
        let text = fs::read_to_string(&path).unwrap();
        let (begin, end) =
            (format!("<!-- {name}: written by the program; a test compares -->\n"), format!("<!-- {name} end -->"));
        let (before, rest) = text.split_once(&begin).unwrap();
        let (written, after) = rest.split_once(&end).unwrap();
        if std::env::var_os("UPDATE_TABLES").is_some() {
            fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
        } else {
            assert!(written == table, "the table {name} of {page} differs; UPDATE_TABLES=1 writes:\n{table}");
        }
    }
}

/// How Datasette shows each view: in which order, and the columns whose values it counts. `v_transitions` by its number,
/// which needs no sorting.
const SHOWN: [(&str, &str, &str); 5] = [
    ("v_current", "sort_desc: status_since", "qualification, vetting_status"),
    ("v_transitions", "sort_desc: transition_id", "qualification, event_type"),
    ("v_decisions", "sort_desc: decided_before", "qualification, outcome"),
    ("v_deliveries", "sort_desc: created_at", "endpoint, state"),
    ("v_customers", "sort: name", "poll_class, paused"),
];

/// A line of YAML, of which the value is a text of a page without its marks. A string of JSON is one of YAML.
fn yaml(indent: usize, key: &str, text: &str) -> String {
    let text = without_links(text).replace('`', "");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{:indent$}{key}: {}\n", "", Value::from(text))
}

/// The metadata of Datasette: what `docs/database.md` says of the views, its queries, and all tables hidden.
fn datasette(tables: &[String]) -> String {
    let mut written = String::from(
        "# Datasette's metadata for a database of vetwatch: datasette vetwatch.db --metadata datasette.yml\n\
         # Written from docs/database.md by its test: change that page. docs/development/testing.md says how.\n\
         title: vetwatch\n\
         description: The vetting of customers' qualifications in Partner Center, as vetwatch saw it\n\
         databases:\n  vetwatch:\n",
    );
    written += &yaml(4, "description", section("docs/database.md", "## Conventions\n"));
    written += "    queries:\n";
    let questions = section("docs/database.md", "## Questions, and the queries that answer them\n");
    let mut parts = questions.split("```");
    while let (Some(question), Some(sql)) = (parts.next(), parts.next()) {
        let (title, remark) = question.trim().split_once('?').unwrap();
        let name = title.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric() && c != ' ', "").replace(' ', "-");
        writeln!(written, "      {name}:").unwrap();
        written += &yaml(8, "title", &format!("{title}?"));
        if !remark.is_empty() {
            written += &yaml(8, "description", remark.trim_matches([' ', '(', ')']));
        }
        written += "        sql: |-\n";
        // Datasette takes no semicolon.
        for line in sql.strip_prefix("sql\n").unwrap().trim_end().trim_end_matches(';').lines() {
            writeln!(written, "          {line}").unwrap();
        }
    }
    written += "    tables:\n";
    for (view, order, facets) in SHOWN {
        let (heading, text) = section("docs/database.md", &format!("### {view}:")).split_once('\n').unwrap();
        let (description, rows) = text.split_once("| column |").unwrap();
        writeln!(written, "      {view}:").unwrap();
        written += &yaml(8, "title", &format!("{view}: {heading}"));
        written += &yaml(8, "description", description);
        writeln!(written, "        {order}\n        facets: [{facets}]\n        columns:").unwrap();
        for row in rows.lines().filter_map(|row| row.strip_prefix("| `")) {
            let description = row.split_once(" | ").unwrap().1.trim_end_matches(" |");
            for column in ticked_cell(row) {
                written += &yaml(10, column, description);
            }
        }
    }
    for table in tables {
        writeln!(written, "      {table}:\n        hidden: true").unwrap();
    }
    written
}

/// `UPDATE_TABLES=1` writes it.
#[tokio::test]
async fn every_generated_description_for_datasette_is_that_of_the_page() {
    let world = World::new().await;
    let tables = world.rows("select name from sqlite_schema where type = 'table' order by name").await;
    let (path, metadata) = (root().join("deploy/datasette.yml"), datasette(&tables));
    if std::env::var_os("UPDATE_TABLES").is_some() {
        fs::write(path, metadata).unwrap();
    } else {
        let written = fs::read_to_string(path).unwrap();
        assert!(written == metadata, "deploy/datasette.yml differs; UPDATE_TABLES=1 writes:\n{metadata}");
    }
}
