//! The client library, seen as the IMAP door's [`Store`].

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use posthouse_client::ids::{AccountName, MailboxName, MailboxRef, ModSeq, RequestId};
use posthouse_client::proto::{
    Annotation, GetChangesResponse, GetUsageResponse, Keyword, ListMailboxesResponse, Mailbox,
    UidRange,
};
use posthouse_client::{
    AppendOptions, AppendPart, AppendedAll, Client, Copied, Error, Expunged, FetchEvent,
    FetchOptions, FetchStream, FlagChange, FlagsChanged, Opened, Replaced, SearchOptions,
    Subscription, Watch,
};

use super::store::{Answer, Change, Event, Follow, Matches, Message, Query, Store, Wanted};

/// Milliseconds since 1970, from whoever hosts the door: the door itself reads no clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A cluster behind the IMAP door.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    watch: Watch,
    clock: Clock,
}

impl Cluster {
    /// A door's store over this client. All sessions share what is watched.
    pub fn new(client: Client, clock: Clock) -> Cluster {
        let watch = client.watch();
        Cluster {
            client,
            watch,
            clock,
        }
    }
}

impl Store for Cluster {
    fn request_id(&self) -> RequestId {
        self.client.request_id()
    }

    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    fn authenticate<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        peer: &'a str,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            self.client.authenticate(account, password, peer).await?;
            Ok(())
        })
    }

    fn mailboxes<'a>(&'a self, account: &'a AccountName) -> Answer<'a, ListMailboxesResponse> {
        Box::pin(self.client.read_mailboxes(account))
    }

    fn create<'a>(
        &'a self,
        account: &'a AccountName,
        name: &'a MailboxName,
        uses: Vec<String>,
    ) -> Answer<'a, Mailbox> {
        let id = Some(self.request_id());
        Box::pin(self.client.create_mailbox(account, name, uses, id))
    }

    fn delete<'a>(&'a self, account: &'a AccountName, name: &'a MailboxName) -> Answer<'a, ()> {
        let id = Some(self.request_id());
        Box::pin(async move {
            self.client.delete_mailbox(account, name, id).await?;
            Ok(())
        })
    }

    fn rename<'a>(
        &'a self,
        account: &'a AccountName,
        from: &'a MailboxName,
        to: &'a MailboxName,
    ) -> Answer<'a, ()> {
        let id = Some(self.request_id());
        Box::pin(async move {
            self.client.rename_mailbox(account, from, to, id).await?;
            Ok(())
        })
    }

    fn subscribe<'a>(
        &'a self,
        account: &'a AccountName,
        name: &'a MailboxName,
        on: bool,
    ) -> Answer<'a, ()> {
        let id = Some(self.request_id());
        Box::pin(async move {
            self.client.subscribe(account, name, on, id).await?;
            Ok(())
        })
    }

    fn set_special_use<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        uses: Vec<String>,
    ) -> Answer<'a, ()> {
        let id = Some(self.request_id());
        Box::pin(async move {
            let client = &self.client;
            client.set_special_use(account, mailbox, uses, id).await?;
            Ok(())
        })
    }

    fn metadata<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: Option<MailboxRef>,
    ) -> Answer<'a, Vec<Annotation>> {
        Box::pin(self.client.get_metadata(account, mailbox))
    }

    fn set_metadata<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: Option<MailboxRef>,
        annotations: Vec<Annotation>,
    ) -> Answer<'a, ()> {
        let id = Some(self.request_id());
        Box::pin(async move {
            let client = &self.client;
            client
                .set_metadata(account, mailbox, annotations, id)
                .await?;
            Ok(())
        })
    }

    fn usage<'a>(&'a self, account: &'a AccountName) -> Answer<'a, GetUsageResponse> {
        Box::pin(self.client.usage(account))
    }

    fn open<'a>(&'a self, account: &'a AccountName, mailbox: MailboxRef) -> Answer<'a, Opened> {
        Box::pin(self.client.open_mailbox(account, mailbox))
    }

    fn append<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        messages: &'a [Message],
        replace: Option<Replaced>,
    ) -> Answer<'a, AppendedAll> {
        let request_id = Some(self.request_id());
        Box::pin(async move {
            if let [message] = messages {
                let options = AppendOptions {
                    flags: message.flags.clone(),
                    internal_date_ms: message.internal_date_ms,
                    request_id,
                    replace,
                };
                let appended = self.client.append(account, mailbox, &message.body, options);
                return Ok(AppendedAll {
                    first: appended.await?.stored,
                    count: 1,
                });
            }
            let part = |message: &'a Message| AppendPart {
                body: &message.body,
                flags: message.flags.clone(),
                internal_date_ms: message.internal_date_ms,
            };
            let parts: Vec<AppendPart<'_>> = messages.iter().map(part).collect();
            let client = &self.client;
            client
                .append_many(account, mailbox, &parts, request_id)
                .await
        })
    }

    fn copy<'a>(
        &'a self,
        account: &'a AccountName,
        from: MailboxRef,
        uids: Vec<UidRange>,
        to: MailboxRef,
        moved: bool,
    ) -> Answer<'a, Copied> {
        let id = Some(self.request_id());
        Box::pin(async move {
            match moved {
                true => self.client.move_messages(account, from, uids, to, id).await,
                false => self.client.copy(account, from, uids, to, id).await,
            }
        })
    }

    fn set_flags<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        change: FlagChange,
    ) -> Answer<'a, FlagsChanged> {
        let id = Some(self.request_id());
        Box::pin(self.client.set_flags(account, mailbox, change, id))
    }

    fn expunge<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        uids: Vec<UidRange>,
    ) -> Answer<'a, Expunged> {
        let id = Some(self.request_id());
        Box::pin(self.client.expunge(account, mailbox, uids, false, id))
    }

    fn changes<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: Option<MailboxRef>,
        since: ModSeq,
    ) -> Answer<'a, GetChangesResponse> {
        Box::pin(self.client.get_changes(account, mailbox, since, 0))
    }

    fn fetch(
        &self,
        account: &AccountName,
        mailbox: MailboxRef,
        wanted: Wanted,
    ) -> BoxStream<'static, Result<Event, Error>> {
        let options = FetchOptions {
            uids: wanted.uids,
            changed_since: wanted.changed_since,
            envelope: wanted.envelope,
            structure: wanted.structure,
            preview: wanted.preview,
            email: wanted.email,
            sections: wanted.sections,
            unconfirmed: wanted.unconfirmed,
            columns: wanted.columns,
        };
        let (client, account) = (self.client.clone(), account.clone());
        let opening = async move { client.fetch_messages(&account, mailbox, options).await };
        let opened = stream::once(opening).map(|opened| match opened {
            Ok(fetching) => events(fetching),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        opened.flatten().boxed()
    }

    fn search<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        query: Query,
    ) -> Answer<'a, Matches> {
        Box::pin(async move {
            let options = SearchOptions {
                key: query.key,
                sort: query.sort,
                thread: query.thread,
                partial: None,
            };
            let found = self.client.search(account, mailbox, options).await?;
            Ok(Matches {
                uids: found.uids,
                sorted: found.sorted,
                threads: found.threads,
                modseq: found.matched_modseq,
            })
        })
    }

    fn follow(&self, account: &AccountName, since: ModSeq) -> Box<dyn Follow> {
        Box::new(self.watch.subscribe(account.clone(), since))
    }
}

