//! Messages with whatever is asked of them, as a stream: flags, envelope, structure, sections.
//!
//! A stream that breaks off is taken up at another replica where it was: in the middle of a section
//! from the octet after the last one that was handed out, so that no octet comes twice and none is
//! left out. A message is named by its uid, which never gets other octets; how many were handed out
//! is counted for each section, and the rest must be as many as the node had announced.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{Stream, try_unfold};
use tonic::Streaming;

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, BlobId, MailboxRef, ModSeq, Uid};
use crate::messages::blob_id;
use crate::proto;
use crate::proto::messages_client::MessagesClient;
use crate::proto::section::Kind;
use crate::proto::section_data::Outcome;
use crate::proto::{
    FetchPiece, FetchRequest, FetchResponse, Fetched, Keyword, Section, SectionData, UidRange,
    fetch_piece::Piece,
};
use crate::rare::{self, Rare};
use crate::retry::{Advice, Deadline, advice};
use crate::rows::{Columns, Rows};

/// How often one stream may be taken up again without having got any further.
const MAX_IDLE_RESUMES: u32 = 5;
/// Longest pause that a busy node gets before the stream is taken up again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What is fetched of which messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FetchOptions {
    /// Which; none: all.
    pub uids: Vec<UidRange>,
    /// Only messages with a higher modseq (RFC 7162, section 3.1.4).
    pub changed_since: ModSeq,
    /// With envelope.
    pub envelope: bool,
    /// With structure.
    pub structure: bool,
    /// With preview.
    pub preview: bool,
    /// With blob id and thread id; whole messages are then checked against their blob id.
    pub email: bool,
    /// Sections, handed out in this order after each message.
    pub sections: Vec<Section>,
    /// No quorum has to confirm that this is the latest state: enough for what never changes of
    /// messages that are known to exist. One that is missing may be there all the same.
    pub unconfirmed: bool,
    /// Many messages at a time, with these of their columns: without envelope, structure, preview,
    /// email and sections.
    pub columns: Option<Columns>,
}

/// What comes out of a [`FetchStream`].
#[derive(Debug, Clone, PartialEq)]
pub enum FetchEvent {
    /// A message; its sections follow.
    Message(Box<Fetched>),
    /// Octets of a section of this message. `size` counts those that follow, these included.
    Section(SectionData),
    /// Messages of which only columns were asked for.
    Rows(Rows),
}

/// Messages on their way, in the order of their uids.
pub struct FetchStream {
    client: Client,
    scope: Scope,
    /// As it was first sent.
    request: FetchRequest,
    keywords: BTreeMap<u32, String>,
    highest_modseq: ModSeq,
    account_modseq: ModSeq,
    stream: Option<Open>,
    pieces: VecDeque<FetchPiece>,
    rows: Option<proto::Rows>,
    /// All messages up to this one were handed out.
    done: Uid,
    /// The message whose sections are being handed out.
    current: Option<Current>,
    /// Resumes since something was handed out.
    idle_resumes: u32,
    /// When it must go on, since it began or broke off.
    by: Option<Deadline>,
    /// To wait before the next resume.
    pause: Duration,
    /// A node has answered.
    begun: bool,
    over: bool,
}

/// A stream of one node.
struct Open {
    stream: Streaming<FetchResponse>,
    /// It was opened for the rest of the current message; its sections begin with this one.
    rest_from: Option<u32>,
    /// A message came by it.
    any: bool,
}

/// A message that was not handed out whole yet.
struct Current {
    uid: Uid,
    blob_id: Bytes,
    /// The section under way.
    section: u32,
    /// Octets of it that were handed out.
    given: u64,
    /// Octets of it in all, once its first piece has said so.
    total: Option<u64>,
    /// Of a whole message that can be checked.
    hasher: Option<Box<blake3::Hasher>>,
}

