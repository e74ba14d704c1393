//! A key made ready: names resolved, texts folded, and every condition put where it costs least.
//!
//! ```text
//! hot row                  uid, flags, dates, size, modseq, email      a few dozen octets
//! email row                thread
//! cold row (summary)       addresses, subject, sent date, ids          what it cannot tell, ask the
//! octets of the header     any field                                   octets
//! octets of text parts     body, text
//! ```
//!
//! A message is judged level by level, with three answers: yes, no, not known yet. A level is read
//! only for messages that all levels before it together left undecided, and only the conditions
//! that still matter are asked there; so the order of the key's conditions costs nothing.

use std::collections::BTreeMap;

use super::super::Result;
use super::super::check::{UidRanges, normalize};
use super::super::summary::charset::is_undecoded;
use super::super::summary::{Address, Summary};
use super::fulltext::{Place, Question};
use super::key::{Key, Span};
use super::sort::SentDate;
use super::text::Needle;
use crate::index::values::{MessageRow, flag};
use crate::types::*;

/// A condition that the hot row answers.
#[derive(Debug)]
enum Hot {
    Uids(UidRanges),
    Flag(u8),
    Keyword(u16),
    InternalDate(Span),
    SaveDate(Span),
    Size(Span),
    ModSeq(Span),
    Email(u64),
}

impl Hot {
    fn holds(&self, uid: Uid, row: &MessageRow) -> bool {
        match self {
            Hot::Uids(ranges) => {
                let after = ranges.partition_point(|(first, _)| *first <= uid);
                after > 0 && uid <= ranges[after - 1].1
            }
            Hot::Flag(bit) => row.flags & bit != 0,
            Hot::Keyword(id) => row.keywords.contains(id),
            Hot::InternalDate(span) => span.contains(row.internal_date_ms),
            Hot::SaveDate(span) => span.contains(row.save_date_ms),
            Hot::Size(span) => span.contains(row.size),
            Hot::ModSeq(span) => span.contains(row.modseq),
            Hot::Email(email) => row.email.0 == *email,
        }
    }
}

/// What the summary holds of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Subject,
    From,
    Sender,
    ReplyTo,
    To,
    Cc,
    Bcc,
    Date,
    MessageId,
    InReplyTo,
    References,
}

impl Known {
    const NAMES: [(&'static str, Known); 11] = [
        ("subject", Known::Subject),
        ("from", Known::From),
        ("sender", Known::Sender),
        ("reply-to", Known::ReplyTo),
        ("to", Known::To),
        ("cc", Known::Cc),
        ("bcc", Known::Bcc),
        ("date", Known::Date),
        ("message-id", Known::MessageId),
        ("in-reply-to", Known::InReplyTo),
        ("references", Known::References),
    ];

    /// Whether the field contains the text, where the summary is sure of it.
    fn contains(self, needle: &Needle, summary: &Summary) -> Option<bool> {
        let e = &summary.envelope;
        let (text, complete) = match self {
            Known::Subject => (e.subject.clone(), true),
            Known::Date => (e.date_text.clone(), e.date_text.len() < 90),
            Known::From => addresses(&e.from, needle),
            Known::Sender => addresses(&e.sender, needle),
            Known::ReplyTo => addresses(&e.reply_to, needle),
            Known::To => addresses(&e.to, needle),
            Known::Cc => addresses(&e.cc, needle),
            Known::Bcc => addresses(&e.bcc, needle),
            Known::MessageId => ids(std::slice::from_ref(&e.message_id), needle),
            Known::InReplyTo => ids(&e.in_reply_to, needle),
            Known::References => ids(&e.references, needle),
        };
        if needle.is_empty() {
            // An empty or unreadable field leaves nothing in the summary, as one that is not there.
            return (!text.is_empty()).then_some(true);
        }
        if needle.is_in(&text) {
            return Some(true);
        }
        (complete && !summary.truncated && !is_undecoded(&text)).then_some(false)
    }
}

/// Addresses as they are written most often; and whether the field can hold nothing else that the
/// text could be in: quotes, comments and brackets are not kept.
fn addresses(list: &[Address], needle: &Needle) -> (String, bool) {
    let mut text = String::new();
    for address in list {
        if !text.is_empty() {
            text.push_str(", ");
        }
        match address {
            Address::Mailbox { name, address } if name.is_empty() => text.push_str(address),
            Address::Mailbox { name, address } => {
                text.extend([name.as_str(), " <", address.as_str(), ">"]);
            }
            Address::GroupStart(name) => text.push_str(name),
            Address::GroupEnd => (),
        }
    }
    (text, !needle.has_any(b"\"<>(),;:\\"))
}

/// Ids with their brackets. What is no id is not kept, so only a text that is like one is sure
/// not to be there.
fn ids(list: &[String], needle: &Needle) -> (String, bool) {
    let known = list.iter().filter(|id| !id.is_empty());
    let text: Vec<String> = known.map(|id| format!("<{id}>")).collect();
    (text.join(" "), needle.has_any(b"@"))
}

/// Who answers a condition that the hot row cannot answer.
#[derive(Debug)]
enum Source {
    /// The email row.
    Thread(u64),
    /// The summary alone.
    Sent(Span),
    /// The summary, or where that cannot tell, the octets.
    Summary(Known),
    /// The octets.
    Octets,
}

#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Hot(Hot),
    /// The number of a condition of [`Plan::sources`].
    Later(usize),
    Always(bool),
}

