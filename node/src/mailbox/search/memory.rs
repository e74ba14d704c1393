//! What searches have found out by reading messages, for the next one that asks the same.
//!
//! To read a message costs a search a hundred times what its rows cost. Programs ask the same again
//! and again: a folder that is a search, a rule about a field, the next page of matches. They are
//! read only what has come since.
//!
//! **Why that is never wrong.** An account gives each email's number once, and the octets behind it
//! never change; the account's own number is never given again. So what the octets answer to a
//! question holds for ever, at any replica. What could not be read, and what a summary that says
//! not all was needed for, is not remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use roaring::RoaringTreemap;

use super::fulltext::{Place, Question};
use crate::types::*;

/// What one question costs beside its texts and its emails.
const QUESTION_BYTES: usize = 1536;
/// Messages whose answers a search has for itself before it shares them.
const MESSAGES_AT_A_TIME: usize = 4096;
/// A search with more questions is not remembered: recalling them would cost as much as it saves.
const MAX_QUESTIONS: usize = 64;

/// A question about the emails of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    account: AccountId,
    place: Place,
    folded: Box<[u8]>,
}

/// The emails whose answer is known.
#[derive(Debug, Clone, Default)]
struct Known {
    yes: RoaringTreemap,
    no: RoaringTreemap,
}

impl Asked {
    fn bytes(&self) -> usize {
        let name = match &self.place {
            Place::Field(name) => name.len(),
            Place::Body | Place::Anywhere => 0,
        };
        QUESTION_BYTES + name + self.folded.len()
    }
}

impl Known {
    fn answer(&self, email: EmailId) -> Option<bool> {
        match self.yes.contains(email.0) {
            true => Some(true),
            false => self.no.contains(email.0).then_some(false),
        }
    }

    fn bytes(&self) -> usize {
        self.yes.serialized_size() + self.no.serialized_size()
    }
}

/// Answers in memory; those that were used least recently make room.
pub struct Memory {
    kept: Mutex<Kept>,
    limit: usize,
}

#[derive(Default)]
struct Kept {
    questions: BTreeMap<Arc<Asked>, Entry>,
    by_use: BTreeMap<u64, Arc<Asked>>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    known: Arc<Known>,
    bytes: usize,
    used: u64,
}

impl Memory {
    /// An empty one, for so many octets.
    pub fn new(limit: usize) -> Memory {
        Memory {
            kept: Mutex::default(),
            limit,
        }
    }

    /// Octets that are kept, counted anew.
    pub fn kept_bytes(&self) -> usize {
        let kept = self.kept.lock();
        kept.questions.values().map(|entry| entry.bytes).sum()
    }

    /// What is known of the answers to these questions of a search in an account.
    pub fn recall(
        self: &Arc<Self>,
        account: AccountId,
        questions: &[Option<Question>],
    ) -> Recalled {
        let mut kept = self.kept.lock();
        let few = questions.iter().flatten().count() <= MAX_QUESTIONS;
        let ones = questions.iter().filter(|_| few).map(|question| {
            let question = question.as_ref()?;
            let asked = Arc::new(Asked {
                account,
                place: question.place.clone(),
                folded: question.needle.folded().into(),
            });
            let known = kept.get(&asked).unwrap_or_default();
            Some(One {
                asked,
                known,
                learned: Known::default(),
            })
        });
        Recalled {
            ones: ones.collect(),
            learned: 0,
            memory: Arc::clone(self),
        }
    }

    /// Adds answers to a question; says what is known now. One question takes a quarter of all
    /// room at most.
    fn keep(&self, asked: &Arc<Asked>, learned: &Known) -> Arc<Known> {
        let mut kept = self.kept.lock();
        let mut known = kept.get(asked).unwrap_or_default();
        let all = Arc::make_mut(&mut known);
        all.yes |= &learned.yes;
        all.no |= &learned.no;
        let bytes = asked.bytes() + all.bytes();
        if bytes <= self.limit / 4 {
            kept.put(asked, Arc::clone(&known), bytes);
            while kept.bytes > self.limit && kept.forget_oldest() {}
        }
        known
    }
}

impl Kept {
    fn get(&mut self, asked: &Asked) -> Option<Arc<Known>> {
        let entry = self.questions.get_mut(asked)?;
        self.uses += 1;
        let asked = self.by_use.remove(&entry.used)?;
        entry.used = self.uses;
        self.by_use.insert(entry.used, asked);
        Some(Arc::clone(&entry.known))
    }

    fn put(&mut self, asked: &Arc<Asked>, known: Arc<Known>, bytes: usize) {
        self.uses += 1;
        let used = self.uses;
        self.by_use.insert(used, Arc::clone(asked));
        self.bytes += bytes;
        let entry = Entry { known, bytes, used };
        if let Some(before) = self.questions.insert(Arc::clone(asked), entry) {
            self.by_use.remove(&before.used);
            self.bytes -= before.bytes;
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, asked)) = self.by_use.pop_first() else {
            return false;
        };
        if let Some(entry) = self.questions.remove(&asked) {
            self.bytes -= entry.bytes;
        }
        true
    }
}

/// One question of a search.
struct One {
    asked: Arc<Asked>,
    known: Arc<Known>,
    learned: Known,
}

/// What a search recalls, and what it finds out: that is kept when it ends, however it does.
pub struct Recalled {
    /// By the numbers of the questions.
    ones: Vec<Option<One>>,
    /// Answers that are not shared yet.
    learned: usize,
    memory: Arc<Memory>,
}

impl Recalled {
    /// The answer for an email, if it is known.
    pub fn answer(&self, number: usize, email: EmailId) -> Option<bool> {
        self.ones.get(number)?.as_ref()?.known.answer(email)
    }

