//! The seam between rows and octets: questions about the text of one message, and who answers.
//!
//! Today every question is answered by reading the message ([`super::scan`]). An index over texts
//! comes in here: it answers what it knows, and leaves the rest to a scan.

use async_trait::async_trait;

use super::super::MailboxError;
use super::super::summary::Summary;
use super::text::Needle;
use crate::types::BlobId;

/// Where a text is looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the fields of this name of the message's header; lower case.
    Field(String),
    /// In the text parts.
    Body,
    /// In the text parts, the header and the headers of all parts.
    Anywhere,
}

/// Whether a text is there. In a field, the empty text asks whether the field is there.
#[derive(Debug)]
pub struct Question {
    /// Where.
    pub place: Place,
    /// What.
    pub needle: Needle,
}

/// A message that questions are asked about.
pub struct Message<'a> {
    /// Its octets.
    pub blob: BlobId,
    /// Their number.
    pub size: u64,
    /// What is known of it. Without parts when the row could not be read.
    pub summary: &'a Summary,
}

/// Questions about one message, and their answers as they are found.
pub struct Asking<'a> {
    questions: &'a [Option<Question>],
    open: Vec<usize>,
    answers: &'a mut [Option<bool>],
    enough: &'a (dyn Fn(&[Option<bool>]) -> bool + Sync),
    done: bool,
}

impl<'a> Asking<'a> {
    /// Asks the questions whose numbers are `open`; `enough` says when the answers so far decide.
    pub fn new(
        questions: &'a [Option<Question>],
        open: Vec<usize>,
        answers: &'a mut [Option<bool>],
        enough: &'a (dyn Fn(&[Option<bool>]) -> bool + Sync),
    ) -> Asking<'a> {
        Asking {
            questions,
            open,
            answers,
            enough,
            done: false,
        }
    }

    /// The questions without an answer, by their numbers.
    pub fn open(&self) -> impl Iterator<Item = (usize, &'a Question)> + '_ {
        let questions = self.questions;
        let one = |number: usize| questions.get(number)?.as_ref().map(|q| (number, q));
        self.open.iter().filter_map(move |number| one(*number))
    }

    /// Answers one.
    pub fn answer(&mut self, number: usize, yes: bool) {
        self.open.retain(|open| *open != number);
        self.answers[number] = Some(yes);
        self.done = self.open.is_empty() || (self.enough)(self.answers);
    }

    /// The answer to one, once its message was read as far as it had to be: a text that was not
    /// found is not there, unless the others were enough before. `None`: nobody knows.
    pub fn outcome(&self, number: usize) -> Option<bool> {
        match self.answers[number] {
            None if !self.done => Some(false),
            told => told,
        }
    }

    /// Whether nothing more need be found out.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Answers all that are left with no.
    pub fn deny_rest(&mut self) {
        for number in std::mem::take(&mut self.open) {
            self.answers[number] = Some(false);
        }
        self.done = true;
    }
}

/// Why questions have no answer.
#[derive(Debug)]
pub enum Lost {
    /// The octets are damaged and no replica had good ones, or they are gone with their message.
    Octets(String),
    /// They cannot be read now.
    Failed(MailboxError),
}

/// Who knows texts.
#[async_trait]
pub trait FullText: Send + Sync {
    /// Answers the open questions until that is enough. A question that is left open is answered
    /// with no.
    async fn ask(&self, message: &Message<'_>, asking: &mut Asking<'_>) -> Result<(), Lost>;
}