/// Events of a fetch, with new names of keywords in front of the messages that may have them.
fn events(fetching: FetchStream) -> BoxStream<'static, Result<Event, Error>> {
    // The state is moved with every event: a pointer moves faster than what it points to.
    let start = (Box::new(fetching), 0usize, None);
    type State = (Box<FetchStream>, usize, Option<Event>);
    let next = |(mut fetching, known, waiting): State| async move {
        if let Some(event) = waiting {
            return Ok(Some((event, (fetching, known, None))));
        }
        let event = match fetching.next().await? {
            None => return Ok(None),
            Some(FetchEvent::Section(piece)) => Event::Section(piece),
            Some(FetchEvent::Message(message)) => Event::Message(message),
            Some(FetchEvent::Rows(rows)) => Event::Rows(rows),
        };
        let now = fetching.keywords().len();
        // Between a message and its sections nothing may come.
        if now == known || matches!(event, Event::Section(_)) {
            return Ok(Some((event, (fetching, known, None))));
        }
        let keywords = Event::Keywords(keywords_of(fetching.keywords()));
        Ok(Some((keywords, (fetching, now, Some(event)))))
    };
    stream::try_unfold(start, next).boxed()
}

fn keywords_of(names: &BTreeMap<u32, String>) -> Vec<Keyword> {
    let keyword = |(id, name): (&u32, &String)| Keyword {
        id: *id,
        name: name.clone(),
    };
    names.iter().map(keyword).collect()
}

impl Follow for Subscription {
    fn next(&mut self) -> BoxFuture<'_, Option<Change>> {
        Box::pin(async move {
            let change = Subscription::next(self).await?;
            Some(Change {
                modseq: change.modseq,
                mailboxes: change.mailboxes.iter().map(|id| id.0).collect(),
                resync: change.resync,
                gone: change.gone,
            })
        })
    }
}