/// A key, ready to judge messages of one mailbox.
pub struct Plan {
    root: Node,
    /// Conditions beyond the hot row, by number.
    sources: Vec<Source>,
    /// Their questions, where octets can be asked.
    questions: Vec<Option<Question>>,
    /// No other uids can match.
    bounds: UidRanges,
}

/// What is known of one message, and of the conditions on it.
#[derive(Default)]
pub struct Answers {
    /// By number.
    answers: Vec<Option<bool>>,
    /// Conditions that still matter.
    open: Vec<usize>,
}

impl Plan {
    /// The plan for a key. `keywords`: of the mailbox, by their numbers.
    pub fn new(key: Option<&Key>, keywords: &BTreeMap<u16, String>) -> Result<Plan> {
        let mut plan = Plan {
            root: Node::Always(true),
            sources: Vec::new(),
            questions: Vec::new(),
            bounds: vec![(1, Uid::MAX)],
        };
        if let Some(key) = key {
            key.check()?;
            plan.root = plan.node(key, keywords);
            plan.bounds = bounds(key).unwrap_or(plan.bounds);
        }
        Ok(plan)
    }

    /// No other uids can match; ascending and disjoint.
    pub fn bounds(&self) -> &[(Uid, Uid)] {
        &self.bounds
    }

    /// The questions that octets can be asked, by the number of their condition.
    pub fn questions(&self) -> &[Option<Question>] {
        &self.questions
    }

    fn node(&mut self, key: &Key, keywords: &BTreeMap<u16, String>) -> Node {
        let known = |known| Source::Summary(known);
        let field = |name: &str| Place::Field(name.to_owned());
        match key {
            Key::AllOf(keys) => Node::All(keys.iter().map(|k| self.node(k, keywords)).collect()),
            Key::AnyOf(keys) => Node::Any(keys.iter().map(|k| self.node(k, keywords)).collect()),
            Key::Not(key) => Node::Not(Box::new(self.node(key, keywords))),
            Key::Uids(ranges) => Node::Hot(Hot::Uids(normal(ranges))),
            Key::Flag { name, off } => {
                let node = flag_node(name, keywords);
                match off {
                    true => Node::Not(Box::new(node)),
                    false => node,
                }
            }
            Key::InternalDate(span) => Node::Hot(Hot::InternalDate(*span)),
            Key::SaveDate(span) => Node::Hot(Hot::SaveDate(*span)),
            Key::Size(span) => Node::Hot(Hot::Size(*span)),
            Key::ModSeq(span) => Node::Hot(Hot::ModSeq(*span)),
            Key::Email(email) => Node::Hot(Hot::Email(*email)),
            Key::Thread(thread) => self.later(Source::Thread(*thread), None),
            Key::Sent(span) => self.later(Source::Sent(*span), None),
            Key::Header { name, text } => {
                let name = name.to_ascii_lowercase();
                let found = Known::NAMES.iter().find(|(known, _)| *known == name);
                let source = found.map_or(Source::Octets, |(_, k)| known(*k));
                self.later(source, Some((Place::Field(name), text)))
            }
            Key::From(text) => self.text(known(Known::From), field("from"), text),
            Key::To(text) => self.text(known(Known::To), field("to"), text),
            Key::Cc(text) => self.text(known(Known::Cc), field("cc"), text),
            Key::Bcc(text) => self.text(known(Known::Bcc), field("bcc"), text),
            Key::Subject(text) => self.text(known(Known::Subject), field("subject"), text),
            Key::Body(text) => self.text(Source::Octets, Place::Body, text),
            Key::Text(text) => self.text(Source::Octets, Place::Anywhere, text),
        }
    }

