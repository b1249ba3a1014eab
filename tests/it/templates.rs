//! A template of the administrator's cannot take all memory.

use std::fs;

use crate::process::{DaemonHarness, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_takes_all_memory_is_named_by_check_and_starts_no_daemon() {
    let more = "\n[[endpoint]]\nname = \"desk\"\nkind = \"webhook\"\nurl = \"https://desk.example/\"\ntemplate_file = \"desk.json\"\n";
    let town = DaemonHarness::new("in_review = \"1h\"", more).await;
    let file = town.folder.path().join("desk.json");
    fs::write(&file, "{\"text\": {{ message.subject }}}").unwrap();
    let good = town.run_beside(&["check"]).await;
    assert!(good.status.success(), "{}", complaint(&good));
    let doubled = "{% set a = 'x' %}".to_owned() + &"{% set a = a ~ a %}".repeat(40) + "{{ a }}";
    let captured = "{% set a = 'x' %}".to_owned() + &"{% set a %}{{ a }}{{ a }}{% endset %}".repeat(40) + "{{ a }}";
    let joined = "{% set a = 'x' %}".to_owned() + &"{% set a = [a, a, a, a]|join(a) %}".repeat(20) + "{{ a }}";
    let replaced = "{% set a = 'xx' %}".to_owned() + &"{% set a = a|replace('x', a) %}".repeat(8) + "{{ a }}";
    let wide = "{{ '%1000000000s'|format('x') }}".to_owned();
    for template in [doubled, captured, joined, replaced, wide] {
        fs::write(&file, &template).unwrap();
        let line =
            fs::read_to_string(&town.config).unwrap().lines().position(|line| line.contains("desk.json")).unwrap() + 1;
        for command in ["check", "run"] {
            let output = town.run_beside(&[command]).await;
            let said = complaint(&output);
            assert_eq!(output.status.code(), Some(78), "{command} {template:.60}: {said}");
            let flaw = format!("vetwatch.toml:{line}: endpoint \"desk\": template_file: it takes too much memory");
            assert!(said.contains(&flaw), "{said}");
        }
    }
}
