//! Where the programs under test are: beside the running test, in the same target directory.

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
    let test = std::env::current_exe()?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("no target directory")?;
    let path = profile.join(name);
    ensure!(
        path.is_file(),
        "{} is not there: build it first (cargo build --release --workspace --all-targets, or \
         tests/run)",
        path.display()
    );
    Ok(path)
}
