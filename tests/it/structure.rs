//! The house keeps its order: imports point one way, and what is dangerous stands in one place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Each part of the crate, and the parts it may know. `crate::x` anywhere in a part's files counts as knowing `x`.
const MAY_KNOW: [(&str, &[&str]); 25] = [
    ("event", &[]),
    ("outcome", &[]),
    ("secret", &[]),
    ("shortage", &[]),
    ("visitor", &["secret"]),
    ("failpoint", &[]),
    ("http_server", &[]),
    ("names", &["shortage"]),
    ("roots", &["shortage"]),
    ("egress", &["names", "outcome"]),
    ("config", &["egress", "secret"]),
    ("keyring", &["secret"]),
    ("delivery", &["egress", "event", "names", "outcome", "roots", "secret", "shortage"]),
    ("store", &["config", "event", "names", "outcome", "roots", "secret", "shortage"]),
    ("pipeline", &["config", "delivery", "egress", "event", "keyring", "outcome", "secret", "shortage", "store"]),
    (
        "dispatch",
        &[
            "config",
            "delivery",
            "event",
            "failpoint",
            "keyring",
            "metrics",
            "outcome",
            "pipeline",
            "shortage",
            "store",
            "visitor",
        ],
    ),
    (
        "control",
        &["delivery", "dispatch", "egress", "event", "keyring", "outcome", "pipeline", "secret", "store", "visitor"],
    ),
    ("metrics", &["outcome"]),
    (
        "admin",
        &[
            "config",
            "control",
            "delivery",
            "dispatch",
            "egress",
            "event",
            "http_server",
            "keyring",
            "metrics",
            "outcome",
            "pipeline",
            "secret",
            "store",
        ],
    ),
    ("shutdown", &[]),
    ("telemetry", &["config"]),
    (
        "daemon",
        &[
            "admin",
            "config",
            "delivery",
            "dispatch",
            "keyring",
            "metrics",
            "pipeline",
            "shortage",
            "shutdown",
            "store",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "control",
            "daemon",
            "delivery",
            "dispatch",
            "egress",
            "event",
            "http_server",
            "keyring",
            "outcome",
            "pipeline",
            "secret",
            "shortage",
            "shutdown",
            "store",
            "telemetry",
            "visitor",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every source file by its path below `src`, without its unit tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code)
        })
        .filter(|(name, _)| !name.ends_with("tests.rs"))
        .collect()
}

fn part_of(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap()
}

/// The parts that `code` names behind `crate::`, in `use crate::{a, b::c}` too.
fn known(code: &str) -> Vec<&'static str> {
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    MAY_KNOW
        .iter()
        .map(|(part, _)| *part)
        .filter(|part| {
            code.split("crate::").skip(1).any(|rest| match rest.strip_prefix('{') {
                Some(group) => top_level_names(group).iter().any(|name| name == part),
                None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next() == Some(part),
            })
        })
        .collect()
}

fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut name, mut names) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            c if depth == 0 && !c.is_whitespace() => name.push(c),
            _ => {}
        }
    }
    names.push(name);
    names.into_iter().map(|name| name.split("::").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (name, code) in sources() {
        let part = part_of(&name);
        let (_, may_know) =
            MAY_KNOW.iter().find(|(known, _)| *known == part).unwrap_or_else(|| panic!("{part} is new"));
        for other in known(&code) {
            if other != part && !may_know.contains(&other) {
                wrong.push(format!("{name} knows {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_dangerous_library_stands_in_its_place() {
    let places: [(&str, &[&str]); 4] = [
        ("tokio_postgres", &["store/", "config/database_url.rs"]),
        ("reqwest", &["delivery/client.rs"]),
        ("aes_gcm", &["keyring"]),
        ("std::env::", &["config/"]),
    ];
    let mut wrong = Vec::new();
    for (name, code) in sources() {
        for (library, allowed) in places {
            let uses = code.lines().any(|line| line.contains(library) && !line.trim_start().starts_with("//"));
            if uses && !allowed.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name} uses {library}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_outgrows_its_budget() {
    let long: Vec<String> = sources()
        .into_iter()
        .map(|(name, code)| (name, code.lines().count()))
        .filter(|(_, lines)| *lines > 400)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_test_that_the_guarantees_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guarantees = fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let named: Vec<(&str, &str)> = guarantees.split('`').filter_map(|word| word.rsplit_once("::")).collect();
    assert!(named.len() > 10, "{named:?}");
    for (module, test) in named.into_iter().filter(|(_, test)| *test != "test") {
        let code =
            fs::read_to_string(root.join(format!("tests/it/{}.rs", module.replace("::", "/")))).unwrap_or_default();
        assert!(code.contains(&format!("fn {test}(")), "{module}::{test}");
    }
}

/// Every crate that is compiled for the program on Linux, macros and build scripts included, itself left out.
fn crates_of_the_program() -> BTreeSet<String> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<_, _> = nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let root = metadata["resolve"]["root"].as_str().unwrap();
    let (mut found, mut next) = (BTreeSet::new(), vec![root]);
    while let Some(id) = next.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let name = dependency["pkg"].as_str().unwrap();
            if kinds.iter().any(|kind| kind["kind"] != "dev") && found.insert(name.to_owned()) {
                next.push(name);
            }
        }
    }
    found
}

#[test]
fn the_program_is_made_of_no_more_crates_than_the_readme_says() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("Fewer than ").unwrap();
    let most: usize = rest.split_whitespace().next().unwrap().parse().unwrap();
    let crates = crates_of_the_program();
    assert!((most - 50..most).contains(&crates.len()), "{} crates, and the README says {most}", crates.len());
}
