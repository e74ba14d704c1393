//! The timeline as one HTML file that needs nothing else: style, script and data are inside.
//!
//! The data is JSON in a script element of a type that browsers do not run; every `<` in it is
//! written as `\u003c`, so that no text of a run can end the element (HTML standard, section 4.12.1.3,
//! "Restrictions for contents of script elements").

use serde_json::json;

use super::lanes::end_of;
use crate::outcome::Outcome;
use crate::version::version;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page of a run.
pub fn html(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let name = match plan.title.is_empty() {
        true => format!("seed {}", plan.seed),
        false => format!("{}, seed {}", plan.title, plan.seed),
    };
    let verdict = match outcome.violations.first() {
        None => "passed".to_owned(),
        Some(first) => format!("failed: {}", first.invariant),
    };
    let data = json!({
        "name": name,
        "verdict": verdict,
        "passed": outcome.passed(),
        "version": version(),
        "summary": plan.summary(),
        "nodes": plan.nodes,
        "shards": plan.shards,
        "end_ms": end_of(outcome),
        "violations": outcome.violations,
        "events": outcome.events,
        "stats": outcome.stats,
        "trace_hash": outcome.trace_hash,
        "plan": plan.to_toml(),
    });
    let data = data.to_string().replace('<', "\\u003c");
    let title = escaped(&format!("{name}: {verdict}"));
    // In this order: what is put in later cannot contain the mark of an earlier one.
    PAGE.replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{title}}", &title.replace("{{", "{ {"))
        .replace("{{data}}", &data)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::sample::sample;
    use super::*;

    #[test]
    fn one_file_with_everything_inside() {
        let page = html(&sample());
        assert!(page.starts_with("<!doctype html>"));
        for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("{{"), "a mark was not filled");
        // The text of a run ends no element: as many ends as the page itself has.
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("a &lt;/script&gt; title &amp; more"));
    }

    #[test]
    fn the_data_can_be_read_back() {
        let outcome = sample();
        let page = html(&outcome);
        let from = page.find("type=\"application/json\">").unwrap();
        let from = page[from..].find('>').unwrap() + from + 1;
        let to = page[from..].find("</script>").unwrap() + from;
        let data: serde_json::Value = serde_json::from_str(&page[from..to]).unwrap();
        let count = data["events"].as_array().unwrap().len();
        assert_eq!(count, outcome.events.len());
        assert_eq!(data["name"], format!("{}, seed 5", outcome.plan.title));
    }

    /// Writes the page of the sample, to be looked at: `SAMPLE_PAGE=file cargo test`.
    #[test]
    fn the_sample_can_be_looked_at() {
        if let Some(path) = std::env::var_os("SAMPLE_PAGE") {
            #[allow(clippy::disallowed_methods)]
            std::fs::write(path, html(&sample())).unwrap();
        }
    }
}
