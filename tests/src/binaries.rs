//! Where the programs under test are: in the same target directory as the running one.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// The program of this name, e.g. `posthoused` or `examples/lmtp_fake`.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    // Tests are in a directory of their own below the one with the programs.
    let this = std::env::current_exe()?;
    let beside = this.parent().context("no target directory")?;
    let above = beside.parent().context("no target directory")?;
    let path = match beside.join(name) {
        path if path.is_file() => path,
        _ => above.join(name),
    };
    ensure!(
        path.is_file(),
        "{} is not there: build it first (cargo build --release --workspace --all-targets, or \
         tests/run)",
        path.display()
    );
    Ok(path)
}