impl Client {
    /// Fetches messages of a mailbox.
    pub async fn fetch_messages(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        options: FetchOptions,
    ) -> Result<FetchStream, Error> {
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let request = FetchRequest {
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            uids: options.uids,
            changed_since: options.changed_since,
            envelope: options.envelope,
            structure: options.structure,
            preview: options.preview,
            email: options.email,
            sections: options.sections,
            unconfirmed: options.unconfirmed,
            columns: options.columns.map(Into::into),
        };
        let mut fetching = FetchStream {
            client: self.clone(),
            scope: Scope::from(account),
            request,
            keywords: BTreeMap::new(),
            highest_modseq: 0,
            account_modseq: 0,
            stream: None,
            pieces: VecDeque::new(),
            rows: None,
            done: 0,
            current: None,
            idle_resumes: 0,
            by: None,
            pause: Duration::ZERO,
            begun: false,
            over: false,
        };
        while fetching.stream.is_none() {
            fetching.resume().await?;
        }
        (fetching.idle_resumes, fetching.by) = (0, None);
        Ok(fetching)
    }
}

impl FetchStream {
    /// The mailbox's keywords by their numbers. There may be more of them while the stream goes on;
    /// those of a message are known when it comes.
    pub fn keywords(&self) -> &BTreeMap<u32, String> {
        &self.keywords
    }

    /// The mailbox's modseq when the fetch began.
    pub fn highest_modseq(&self) -> ModSeq {
        self.highest_modseq
    }

    /// The account's modseq at that moment.
    pub fn account_modseq(&self) -> ModSeq {
        self.account_modseq
    }

