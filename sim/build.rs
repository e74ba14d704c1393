//! Tells the program which sources it is made of: a seed means the same run only to the same ones.
//!
//! The commit comes from `POSTHOUSE_COMMIT`, for those who build without a repository, or from git;
//! `-dirty` is added where what is built differs from the commit. Neither is needed to build.

use std::process::Command;

/// What a run depends on, seen from here.
const SOURCES: [&str; 6] = [
    "../.cargo/config.toml",
    "../Cargo.lock",
    "../Cargo.toml",
    "../client",
    "../node",
    ".",
];

fn main() {
    println!("cargo:rerun-if-env-changed=POSTHOUSE_COMMIT");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    // It grows with each commit and each checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let mut version = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(commit) = std::env::var("POSTHOUSE_COMMIT").ok().or_else(commit) {
        version += &format!("+{commit}");
    }
    println!("cargo:rustc-env=POSTHOUSE_SIM_VERSION={version}");
}

fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(match changed.is_empty() {
        true => commit,
        false => format!("{commit}-dirty"),
    })
}

/// What git says in the directory of this package; none where it is not there or knows nothing.
fn git(args: &[&str]) -> Option<String> {
    let told = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    told.status.success().then(|| text.trim().to_owned())
}
