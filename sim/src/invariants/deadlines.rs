//! A call of the client library ends by its deadline, with an answer or without one.
//!
//! Source: `posthouse_client::Client::with_deadline`. What has not ended seconds later was waited for
//! in vain, and a front end would wait like this for ever. Nothing is said of what the library does
//! in several calls, or hands out as it comes: there each step has the deadline for itself. A fetch has
//! begun by then.

use super::{Findings, Invariant};
use crate::history::{Answer, Call, Record};
use crate::workload::{GIVEN_UP, NOT_BEGUN};

const NAME: &str = "deadlines";

/// Calls end in time.
#[derive(Default)]
pub struct Deadlines;

impl Invariant for Deadlines {
    fn name(&self) -> &'static str {
        NAME
    }

    fn record(&mut self, record: &Record, found: &mut Findings) {
        let late = match &record.answer {
            Answer::Unknown(why) if why.contains(NOT_BEGUN) => true,
            Answer::Unknown(why) => why == GIVEN_UP && is_one(&record.call),
            _ => false,
        };
        if late {
            let ms = record.returned_ms - record.called_ms;
            let what = format!("{:?} has not ended {ms} ms after it began", record.call);
            found.report(NAME, None, what);
        }
    }
}

/// Whether this is one call of the library, with one answer.
fn is_one(call: &Call) -> bool {
    match call {
        Call::Carry { to_account, .. } => to_account.is_none(),
        Call::Fetch { .. }
        | Call::List { .. }
        | Call::Search { .. }
        | Call::Sort { .. }
        | Call::Thread { .. }
        | Call::Accounts
        | Call::Maildrop { .. }
        | Call::Follow { .. }
        | Call::Stay { .. } => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    #[test]
    fn calls_that_do_not_end_are_found() {
        let mut findings = Findings::default();
        let not_begun = format!("deadline passed: {NOT_BEGUN}");
        for why in ["no leader answers in time", GIVEN_UP, &not_begun] {
            let mut record = mailboxes(10, 3, 4, 2);
            record.answer = Answer::Unknown(why.into());
            Deadlines.record(&record, &mut findings);
            // It may take its time, once it has begun.
            let mut list = list(10, 3, Vec::new());
            list.answer = record.answer;
            Deadlines.record(&list, &mut findings);
        }
        assert_eq!(findings.violations.len(), 3);
    }
}
