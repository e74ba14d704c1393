//! Search, sort and threads of a mailbox.
//!
//! The node tells matches as it finds them, and at least that it is still at work; so the deadline
//! of a search counts from one piece to the next, and a scan of a large mailbox may take what it
//! takes. A stream that breaks off, and a node that says nothing any more, begin the search again
//! at the shard's leader.

pub mod keys;

use std::time::Duration;

use roaring::RoaringBitmap;
use tonic::Streaming;

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, MailboxRef, ModSeq, Uid};
use crate::proto::messages_client::MessagesClient;
use crate::proto::{SearchKey, SearchRequest, SearchResponse, SortKey, ThreadNode, UidRange};
use crate::retry::{Advice, advice};

/// How often one search begins again.
const MAX_RESTARTS: u32 = 5;
/// A node at work says so every second; one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Pause before a search begins again at a node that asked for one, at most.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What to search for, and how matches are told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchOptions {
    /// Which messages; `None`: all. See [`keys`].
    pub key: Option<SearchKey>,
    /// In this order, the first criterion counting most; ties go by uid.
    pub sort: Vec<SortKey>,
    /// In threads (RFC 5256, REFERENCES); not with `sort`.
    pub thread: bool,
    /// Only the first to the last of the matches in the order of uids, counted from 1 or, below 0,
    /// from the end (RFC 9394); not with `sort` and `thread`.
    pub partial: Option<(i64, i64)>,
}

/// What a search found. All of it is as of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The matches that are told, without `sort` and `thread`.
    pub uids: RoaringBitmap,
    /// All matches, with `sort`.
    pub sorted: Vec<Uid>,
    /// All matches, with `thread`: depth first; a node of depth 0 begins a thread. Uid 0 stands for
    /// a message that is not there.
    pub threads: Vec<ThreadNode>,
    /// How many match.
    pub count: u64,
    /// The highest modseq of any match; 0 when there is none.
    pub matched_modseq: ModSeq,
    /// The account's modseq at the moment of the search.
    pub account_modseq: ModSeq,
}

impl Client {
    /// Searches a mailbox.
    pub async fn search(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        options: SearchOptions,
    ) -> Result<Found, Error> {
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let (partial_first, partial_last) = options.partial.unwrap_or_default();
        let key = options.key.map(keys::simplify);
        if let Some(key) = &key {
            keys::check(key)?;
        }
        let request = SearchRequest {
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            key,
            sort: options.sort,
            thread: options.thread,
            partial_first,
            partial_last,
        };
        let mut restarts = 0;
        loop {
            let error = match self.search_once(account, &request).await {
                Ok(found) => return Ok(found),
                Err(Broken::Call(error)) => return Err(error),
                Err(Broken::Stream(error)) => error,
            };
            restarts += 1;
            match advice(&error) {
                Advice::Fail => return Err(error),
                _ if restarts > MAX_RESTARTS => return Err(error),
                Advice::Later(pause) => tokio::time::sleep(pause.min(MAX_PAUSE)).await,
                _ => (),
            }
        }
    }

    async fn search_once(
        &self,
        account: &AccountName,
        request: &SearchRequest,
    ) -> Result<Found, Broken> {
        let stream = self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MessagesClient::new(t.channel).search(request).await }
        });
        // The call itself has looked for the leader until its deadline.
        let mut stream = stream.await.map_err(Broken::Call)?;
        let silence = SILENCE.min(self.deadline());
        let mut found = Found::default();
        loop {
            let piece = next(&mut stream, silence).await.map_err(Broken::Stream)?;
            let last = piece.last;
            found.take(piece).map_err(Broken::Call)?;
            if last {
                return Ok(found);
            }
        }
    }
}

/// How a search failed.
enum Broken {
    /// It could not begin, or cannot go well.
    Call(Error),
    /// It had begun.
    Stream(Error),
}

async fn next(
    stream: &mut Streaming<SearchResponse>,
    within: Duration,
) -> Result<SearchResponse, Error> {
    match tokio::time::timeout(within, stream.message()).await {
        Ok(Ok(Some(piece))) => Ok(piece),
        Ok(Ok(None)) => Err(Error::Transport {
            message: "the answer ends before its last piece".into(),
        }),
        Ok(Err(status)) => Err(Error::from(status)),
        Err(_) => Err(Error::Deadline {
            message: format!("the search was silent for {within:?}"),
        }),
    }
}

impl Found {
    fn take(&mut self, piece: SearchResponse) -> Result<(), Error> {
        for UidRange { first, last } in piece.uids {
            // An open end, which no match has, would fill the memory.
            if first == 0 || last < first || self.uids.max().is_some_and(|max| max >= first) {
                return Err(Error::Corrupt {
                    message: format!("matches {first}:{last} came out of order"),
                });
            }
            self.uids.insert_range(first..=last);
        }
        self.sorted.extend(piece.sorted);
        self.threads.extend(piece.threads);
        if piece.last {
            self.count = piece.count;
            self.matched_modseq = piece.matched_modseq;
            self.account_modseq = piece.account_modseq;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_together_and_disorder_is_seen() {
        let piece = |uids: &[(u32, u32)]| SearchResponse {
            uids: uids
                .iter()
                .map(|&(first, last)| UidRange { first, last })
                .collect(),
            ..SearchResponse::default()
        };
        let mut found = Found::default();
        found.take(piece(&[(1, 3), (5, 5)])).unwrap();
        found.take(piece(&[])).unwrap();
        found.take(piece(&[(6, 7)])).unwrap();
        assert_eq!(found.uids.iter().collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7]);
        for bad in [(7, 9), (9, 8), (0, 3), (10, 0)] {
            assert!(found.clone().take(piece(&[bad])).is_err());
        }
    }
}