    /// The next message or piece of a section; `None` after the last. After an error nothing
    /// follows. A future that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<FetchEvent>, Error> {
        // Of a call that was dropped: this one has a deadline of its own.
        self.by = None;
        loop {
            if self.over {
                return Ok(None);
            }
            let stepped = self.step().await;
            match stepped {
                Ok(Some(event)) => {
                    (self.idle_resumes, self.by) = (0, None);
                    return Ok(Some(event));
                }
                Ok(None) => {}
                Err(error) => {
                    self.over = true;
                    return Err(error);
                }
            }
        }
    }

    /// The events as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<FetchEvent, Error>> + Send {
        // It is moved with every event: a pointer moves faster than what it points to.
        try_unfold(Box::new(self), |mut fetching| async move {
            let event = fetching.next().await?;
            Ok(event.map(|event| (event, fetching)))
        })
    }

    /// One step: an event, or something else got done.
    async fn step(&mut self) -> Result<Option<FetchEvent>, Error> {
        if let Some(piece) = self.pieces.pop_front() {
            return match piece.piece {
                Some(Piece::Message(message)) => self.message(message),
                Some(Piece::Section(section)) => self.section(section).map(Some),
                // Of a kind that a later contract knows.
                None => Ok(None),
            };
        }
        if let Some(rows) = self.rows.take() {
            return self.rows(rows).map(Some);
        }
        let Some(open) = &mut self.stream else {
            self.resume().await?;
            return Ok(None);
        };
        match next_response(&mut open.stream, self.client.deadline()).await {
            Ok(Some(response)) => self.take(response),
            Ok(None) => self.ended()?,
            Err(error) => self.broke(error)?,
        }
        Ok(None)
    }

    fn take(&mut self, response: FetchResponse) {
        let known = |Keyword { id, name }| (id, name);
        self.keywords
            .extend(response.keywords.into_iter().map(known));
        self.pieces.extend(response.pieces);
        self.rows = response.rows.filter(|rows| !rows.uid_steps.is_empty());
    }

    /// Messages without anything that follows.
    fn rows(&mut self, rows: proto::Rows) -> Result<FetchEvent, Error> {
        let asked = self.request.columns.as_ref();
        let Some(asked) = asked.filter(|_| self.current.is_none()) else {
            return Err(out_of_order("rows came where none were asked for"));
        };
        let rows = Rows::new(rows, asked, self.done)?;
        self.done = rows.last();
        Ok(FetchEvent::Rows(rows))
    }

    /// A message begins.
    fn message(&mut self, message: Box<Fetched>) -> Result<Option<FetchEvent>, Error> {
        let rest = self.stream.as_mut().is_some_and(|open| {
            open.any = true;
            open.rest_from.is_some()
        });
        if let Some(current) = &self.current {
            let same = current.uid == message.uid
                && (!self.request.email || current.blob_id == message.blob_id);
            // It was handed out before the stream broke off.
            return match rest && same {
                true => Ok(None),
                false => Err(out_of_order(format_args!(
                    "message {} came before the end of message {}",
                    message.uid, current.uid
                ))),
            };
        }
        if rest || message.uid <= self.done {
            return Err(out_of_order(format_args!(
                "message {} came after message {}",
                message.uid, self.done
            )));
        }
        match self.request.sections.is_empty() {
            true => self.done = message.uid,
            false => {
                self.current = Some(Current {
                    uid: message.uid,
                    blob_id: message.blob_id.clone(),
                    section: 0,
                    given: 0,
                    total: None,
                    hasher: self.hasher(0),
                });
            }
        }
        Ok(Some(FetchEvent::Message(message)))
    }

    /// Of a section that is a whole message.
    fn hasher(&self, section: u32) -> Option<Box<blake3::Hasher>> {
        let s = self.request.sections.get(section as usize)?;
        let whole = s.path.is_empty() && s.kind == Kind::All as i32 && !s.size_only;
        let all = s.offset == 0 && s.length == 0;
        (self.request.email && whole && all).then(|| Box::new(blake3::Hasher::new()))
    }

    /// Octets of a section.
    fn section(&mut self, mut piece: SectionData) -> Result<FetchEvent, Error> {
        let from = self.stream.as_ref().and_then(|open| open.rest_from);
        let Some(current) = &mut self.current else {
            return Err(out_of_order("a section came without a message"));
        };
        piece.index = piece.index.saturating_add(from.unwrap_or(0));
        let uid = current.uid;
        if piece.index != current.section {
            return Err(out_of_order(format_args!(
                "section {} of message {uid} came for section {}",
                piece.index, current.section
            )));
        }
        let size_only = self.request.sections[piece.index as usize].size_only;
        let here = piece.data.len() as u64;
        let over = if size_only || piece.outcome != Outcome::Data as i32 {
            if here > 0 || current.given > 0 {
                return Err(out_of_order(format_args!(
                    "octets of section {} of message {uid} came that are none",
                    piece.index
                )));
            }
            true
        } else {
            let total = *current.total.get_or_insert(piece.size);
            let fits = here <= piece.size && current.given.checked_add(piece.size) == Some(total);
            current.given += here;
            let all = current.given == total;
            if !fits || piece.last && !all || !all && here == 0 {
                return Err(out_of_order(format_args!(
                    "{here} octets came for {} of {total} in section {} of message {uid}",
                    piece.size, piece.index
                )));
            }
            all
        };
        piece.last = over;
        if let Some(hasher) = &mut current.hasher {
            hasher.update(&piece.data);
            if over {
                let id = blob_id(&current.blob_id)?;
                if BlobId(*hasher.finalize().as_bytes()) != id {
                    return Err(out_of_order(format_args!(
                        "the octets of message {uid} are not those of {id}"
                    )));
                }
            }
        }
        if over {
            let next = piece.index + 1;
            match (next as usize) < self.request.sections.len() {
                true => {
                    let hasher = self.hasher(next);
                    if let Some(current) = &mut self.current {
                        current.section = next;
                        current.given = 0;
                        current.total = None;
                        current.hasher = hasher;
                    }
                }
                false => {
                    self.done = uid;
                    self.current = None;
                }
            }
        }
        Ok(FetchEvent::Section(piece))
    }

    /// The node has said all.
    fn ended(&mut self) -> Result<(), Error> {
        let Some(open) = self.stream.take() else {
            return Ok(());
        };
        match &self.current {
            None if open.rest_from.is_none() => self.over = true,
            // Now the messages after it.
            None => {}
            Some(current) if open.rest_from.is_some() && !open.any => {
                let uid = current.uid;
                return Err(Error::not_found(
                    "message",
                    format!("message {uid} was expunged while it was read"),
                ));
            }
            Some(current) => {
                let message = format!("the stream ended within message {}", current.uid);
                return self.broke(Error::Transport { message });
            }
        }
        Ok(())
    }

    fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        self.idle_resumes += 1;
        let advice = advice(&error);
        let pause = match advice {
            Advice::Later(pause) => pause.min(MAX_PAUSE),
            _ => Duration::ZERO,
        };
        // With a pause until then, the last try would have no time, and hide the reason.
        let over = self.by.is_some_and(|by| by.left() <= pause);
        if advice == Advice::Fail || over || self.idle_resumes > MAX_IDLE_RESUMES {
            return Err(error);
        }
        self.pause = pause;
        Ok(())
    }

    /// What is still to come, as a request of its own; `None`: nothing.
    fn rest(&self) -> Option<(FetchRequest, Option<u32>)> {
        let mut request = self.request.clone();
        if !self.begun {
            return Some((request, None));
        }
        if let Some(current) = &self.current {
            request.uids = vec![UidRange {
                first: current.uid,
                last: current.uid,
            }];
            request.changed_since = 0;
            (request.envelope, request.structure, request.preview) = (false, false, false);
            request.sections.drain(..current.section as usize);
            if let Some(section) = request.sections.first_mut() {
                section.offset = section.offset.saturating_add(current.given);
                if section.length > 0 {
                    // Not 0: else the section would be over.
                    section.length = section.length.saturating_sub(current.given).max(1);
                }
            }
            return Some((request, Some(current.section)));
        }
        let next = self.done.checked_add(1)?;
        if request.uids.is_empty() {
            request.uids.push(UidRange { first: 1, last: 0 });
        }
        request.uids.retain_mut(|range| {
            range.first = range.first.max(next);
            range.last == 0 || range.first <= range.last
        });
        (!request.uids.is_empty()).then_some((request, None))
    }

    async fn resume(&mut self) -> Result<(), Error> {
        let Some((request, rest_from)) = self.rest() else {
            self.over = true;
            return Ok(());
        };
        // One deadline for all tries: each looks for the leader until it has passed.
        let fresh = || Deadline::after(self.client.deadline());
        let by = *self.by.get_or_insert_with(fresh);
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
            self.pause = Duration::ZERO;
        }
        match self.start(request, by).await {
            Ok((stream, first)) => {
                match self.begun {
                    true if self.idle_resumes > 0 => rare::hit(Rare::FetchTakenUpAgain),
                    true => {}
                    false => {
                        self.highest_modseq = first.highest_modseq;
                        self.account_modseq = first.account_modseq;
                    }
                }
                self.begun = true;
                if self.idle_resumes == 0 {
                    // Nothing broke off: the messages after one whose rest was asked for.
                    self.by = None;
                }
                self.stream = Some(Open {
                    stream,
                    rest_from,
                    any: false,
                });
                self.take(first);
                Ok(())
            }
            Err(error) => self.broke(error),
        }
    }

    /// Opens a stream at the leader and reads its first response.
    async fn start(
        &self,
        request: FetchRequest,
        by: Deadline,
    ) -> Result<(Streaming<FetchResponse>, FetchResponse), Error> {
        let mut stream = self
            .client
            .on_leader_by(self.scope, by, |t| {
                let request = t.request(request.clone());
                async move { MessagesClient::new(t.channel).fetch(request).await }
            })
            .await?;
        match next_response(&mut stream, by.left()).await? {
            Some(first) => Ok((stream, first)),
            None => Err(Error::Transport {
                message: "the stream ended before it began".into(),
            }),
        }
    }
}

fn out_of_order(what: impl ToString) -> Error {
    Error::Corrupt {
        message: what.to_string(),
    }
}

async fn next_response(
    stream: &mut Streaming<FetchResponse>,
    within: Duration,
) -> Result<Option<FetchResponse>, Error> {
    match tokio::time::timeout(within, stream.message()).await {
        Ok(response) => response.map_err(Error::from),
        Err(_) => Err(Error::Deadline {
            message: format!("nothing came within {within:?}"),
        }),
    }
}
