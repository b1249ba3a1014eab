//! `schemas/vetwatch.toml.schema.json`, which editors use, has the keys that the program reads, with their types.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::Value;

use super::*;

const SCHEMA: &str = include_str!("../../../schemas/vetwatch.toml.schema.json");

/// Each kind of everything. Files are missing, and what is required, too: the keys are read nevertheless.
const ALL_KINDS: &str = "
    [database]
    [schedule]
    [overdue]
    [retry]
    [retention]
    [log]
    [summary]
    [backup]
    [standby]
    client_key_file = 'x'
    [web]
    trusted_proxy = {}
    [operators]
    [[route]]
    [[partner]]
    credential.kind = 'client-secret'
    user_credential.kind = 'refresh-token'
    [[partner]]
    credential.kind = 'certificate'
    [[partner]]
    credential.kind = 'workload-identity'
    [[partner]]
    credential = { kind = 'refresh-token', client_secret_file = 'x' }
    user_credential = { kind = 'refresh-token', client_secret_file = 'x' }
    [[partner]]
    credential = { kind = 'refresh-token', certificate_file = 'x', private_key_file = 'x' }
    user_credential = { kind = 'refresh-token', certificate_file = 'x', private_key_file = 'x' }
    [[partner]]
    credential.kind = 'managed-identity'
    [[partner]]
    credential = { kind = 'refresh-token', federated_token_file = 'x' }
    user_credential = { kind = 'refresh-token', federated_token_file = 'x' }
    [[partner]]
    credential = { kind = 'refresh-token', managed_identity_client_id = 'x' }
    user_credential = { kind = 'refresh-token', managed_identity_client_id = 'x' }
    [smtp.password]
    username = 'x'
    [smtp.secret.oauth]
    client_secret_file = 'x'
    [smtp.certificate.oauth]
    certificate_file = 'x'
    private_key_file = 'x'
    [smtp.federated.oauth]
    federated_token_file = 'x'
    [smtp.managed.oauth]
    managed_identity_client_id = 'x'
    [[endpoint]]
    kind = 'email'
    [[endpoint]]
    kind = 'webhook'
    secret_file = 'x'
    template_file = 'x'
    content_type = 'x'
    client_key_file = 'x'
    [[endpoint]]
    kind = 'ntfy'
    topic_file = 'x'
    [[endpoint]]
    kind = 'ntfy'
    topic = 'x'
";

/// `endpoint[2].url` is `endpoint.url`, and `smtp.office.host` is `smtp.*.host`.
fn pattern(path: &str) -> String {
    let mut parts: Vec<_> = path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect();
    if parts[0] == "smtp" && parts.len() > 1 {
        parts[1] = "*";
    }
    parts.join(".")
}

/// The types of the schema's keys, without those of sections.
fn types(path: &str, schema: &Json, found: &mut BTreeMap<String, String>) {
    let section = if schema["items"]["properties"].is_object() { &schema["items"] } else { schema };
    if let Some(properties) = section["properties"].as_object() {
        for (key, schema) in properties {
            types(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, schema, found);
        }
    } else if section["additionalProperties"].is_object() {
        types(&format!("{path}.*"), &section["additionalProperties"], found);
    } else {
        let of = |schema: &Json| match schema["type"].as_str() {
            Some(name) => name.to_owned(),
            None if schema["anyOf"].is_array() => "any".to_owned(),
            None => "string".to_owned(),
        };
        let items = if section["items"].is_object() { format!(" of {}", of(&section["items"])) } else { String::new() };
        found.insert(path.to_owned(), format!("{}{items}", of(section)));
    }
}

fn schema() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    types("", &serde_json::from_str(SCHEMA).unwrap(), &mut found);
    found
}

fn read(text: &str) -> Report {
    let report = Report::default();
    let credentials = CredentialDirs::only("/no/such");
    let context = Context { report: &report, directory: Path::new("/no/such"), credentials: &credentials };
    super::super::read(Section::new(&context, String::new(), text.parse().unwrap()));
    report
}