    /// A text that is looked for; the empty one is everywhere.
    fn text(&mut self, source: Source, place: Place, text: &str) -> Node {
        match text {
            "" => Node::Always(true),
            text => self.later(source, Some((place, text))),
        }
    }

    fn later(&mut self, source: Source, question: Option<(Place, &str)>) -> Node {
        self.sources.push(source);
        self.questions.push(question.map(|(place, text)| Question {
            place,
            needle: Needle::new(text),
        }));
        Node::Later(self.sources.len() - 1)
    }

    /// Judges a message by its hot row alone.
    pub fn judge(&self, uid: Uid, row: &MessageRow, answers: &mut Answers) -> Option<bool> {
        answers.answers.clear();
        answers.answers.resize(self.sources.len(), None);
        self.judge_again(uid, row, answers)
    }

    /// Judges a message by its hot row and the answers so far, and notes which conditions matter.
    pub fn judge_again(&self, uid: Uid, row: &MessageRow, answers: &mut Answers) -> Option<bool> {
        answers.open.clear();
        judge(&self.root, uid, row, &answers.answers, &mut answers.open)
    }

    /// Whether answers decide about a message.
    pub fn is_decided(&self, uid: Uid, row: &MessageRow, answers: &[Option<bool>]) -> bool {
        judge(&self.root, uid, row, answers, &mut Vec::new()).is_some()
    }

    /// Whether a condition that matters is about the thread.
    pub fn wants_thread(&self, answers: &Answers) -> bool {
        let is_thread = |n: &usize| matches!(self.sources[*n], Source::Thread(_));
        answers.open.iter().any(is_thread)
    }

    /// Answers the conditions that matter and are about the thread.
    pub fn tell_thread(&self, thread: ThreadId, answers: &mut Answers) {
        for number in &answers.open {
            if let Source::Thread(wanted) = self.sources[*number] {
                answers.answers[*number] = Some(thread.0 == wanted);
            }
        }
    }

    /// Whether a condition that matters may be answered by the summary.
    pub fn wants_summary(&self, answers: &Answers) -> bool {
        let is_cold = |n: &usize| matches!(self.sources[*n], Source::Sent(_) | Source::Summary(_));
        answers.open.iter().any(is_cold)
    }

    /// Answers the conditions that matter and that the summary is sure about.
    pub fn tell_summary(&self, summary: &Summary, answers: &mut Answers) {
        for number in &answers.open {
            let answer = match (&self.sources[*number], &self.questions[*number]) {
                (Source::Sent(span), _) => {
                    let sent = SentDate::parse(&summary.envelope.date);
                    Some(sent.is_some_and(|sent| span.contains_time(sent.day_ms)))
                }
                (Source::Summary(known), Some(question)) => {
                    known.contains(&question.needle, summary)
                }
                _ => continue,
            };
            answers.answers[*number] = answer;
        }
    }
}

impl Answers {
    /// Answers the conditions that matter and that `known` has an answer to. Whether there are any.
    pub fn tell_known(&mut self, known: impl Fn(usize) -> Option<bool>) -> bool {
        let mut any = false;
        for number in &self.open {
            let answer = known(*number);
            any |= answer.is_some();
            self.answers[*number] = answer;
        }
        any
    }

    /// The numbers of the conditions that matter, and all answers.
    pub fn parts(&mut self) -> (&[usize], &mut [Option<bool>]) {
        (&self.open, &mut self.answers)
    }
}

