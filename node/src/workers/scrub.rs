//! interim
/// Scrub.
pub struct Scrub;
impl Scrub {
    /// Runs.
    pub async fn run(&self) -> anyhow::Result<posthouse_client::proto::ScrubResponse> {
        Ok(Default::default())
    }
}