#[test]
fn the_schema_has_the_keys_that_are_read_and_no_others() {
    let report = read(ALL_KINDS);
    let sections = [
        "database",
        "schedule",
        "overdue",
        "retry",
        "retention",
        "log",
        "summary",
        "backup",
        "standby",
        "web",
        "operators",
        "route",
        "partner",
    ];
    let inner =
        ["smtp", "endpoint", "partner.credential", "partner.user_credential", "smtp.*.oauth", "web.trusted_proxy"];
    let sections = sections.iter().chain(&inner);
    let mut keys: Vec<_> = report.keys.borrow().iter().map(|path| pattern(path)).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| !sections.clone().any(|section| section == key));
    assert_eq!(keys, schema().into_keys().collect::<Vec<_>>());
}

/// Sets the key in every section of its kind.
fn set(value: &mut Value, path: &[&str], wrong: &Value) {
    match (value, path) {
        (Value::Array(items), _) => items.iter_mut().for_each(|item| set(item, path, wrong)),
        (Value::Table(table), ["*", rest @ ..]) => table.iter_mut().for_each(|(_, value)| set(value, rest, wrong)),
        (Value::Table(table), [key]) => {
            table.insert((*key).to_owned(), wrong.clone());
        }
        (Value::Table(table), [key, rest @ ..]) => {
            if let Some(value) = table.get_mut(*key) {
                set(value, rest, wrong);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_has_the_types_that_are_read() {
    let day = Value::Datetime("2027-01-31".parse().unwrap());
    for (key, of) in schema() {
        let wanted = match of.as_str() {
            "string" => "must be text in quotes",
            "integer" => "must be a whole number",
            "boolean" => "must be true or false",
            "array of integer" => "= [3]",
            "any" => continue,
            _ => "= [\"…\"]",
        };
        let mut table = Value::Table(ALL_KINDS.parse().unwrap());
        set(&mut table, &key.split('.').collect::<Vec<_>>(), &day);
        let report = read(&toml::to_string(&table).unwrap());
        let problems = report.finish("vetwatch.toml".into(), &Places::default(), None::<()>).unwrap_err().problems;
        let said = problems.iter().filter(|problem| pattern(&problem.path) == key && problem.text.contains(wanted));
        assert!(said.count() > 0, "{key} is {of} in the schema: {problems:#?}");
    }
}

/// The words of the schema's keys that have a fixed set.
fn words(path: &str, schema: &Json, found: &mut BTreeMap<String, Vec<String>>) {
    if let Some(known) = schema["enum"].as_array() {
        found.insert(path.to_owned(), known.iter().map(|word| word.as_str().unwrap().to_owned()).collect());
    }
    let sections = [&schema["items"], &schema["additionalProperties"], schema];
    let name = if schema["additionalProperties"].is_object() { format!("{path}.*") } else { path.to_owned() };
    for (key, below) in sections.iter().flat_map(|section| section["properties"].as_object().into_iter().flatten()) {
        words(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, below, found);
    }
    if schema["items"]["enum"].is_array() {
        words(path, &schema["items"], found);
    }
}

#[test]
fn the_schema_has_the_words_that_are_read() {
    let mut of_schema = BTreeMap::new();
    words("", &serde_json::from_str(SCHEMA).unwrap(), &mut of_schema);
    assert!(of_schema.len() >= 8, "{of_schema:?}");
    for (key, known) in of_schema {
        let wrong = Value::String("zzz".to_owned());
        let is_list = schema()[&key].starts_with("array");
        let wrong = if is_list { Value::Array(vec![wrong]) } else { wrong };
        let mut table = Value::Table(ALL_KINDS.parse().unwrap());
        set(&mut table, &key.split('.').collect::<Vec<_>>(), &wrong);
        let report = read(&toml::to_string(&table).unwrap());
        let problems = report.finish("vetwatch.toml".into(), &Places::default(), None::<()>).unwrap_err().problems;
        // `zzz is not one of a, b`, `there is no kind zzz, only a, b`, `zzz is not a kind for a user: write kind = "a"`
        let said = problems.iter().find(|problem| pattern(&problem.path) == key && problem.text.contains("zzz"));
        let said = &said.unwrap_or_else(|| panic!("{key}: {problems:#?}")).text;
        let list = ["one of ", "only ", "write kind = \""].iter().find_map(|before| said.split_once(before)).unwrap().1;
        let list = list.trim_end_matches('"');
        let mut read: Vec<_> = list.split(", ").map(str::to_owned).collect();
        let mut known = known;
        read.sort();
        known.sort();
        assert_eq!(read, known, "{key}: {said}");
    }
}