fn flag_node(name: &str, keywords: &BTreeMap<u16, String>) -> Node {
    let mut system = (0..).zip(flag::NAMES);
    if let Some((bit, _)) = system.find(|(_, flag)| flag.eq_ignore_ascii_case(name)) {
        return Node::Hot(Hot::Flag(1 << bit));
    }
    let mut keywords = keywords.iter();
    match keywords.find(|(_, keyword)| keyword.eq_ignore_ascii_case(name)) {
        Some((id, _)) => Node::Hot(Hot::Keyword(*id)),
        // No message of the mailbox ever had it.
        None => Node::Always(false),
    }
}

/// Adds to `open` the conditions that are unknown and whose answers matter.
fn judge(
    node: &Node,
    uid: Uid,
    row: &MessageRow,
    answers: &[Option<bool>],
    open: &mut Vec<usize>,
) -> Option<bool> {
    let (nodes, decisive) = match node {
        Node::All(nodes) => (nodes, false),
        Node::Any(nodes) => (nodes, true),
        Node::Not(node) => return judge(node, uid, row, answers, open).map(|is| !is),
        Node::Hot(hot) => return Some(hot.holds(uid, row)),
        Node::Always(is) => return Some(*is),
        Node::Later(number) => {
            let answer = answers[*number];
            if answer.is_none() {
                open.push(*number);
            }
            return answer;
        }
    };
    let mark = open.len();
    let mut all_known = true;
    for node in nodes {
        match judge(node, uid, row, answers, open) {
            Some(is) if is == decisive => {
                open.truncate(mark);
                return Some(decisive);
            }
            Some(_) => (),
            None => all_known = false,
        }
    }
    all_known.then_some(!decisive)
}

fn normal(ranges: &[(Uid, Uid)]) -> UidRanges {
    let open_end = |(first, last): &(Uid, Uid)| match last {
        0 => (*first, Uid::MAX),
        last => (*first, *last),
    };
    normalize(ranges.iter().map(open_end).collect())
}

/// Uids outside of which nothing can match; `None`: anything can.
fn bounds(key: &Key) -> Option<UidRanges> {
    match key {
        Key::Uids(ranges) => Some(normal(ranges)),
        Key::AllOf(keys) => keys.iter().filter_map(bounds).reduce(|a, b| common(&a, &b)),
        Key::AnyOf(keys) => {
            let all: Option<Vec<UidRanges>> = keys.iter().map(bounds).collect();
            Some(normalize(all?.concat()))
        }
        _ => None,
    }
}

