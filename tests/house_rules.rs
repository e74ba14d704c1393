//! House rules that a compiler does not know: who may know whom, where the world is touched, and
//! that every file says what it is for. Reads the sources of all crates.
//!
//! Each rule has a test of its own that it can fail: rules that find nothing prove nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use posthouse_tests::binaries::repository;

/// Sources in a folder, or one file, by path from the root of the repository.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let start = repository().join(folder);
    if start.is_file() {
        found.insert(name(&start), std::fs::read_to_string(&start).unwrap());
    }
    let mut folders = vec![start];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with(".git") => {}
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => {
                    found.insert(name(&path), std::fs::read_to_string(&path).unwrap());
                }
                false => {}
            }
        }
    }
    found
}

/// The product's part of these sources: without files that are test modules.
fn product(sources: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut tests = BTreeSet::new();
    for (path, source) in &sources {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            file => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        for (at, mark) in source.match_indices("#[cfg(test)]\n") {
            let rest = source[at + mark.len()..].trim_start_matches("pub(crate) ");
            let Some(rest) = rest.strip_prefix("mod ") else {
                continue;
            };
            if let Some((module, _)) = rest.split_once(';').filter(|(m, _)| !m.contains('{')) {
                tests.insert(format!("{folder}/{module}"));
            }
        }
    }
    let is_test = |path: &str| {
        tests.iter().any(|t| {
            path.strip_prefix(t.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    sources
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .collect()
}

fn name(path: &Path) -> String {
    let path = path.strip_prefix(repository()).unwrap_or(path);
    path.to_string_lossy().into_owned()
}

/// The product's part of a source: without comments, and without the tests at its end.
fn code(source: &str) -> String {
    // A test module in a file of its own (`mod golden;`) hides nothing that follows it.
    let tests = source
        .match_indices("#[cfg(test)]\nmod ")
        .find(|(at, mark)| {
            let rest = &source[at + mark.len()..];
            rest.find(['{', ';'])
                .is_some_and(|at| rest[at..].starts_with('{'))
        });
    let product = &source[..tests.map_or(source.len(), |(at, _)| at)];
    let lines = product
        .lines()
        .filter(|l| !l.trim_start().starts_with("//"));
    lines
        .map(|l| l.split(" // ").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// What stands directly after `crate::`, also inside `crate::{a, b::{c, d}}`: a module and, where
/// it is plain to see, the part of it that is used, e.g. `env::disk`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c| is_name(c) || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
        let first = |text: &str| {
            let module = name(text);
            let part = text[module.len()..]
                .strip_prefix("::")
                .map(name)
                .unwrap_or_default();
            if part.is_empty() {
                module
            } else {
                format!("{module}::{part}")
            }
        };
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(first(rest));
            continue;
        };
        let (mut depth, mut fresh) = (0, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                c if fresh && is_name(c) => {
                    used.insert(first(&list[i..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    used
}

/// Inside the node, imports run downwards alone (node/ARCHITECTURE.md). Modules of one rank may
/// know each other; names that are no module (types of the root) have no rank.
const RANKS: [(&str, u32); 13] = [
    ("main", 9),
    ("node", 9),
    ("api", 7),
    ("workers", 6),
    ("mailbox", 5),
    ("raft", 4),
    ("transport", 4),
    ("machine", 3),
    ("blobs", 3),
    ("journal", 2),
    ("index", 2),
    ("placement", 4),
    ("env", 1),
];

/// Arrows that look upwards and are meant: who, to which module and part of it, and why.
const EXCEPTIONS: [(&str, &str, &str); 8] = [
    ("env", "index", "the world is handed in with its index"),
    (
        "index",
        "machine::command",
        "rows are made of the types of the commands",
    ),
    (
        "blobs",
        "machine::read",
        "a blob is found through the rows of its shard",
    ),
    (
        "blobs",
        "mailbox::route",
        "implements the trait by which mailbox reads blobs",
    ),
    (
        "blobs",
        "transport::snapshot",
        "implements the trait by which transport reads chunks",
    ),
    (
        "blobs",
        "raft::state_machine",
        "asks for the key space of a shard",
    ),
    (
        "raft",
        "workers::space",
        "writers ask whether there is space",
    ),
    (
        "transport",
        "workers::space",
        "writers ask whether there is space",
    ),
];

fn rank(module: &str) -> Option<u32> {
    RANKS
        .iter()
        .find(|(m, _)| *m == module)
        .map(|(_, rank)| *rank)
}

fn module_of(path: &str) -> Option<String> {
    let rest = path.strip_prefix("node/src/")?;
    let first = rest.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first).to_owned())
}

fn upward_imports(path: &str, source: &str) -> Vec<String> {
    let Some(from) = module_of(path) else {
        return Vec::new();
    };
    let Some(own) = rank(&from) else {
        return Vec::new();
    };
    let is_meant = |to: &str| {
        let fits = |allowed: &str| to == allowed || to.starts_with(&format!("{allowed}::"));
        EXCEPTIONS
            .iter()
            .any(|(who, allowed, _)| *who == from && fits(allowed))
    };
    let is_upward = |to: &String| {
        let module = to.split("::").next().unwrap_or_default();
        rank(module).is_some_and(|theirs| theirs > own) && !is_meant(to)
    };
    let used = modules_used(&code(source));
    used.into_iter()
        .filter(is_upward)
        .map(|to| format!("{path}: {from} knows {to}"))
        .collect()
}

#[test]
fn imports_run_downwards_inside_the_node() {
    let wrong: Vec<String> = product(sources("node/src"))
        .iter()
        .flat_map(|(p, s)| upward_imports(p, s))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let bad = "use crate::types::X;\nuse crate::{env::Env, api::{a, b}};";
    assert_eq!(
        upward_imports("node/src/journal/mod.rs", bad),
        ["node/src/journal/mod.rs: journal knows api"]
    );
}

/// What a folder must not name, and why.
const STRANGERS: [(&str, &[&str], &str); 4] = [
    (
        "client/src",
        &["posthouse_node", "posthouse_gateway", "rocksdb", "openraft"],
        "the client knows the contract alone",
    ),
    (
        "client/gateway/src",
        &["posthouse_node", "rocksdb", "openraft"],
        "doors know the cluster through the client library alone",
    ),
    (
        "node/src/machine",
        &[
            "tokio",
            "rand::",
            "std::time",
            "std::net",
            "std::fs",
            "crate::env",
            "HashMap",
            "HashSet",
            "async fn",
        ],
        "the machine is pure: times, ids and order come in the command",
    ),
    (
        "node/src/placement/plan.rs",
        &["tokio", "std::fs", "std::net", "async fn"],
        "plans are pure",
    ),
];

fn strangers(folder: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (rule, names, why) in STRANGERS.iter().filter(|(f, ..)| *f == folder) {
        assert_eq!(*rule, folder);
        for (path, source) in sources {
            let code = code(source);
            for name in names.iter().filter(|n| code.contains(**n)) {
                wrong.push(format!("{path}: {name}: {why}"));
            }
        }
    }
    wrong
}

#[test]
fn nobody_knows_strangers() {
    for (folder, ..) in STRANGERS {
        let wrong = strangers(folder, &product(sources(folder)));
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    let bad = [("client/src/x.rs".to_owned(), "use rocksdb::DB;".to_owned())].into();
    assert_eq!(strangers("client/src", &bad).len(), 1);
}

/// The same arrows in the manifests: what is not a dependency cannot be imported by accident.
#[test]
fn crates_depend_downwards() {
    let allowed: [(&str, &[&str]); 3] = [
        ("client", &[]),
        ("client/gateway", &["posthouse-client"]),
        ("node", &["posthouse-client", "posthouse-gateway"]),
    ];
    for (folder, allowed) in allowed {
        let manifest = repository().join(folder).join("Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        let dependencies = text.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let ours = dependencies.lines().filter(|l| l.starts_with("posthouse-"));
        for line in ours {
            let name: String = line.chars().take_while(|c| !" .=".contains(*c)).collect();
            assert!(
                allowed.contains(&name.as_str()),
                "{folder} depends on {name}"
            );
        }
    }
}

/// Calls that reach the world, and the places where they may stand. The lints know most of them
/// too; this also sees what a lint cannot resolve.
const AMBIENT: [&str; 9] = [
    "SystemTime::now",
    "std::time::Instant",
    "std::fs::",
    "tokio::fs",
    "TcpListener::bind",
    "TcpStream::connect",
    "thread::sleep",
    "rand::rng",
    "spawn_blocking",
];

const MAY_TOUCH_THE_WORLD: [&str; 3] =
    ["node/src/env/", "node/src/index/rocks", "node/src/main.rs"];

fn ambient_calls(path: &str, source: &str) -> Vec<String> {
    if MAY_TOUCH_THE_WORLD
        .iter()
        .any(|start| path.starts_with(start))
    {
        return Vec::new();
    }
    let code = code(source);
    AMBIENT
        .iter()
        .filter(|c| code.contains(**c))
        .map(|c| format!("{path}: {c}"))
        .collect()
}

#[test]
fn the_node_touches_the_world_in_env_alone() {
    let wrong: Vec<String> = product(sources("node/src"))
        .iter()
        .flat_map(|(p, s)| ambient_calls(p, s))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let bad = "fn f() { let t = SystemTime::now(); }";
    assert_eq!(ambient_calls("node/src/raft/mod.rs", bad).len(), 1);
    assert!(ambient_calls("node/src/env/clock.rs", bad).is_empty());
    assert!(ambient_calls("node/src/raft/mod.rs", &format!("// {bad}")).is_empty());
}

/// Rust sources of all crates.
fn all_sources() -> BTreeMap<String, String> {
    let folders = ["client", "node", "sim", "tests"];
    let sources: BTreeMap<_, _> = folders.iter().flat_map(|f| sources(f)).collect();
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = all_sources()
        .into_iter()
        .filter(|(_, s)| !s.starts_with("//! "))
        .map(|(p, _)| p)
        .collect();
    assert!(silent.is_empty(), "without a //! header: {silent:#?}");
}

#[test]
fn no_file_is_a_drawer() {
    let long: Vec<String> = all_sources()
        .into_iter()
        .map(|(path, source)| (source.lines().count(), path))
        .filter(|(lines, _)| *lines > 900)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "too long, one idea a file: {long:#?}");
}

#[test]
fn nothing_is_half_done() {
    // Written in two parts, so that this file does not find itself.
    let marks = ["todo", "unimplemented", "dbg"].map(|m| format!("{m}!("));
    let mut found = Vec::new();
    for (path, source) in all_sources() {
        for (n, line) in source.lines().enumerate() {
            if marks.iter().any(|m| line.contains(m.as_str())) {
                found.push(format!("{path}:{}: {}", n + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn libraries_document_what_they_offer() {
    for library in ["client", "client/gateway", "node", "tests"] {
        let path: PathBuf = repository().join(library).join("src/lib.rs");
        let source = std::fs::read_to_string(&path).unwrap();
        assert!(
            source.contains("#![deny(missing_docs)]"),
            "{}",
            path.display()
        );
    }
}

/// A fault that cannot be put back any more tells nothing of the simulator.
#[test]
fn every_mutation_still_applies() {
    let applies = |patch: &Path| {
        let git = ["apply", "--check"];
        let mut check = std::process::Command::new("git");
        let told = check.args(git).arg(patch).current_dir(repository());
        told.status().unwrap().success()
    };
    let folder = repository().join("sim/mutations");
    let entries = std::fs::read_dir(folder).unwrap();
    let patches: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "patch"))
        .collect();
    assert!(patches.len() >= 20, "the mutations were not found");
    let rotten: Vec<_> = patches.iter().filter(|patch| !applies(patch)).collect();
    assert!(rotten.is_empty(), "write them anew: {rotten:#?}");
    let bad = "--- a/README.md\n+++ b/README.md\n@@ -1,1 +1,1 @@\n-not there\n+x\n";
    let file = std::env::temp_dir().join(format!("rotten-{}.patch", std::process::id()));
    std::fs::write(&file, bad).unwrap();
    let found = applies(&file);
    std::fs::remove_file(&file).unwrap();
    assert!(!found);
}

#[test]
fn tests_are_told_from_the_product() {
    let source =
        "mod a;\n#[cfg(test)]\nmod golden;\nuse crate::api;\n#[cfg(test)]\nmod tests {\n x }";
    assert!(
        code(source).ends_with("use crate::api;"),
        "{}",
        code(source)
    );
    let paths = [
        "x/mod.rs",
        "x/golden.rs",
        "x/golden/a.rs",
        "x/tests/model.rs",
        "x/real.rs",
    ];
    let mut sources: BTreeMap<_, _> = paths.map(|p| (p.to_owned(), String::new())).into();
    let declared = "#[cfg(test)]\nmod golden;\n#[cfg(test)]\nmod tests;\npub mod real;";
    sources.insert("x/mod.rs".to_owned(), declared.to_owned());
    let left: Vec<String> = product(sources).into_keys().collect();
    assert_eq!(left, ["x/mod.rs", "x/real.rs"]);
}
