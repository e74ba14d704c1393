//! A call of the client library ends by its deadline, with an answer or without one.
//!
//! Source: `posthouse_client::Client::with_deadline`. What has not ended seconds later was waited for
//! in vain, and a front end would wait like this for ever.

use super::{Findings, Invariant};
use crate::history::{Answer, Record};
use crate::workload::GIVEN_UP;

const NAME: &str = "deadlines";

/// Calls end in time.
#[derive(Default)]
pub struct Deadlines;

impl Invariant for Deadlines {
    fn name(&self) -> &'static str {
        NAME
    }

    fn record(&mut self, record: &Record, found: &mut Findings) {
        if matches!(&record.answer, Answer::Unknown(why) if why == GIVEN_UP) {
            let ms = record.returned_ms - record.called_ms;
            let what = format!("{:?} has not ended {ms} ms after it began", record.call);
            found.report(NAME, None, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    #[test]
    fn calls_that_do_not_end_are_found() {
        let mut findings = Findings::default();
        for why in ["no leader answers in time", GIVEN_UP] {
            let mut record = mailboxes(10, 3, 4, 2);
            record.answer = Answer::Unknown(why.into());
            Deadlines.record(&record, &mut findings);
        }
        assert_eq!(findings.violations.len(), 1);
    }
}
