//! The walls between the parts: the rules do no I/O, and no module depends on itself through others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Tests, and the targets of the fuzzers, which are in no program.
fn is_test(path: &Path) -> bool {
    ["tests", "fuzzing"].iter().any(|name| path.to_str().unwrap().contains(name))
}

/// Which top-level modules each of them names with `crate::`, tests left out.
fn arrows(crate_root: &str) -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(crate_root);
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().iter().next().unwrap().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    };
    let modules: BTreeSet<String> = files.iter().map(|path| module(path)).filter(|name| name != "lib").collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files.iter().filter(|path| !is_test(path) && module(path) != "lib") {
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for rest in text.split("crate::").skip(1) {
            let list = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            let named = list.map_or_else(|| vec![rest], |list| list.split(',').map(str::trim).collect());
            for name in named {
                let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if modules.contains(&name) && name != module(path) {
                    arrows.entry(module(path)).or_default().insert(name);
                }
            }
        }
    }
    arrows
}

#[test]
fn no_module_depends_on_itself_through_others() {
    for root in ["src", "crates/core/src", "crates/partner-center/src", "crates/sandbox/src"] {
        let mut arrows = arrows(root);
        // What points nowhere is in no circle.
        loop {
            let before = arrows.len();
            let names: BTreeSet<String> = arrows.keys().cloned().collect();
            for targets in arrows.values_mut() {
                targets.retain(|target| names.contains(target));
            }
            arrows.retain(|_, targets| !targets.is_empty());
            if arrows.len() == before {
                break;
            }
        }
        assert!(arrows.is_empty(), "{root}: {arrows:#?}");
    }
}

#[test]
fn the_rules_do_no_io() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/core/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies = manifest["dependencies"].as_table().unwrap();
    for io in ["tokio", "sqlx", "reqwest", "hyper", "lettre", "axum", "tracing", "rustls"] {
        assert!(!dependencies.contains_key(io), "crates/core depends on {io}");
    }
}