fn common(a: &[(Uid, Uid)], b: &[(Uid, Uid)]) -> UidRanges {
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let (first, last) = (x.0.max(y.0), x.1.min(y.1));
        if first <= last {
            out.push((first, last));
        }
        match x.1 < y.1 {
            true => i += 1,
            false => j += 1,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::super::summary::summarize;
    use super::*;

    fn row() -> MessageRow {
        MessageRow {
            flags: flag::SEEN,
            keywords: vec![3],
            modseq: 9,
            email: EmailId(4),
            size: 100,
            internal_date_ms: 1000,
            save_date_ms: 2000,
        }
    }

    fn judged(key: Key) -> (Option<bool>, usize) {
        let keywords = [(3, "$Junk".to_owned())].into();
        let plan = Plan::new(Some(&key), &keywords).unwrap();
        let mut answers = Answers::default();
        let judged = plan.judge(7, &row(), &mut answers);
        (judged, answers.open.len())
    }

    #[test]
    fn hot_rows_answer_alone() {
        let span = |from, to| Span { from, to };
        let flag = |name: &str, off| Key::Flag {
            name: name.into(),
            off,
        };
        for (key, yes) in [
            (Key::Uids(vec![(1, 3), (7, 0)]), true),
            (Key::Uids(vec![(1, 6), (8, 9)]), false),
            (flag("\\seen", false), true),
            (flag("\\Flagged", true), true),
            (flag("$junk", false), true),
            (flag("$never", false), false),
            (flag("$never", true), true),
            (Key::InternalDate(span(1000, 1001)), true),
            (Key::SaveDate(span(2001, 0)), false),
            (Key::Size(span(0, 100)), false),
            (Key::ModSeq(span(9, 0)), true),
            (Key::Email(4), true),
            (Key::AllOf(vec![]), true),
            (Key::AnyOf(vec![]), false),
            (Key::Body(String::new()), true),
        ] {
            assert_eq!(judged(key.clone()), (Some(yes), 0), "{key:?}");
            let not = Key::Not(Box::new(key));
            assert_eq!(judged(not), (Some(!yes), 0));
        }
    }

    #[test]
    fn costly_conditions_are_asked_only_where_they_matter() {
        let body = || Key::Body("x".into());
        let (no, yes) = (Key::Email(5), Key::Email(4));
        assert_eq!(
            judged(Key::AllOf(vec![body(), no.clone()])),
            (Some(false), 0)
        );
        assert_eq!(
            judged(Key::AnyOf(vec![body(), yes.clone()])),
            (Some(true), 0)
        );
        let undecided = Key::AllOf(vec![
            body(),
            Key::AnyOf(vec![body(), body(), yes]),
            Key::Not(Box::new(Key::AllOf(vec![body(), no]))),
        ]);
        assert_eq!(judged(undecided), (None, 1));
    }

    #[test]
    fn uids_bound_what_is_read() {
        let of = |key: Key| {
            Plan::new(Some(&key), &BTreeMap::new())
                .unwrap()
                .bounds()
                .to_vec()
        };
        let uids = |first, last| Key::Uids(vec![(first, last)]);
        let all = vec![(1, Uid::MAX)];
        assert_eq!(of(Key::Email(1)), all);
        assert_eq!(of(uids(3, 5)), [(3, 5)]);
        assert_eq!(
            of(Key::AllOf(vec![
                Key::Email(1),
                Key::Uids(vec![(1, 4), (8, 0)]),
                uids(3, 9)
            ])),
            [(3, 4), (8, 9)]
        );
        assert_eq!(
            of(Key::AnyOf(vec![uids(1, 2), uids(9, 9)])),
            [(1, 2), (9, 9)]
        );
        assert_eq!(of(Key::AnyOf(vec![uids(1, 2), Key::Email(1)])), all);
        assert_eq!(of(Key::Not(Box::new(uids(1, 2)))), all);
        assert_eq!(of(Key::AllOf(vec![uids(1, 2), uids(4, 5)])), []);
    }

    #[test]
    fn the_summary_answers_what_it_is_sure_of() {
        let mail = "From: Ann Smith <ann@example.org>\r\nSubject: The Post\r\n\
            Message-ID: <1@x>\r\nDate: Sat, 20 Nov 2021 23:22:01 -0800\r\n\r\n";
        let summary = summarize(mail.as_bytes());
        let header = |name: &str, text: &str| Key::Header {
            name: name.into(),
            text: text.into(),
        };
        let day = 18_951 * 86_400_000;
        let sent = |from, to| Key::Sent(Span { from, to });
        for (key, answer) in [
            (Key::From("SMITH <ann".into()), Some(true)),
            (Key::From("bob".into()), Some(false)),
            (Key::From("\"ann".into()), None),
            (Key::Bcc("bob".into()), Some(false)),
            (Key::Subject("post".into()), Some(true)),
            (Key::Subject("host".into()), Some(false)),
            (header("MESSAGE-id", "<1@X>"), Some(true)),
            (header("message-id", "2@x"), Some(false)),
            (header("message-id", "Tuesday"), None),
            (header("in-reply-to", "2@x"), Some(false)),
            (header("Date", "nov 2021"), Some(true)),
            (header("Date", "2022"), Some(false)),
            (header("subject", ""), Some(true)),
            (header("bcc", ""), None),
            (header("x-other", "y"), None),
            (sent(day, day + 86_400_000), Some(true)),
            (sent(day + 1, 0), Some(false)),
        ] {
            let plan = Plan::new(Some(&key), &BTreeMap::new()).unwrap();
            let mut answers = Answers::default();
            assert_eq!(plan.judge(7, &row(), &mut answers), None);
            plan.tell_summary(&summary, &mut answers);
            assert_eq!(plan.judge_again(7, &row(), &mut answers), answer, "{key:?}");
        }
    }
}
