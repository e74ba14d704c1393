//! Which sources a run was made by: a seed draws the same plan, and a plan runs the same way, only there.

/// The package's version, and the commit that was built if the build could tell (`build.rs`).
pub fn version() -> &'static str {
    env!("POSTHOUSE_SIM_VERSION")
}