    /// Learns the answer for an email from its octets.
    pub fn learn(&mut self, number: usize, email: EmailId, yes: bool) {
        if let Some(Some(one)) = self.ones.get_mut(number) {
            let learned = match yes {
                true => &mut one.learned.yes,
                false => &mut one.learned.no,
            };
            learned.insert(email.0);
            self.learned += 1;
        }
        if self.learned >= MESSAGES_AT_A_TIME * self.ones.len() {
            self.keep();
        }
    }

    /// Keeps what was learned and recalls nothing any more: whoever reads the matches may be slow.
    pub fn end(&mut self) {
        self.keep();
        self.ones.clear();
    }

    /// Keeps what was learned for others.
    fn keep(&mut self) {
        self.learned = 0;
        for one in self.ones.iter_mut().flatten() {
            let learned = std::mem::take(&mut one.learned);
            if !learned.yes.is_empty() || !learned.no.is_empty() {
                one.known = self.memory.keep(&one.asked, &learned);
            }
        }
    }
}

impl Drop for Recalled {
    fn drop(&mut self) {
        self.keep();
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Needle;
    use super::*;

    const ANN: AccountId = AccountId(1);
    const BOB: AccountId = AccountId(2);

    fn body(text: &str) -> Option<Question> {
        Some(Question {
            place: Place::Body,
            needle: Needle::new(text),
        })
    }

    fn field(name: &str, text: &str) -> Option<Question> {
        Some(Question {
            place: Place::Field(name.to_owned()),
            needle: Needle::new(text),
        })
    }

    fn told(memory: &Arc<Memory>, account: AccountId, question: Option<Question>) -> Vec<bool> {
        let recalled = memory.recall(account, &[question]);
        let emails = (0..10).map(|email| recalled.answer(0, EmailId(email)));
        emails.flatten().collect()
    }

    #[test]
    fn an_answer_is_known_for_its_question_and_account_alone() {
        let memory = Arc::new(Memory::new(1 << 20));
        let mut recalled = memory.recall(ANN, &[None, body("Post"), field("x-a", "post")]);
        recalled.learn(0, EmailId(3), true);
        recalled.learn(1, EmailId(3), true);
        recalled.learn(1, EmailId(4), false);
        recalled.learn(2, EmailId(5), true);
        let nothing = [true; 0];
        assert_eq!(told(&memory, ANN, body("post")), nothing, "it is not over");
        drop(recalled);
        assert_eq!(told(&memory, ANN, body("pOST")), [true, false]);
        assert_eq!(told(&memory, ANN, field("x-a", "post")), [true]);
        assert_eq!(told(&memory, ANN, field("x-b", "post")), nothing);
        assert_eq!(told(&memory, ANN, body("pos")), nothing);
        assert_eq!(told(&memory, BOB, body("post")), nothing);
    }

    #[test]
    fn what_two_searches_learn_at_once_is_kept_of_both() {
        let memory = Arc::new(Memory::new(1 << 20));
        let mut one = memory.recall(ANN, &[body("x")]);
        let mut other = memory.recall(ANN, &[body("x"), body("x")]);
        one.learn(0, EmailId(1), true);
        other.learn(0, EmailId(2), true);
        other.learn(1, EmailId(3), false);
        drop((one, other));
        assert_eq!(told(&memory, ANN, body("x")), [true, true, false]);
    }

    #[test]
    fn the_questions_that_were_used_last_stay_within_the_limit() {
        let memory = Arc::new(Memory::new(5 * (QUESTION_BYTES + 100)));
        for n in 0..1000 {
            let text = format!("text {n}");
            let mut recalled = memory.recall(ANN, &[body(&text), body("always")]);
            recalled.learn(0, EmailId(n), true);
            recalled.learn(1, EmailId(n % 10), true);
            drop(recalled);
            let kept = memory.kept.lock();
            assert!(kept.bytes <= memory.limit && kept.questions.len() == kept.by_use.len());
            let sum: usize = kept.questions.values().map(|e| e.bytes).sum();
            assert_eq!(kept.bytes, sum);
        }
        assert_eq!(told(&memory, ANN, body("always")).len(), 10);
        assert!(told(&memory, ANN, body("text 5")).is_empty());
    }

    #[test]
    fn a_search_with_many_questions_is_not_remembered() {
        let memory = Arc::new(Memory::new(1 << 20));
        for count in [MAX_QUESTIONS, MAX_QUESTIONS + 1] {
            let questions: Vec<_> = (0..count).map(|n| body(&format!("{count} {n}"))).collect();
            let mut recalled = memory.recall(ANN, &questions);
            recalled.learn(3, EmailId(1), true);
            recalled.end();
            assert_eq!(recalled.answer(3, EmailId(1)), None);
            let kept = told(&memory, ANN, body(&format!("{count} 3")));
            assert_eq!(kept, vec![true; usize::from(count == MAX_QUESTIONS)]);
        }
    }

    #[test]
    fn a_question_with_too_many_answers_pushes_no_other_out() {
        let memory = Arc::new(Memory::new(4 * (QUESTION_BYTES + 100)));
        memory
            .recall(ANN, &[body("small")])
            .learn(0, EmailId(1), true);
        let mut large = memory.recall(ANN, &[body("large")]);
        for n in 0..2 * MESSAGES_AT_A_TIME as u64 {
            large.learn(0, EmailId(n * 70_000), true);
        }
        // Nothing waits long to be shared, and what cannot be is forgotten.
        assert_eq!(large.learned, 0);
        assert_eq!(large.answer(0, EmailId(70_000)), None);
        drop(large);
        assert_eq!(told(&memory, ANN, body("small")), [true]);
        assert!(told(&memory, ANN, body("large")).is_empty());
    }
}
