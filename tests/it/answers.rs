//! Every known response, from a file that a domain expert can read and extend, and the pitfalls among them:
//! `tests/data/answers.toml` and `tests/data/traps.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use vetwatch::partner_center::Error;
use vetwatch::qualification::{self, Entry};
use vetwatch::sandbox::{Fault, FaultRule, Kind};

use crate::world::{World, hours};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    answer: Vec<Answer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    name: String,
    body: String,
    #[serde(default)]
    traps: BTreeSet<u32>,
    understood: Option<Vec<Holds>>,
    not_understood: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holds {
    qualification: String,
    status: Option<String>,
    reason: Option<String>,
    created: Option<String>,
}

impl From<&Entry> for Holds {
    fn from(entry: &Entry) -> Self {
        Self {
            qualification: entry.qualification.clone(),
            status: entry.vetting_status.clone(),
            reason: entry.vetting_reason.clone(),
            created: entry.created_at.map(|at| at.to_string()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Traps {
    trap: Vec<Trap>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trap {
    number: u32,
    says: String,
    tests: Vec<String>,
}

fn answers() -> Vec<Answer> {
    toml::from_str::<Answers>(include_str!("../data/answers.toml")).unwrap().answer
}

fn sorted(mut holds: Vec<Holds>) -> Vec<Holds> {
    holds.sort_by_key(|holds| qualification::key(&holds.qualification));
    holds
}

#[tokio::test]
async fn every_answer_of_the_table_means_what_the_table_says() {
    let mut world = World::new().await;
    let school = world.customer("Contoso School").await;
    let client = world.parts.partners[0].customer_sync.client.clone();
    let answers = answers();
    assert!(answers.len() >= 60, "{}", answers.len());
    let mut wrong = Vec::new();
    for answer in &answers {
        let custom: Fault = serde_json::from_value(json!({ "fault": "custom", "body": answer.body })).unwrap();
        world.sandbox.fault(FaultRule::about(&school, custom).times(1));
        let told = client.qualifications(&school).await;
        let is_right = match (&told, &answer.understood, &answer.not_understood) {
            (Ok(told), Some(meant), None) => {
                let seen: Vec<Holds> = told.snapshot.entries().iter().map(Holds::from).collect();
                // The response itself is the evidence of a change.
                sorted(seen) == sorted(meant.clone()) && told.raw == answer.body
            }
            (Err(Error::Unreadable { what, .. }), None, Some(why)) => {
                what == why || what.starts_with(&format!("{why}: "))
            }
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{}: {told:#?}", answer.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), answers.len(), wrong.join("\n"));
    assert_eq!(world.sandbox.count_of(&school), answers.len() as u64);
}

/// Every body of the table, above all the good ones, with every status that is not a success.
#[tokio::test]
async fn whatever_an_answer_says_that_is_no_success_it_changes_no_status() {
    let seed: u64 = std::env::var("VETWATCH_SEED").map_or(29, |seed| seed.parse().unwrap());
    let (mut rng, mut world) = (fastrand::Rng::with_seed(seed), World::new().await);
    let school = world.in_review("Contoso School").await;
    let mut bodies: Vec<String> = answers().into_iter().map(|answer| answer.body).collect();
    bodies.push(r#"[{"qualification":"Education","vettingStatus":"Denied","vettingReason":"x"}]"#.to_owned());
    let before = world.rows("select vetting_status, vetting_created_at, status_since from v_current").await;
    for _ in 0..300 {
        let status = if rng.bool() { rng.u16(300..600) } else { [401, 403, 404, 429, 500, 503][rng.usize(..6)] };
        let body = &bodies[rng.usize(..bodies.len())];
        let custom = json!({ "fault": "custom", "status": status, "body": body });
        world.sandbox.fault(FaultRule::about(&school, serde_json::from_value::<Fault>(custom).unwrap()).times(1));
        // Longer than any backoff of a partner or a customer.
        world.pass(hours(25 * 7));
        let transitions = world.poll().await;
        let after = world.rows("select vetting_status, vetting_created_at, status_since from v_current").await;
        assert_eq!((transitions, &after), (0, &before), "VETWATCH_SEED={seed}: HTTP {status}: {body}");
        world.sandbox.clear_faults();
    }
    world.deliver().await;
    assert!(!world.webhooks().iter().any(|told| told.starts_with("vetting.")), "{:?}", world.webhooks());
}

#[test]
fn each_answer_of_the_table_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for answer in answers() {
        assert!(!answer.name.is_empty() && names.insert(answer.name.clone()), "there are two of {:?}", answer.name);
        assert_ne!(
            answer.understood.is_some(),
            answer.not_understood.is_some(),
            "{:?}: understood or not?",
            answer.name
        );
    }
}

#[test]
fn every_trap_is_sprung_by_an_answer_or_a_test_that_exists() {
    let traps = toml::from_str::<Traps>(include_str!("../data/traps.toml")).unwrap().trap;
    assert_eq!(traps.iter().map(|trap| trap.number).collect::<Vec<_>>(), (1..=29).collect::<Vec<_>>());
    let mut sources = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "crates", "tests/it"] {
        crate::docs::read(&root.join(folder), &mut sources);
    }
    for trap in &traps {
        assert!(!trap.says.is_empty() && !trap.tests.is_empty(), "{trap:?}");
        for name in &trap.tests {
            assert!(sources.contains(&format!("fn {name}(")), "trap {}: there is no test {name}", trap.number);
        }
    }
    let mut sprung: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for answer in answers() {
        for number in &answer.traps {
            sprung.entry(*number).or_default().push(answer.name.clone());
        }
    }
    assert!(sprung.keys().all(|number| (1..=29).contains(number)), "{sprung:#?}");
    // The pitfalls that a single response can be.
    for number in [1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 25] {
        assert!(sprung.contains_key(&number), "no answer springs trap {number}");
    }
}

/// No audit records, webhooks or account state: code that starts to request them fails here and must consider the
/// pitfalls. Only commands submit or request validation codes.
#[tokio::test]
async fn nothing_is_asked_but_tokens_pages_of_customers_and_qualifications() {
    let mut world = World::new().await;
    let school = world.in_review("Contoso School").await;
    world.parts.partners[0].customer_sync.sync(|_| {}).await.unwrap();
    for change in 0..3 {
        world.pass(hours(1));
        world.poll().await;
        match change {
            0 => world.sandbox.deny(&school, "Not an Academic Domain").unwrap(),
            1 => world.sandbox.submit(&school).unwrap(),
            _ => world.sandbox.approve(&school).unwrap(),
        }
    }
    world.poll_later().await;
    world.deliver().await;
    for asked in world.sandbox.requests() {
        let (path, method) = (asked.path.split('?').next().unwrap(), asked.method.as_str());
        let (kind, question) = (asked.kind, format!("/v1/customers/{school}/qualifications"));
        let expected = (kind == Kind::Token && method == "POST" && path.ends_with("/oauth2/token"))
            || (kind == Kind::Customers && method == "GET" && path == "/v1/customers")
            || (kind == Kind::Qualifications && method == "GET" && path == question);
        assert!(expected, "{asked:?}");
    }
    for kind in [Kind::Token, Kind::Customers, Kind::Qualifications] {
        assert!(world.sandbox.count(kind) > 0, "{kind:?}");
    }
}

#[test]
fn the_pages_say_which_partners_have_access_to_the_api() {
    for page in [
        include_str!("../../README.md"),
        include_str!("../../docs/install.md"),
        include_str!("../../docs/partner-center.md"),
    ] {
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains("Indirect resellers have no access to Partner Center's API"), "that belongs there");
    }
}
