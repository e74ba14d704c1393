//! What the IMAP door needs of the cluster.
//!
//! The trait has the grain of the client library, whose types it uses; `posthouse_client::Client`
//! is one arm of it ([`super::cluster`]), tests bring a fake of their own. Every call waits
//! through a change of leader; every change carries one request id, so that it is made once.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use posthouse_client::ids::{AccountName, MailboxName, MailboxRef, ModSeq, RequestId, Uid};
use posthouse_client::proto::{
    Annotation, Fetched, GetChangesResponse, GetUsageResponse, Keyword, ListMailboxesResponse,
    Mailbox, SearchKey, Section, SectionData, SortKey, ThreadNode, UidRange,
};
use posthouse_client::{
    AppendedAll, Columns, Copied, Error, Expunged, FlagChange, FlagsChanged, Opened, Replaced, Rows,
};
use roaring::RoaringBitmap;

use crate::lmtp::body::Body;

/// An answer that is on its way.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A cluster as the IMAP door sees it.
pub trait Store: Send + Sync {
    /// A fresh identity for a change.
    fn request_id(&self) -> RequestId;
    /// Milliseconds since 1970; searches by age count from it.
    fn now_ms(&self) -> u64;
    /// Whether this is a password of the account, and it may log in.
    fn authenticate<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        peer: &'a str,
    ) -> Answer<'a, ()>;
    /// All mailboxes and subscriptions.
    fn mailboxes<'a>(&'a self, account: &'a AccountName) -> Answer<'a, ListMailboxesResponse>;
    /// Creates a mailbox.
    fn create<'a>(
        &'a self,
        account: &'a AccountName,
        name: &'a MailboxName,
        uses: Vec<String>,
    ) -> Answer<'a, Mailbox>;
    /// Removes a mailbox.
    fn delete<'a>(&'a self, account: &'a AccountName, name: &'a MailboxName) -> Answer<'a, ()>;
    /// Renames a mailbox.
    fn rename<'a>(
        &'a self,
        account: &'a AccountName,
        from: &'a MailboxName,
        to: &'a MailboxName,
    ) -> Answer<'a, ()>;
    /// Subscribes to a name, or not any more.
    fn subscribe<'a>(
        &'a self,
        account: &'a AccountName,
        name: &'a MailboxName,
        on: bool,
    ) -> Answer<'a, ()>;
    /// Sets all special uses of a mailbox.
    fn set_special_use<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        uses: Vec<String>,
    ) -> Answer<'a, ()>;
    /// Annotations of a mailbox, or of the account.
    fn metadata<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: Option<MailboxRef>,
    ) -> Answer<'a, Vec<Annotation>>;
    /// Sets annotations, all or none.
    fn set_metadata<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: Option<MailboxRef>,
        annotations: Vec<Annotation>,
    ) -> Answer<'a, ()>;
    /// Counters of the account.
    fn usage<'a>(&'a self, account: &'a AccountName) -> Answer<'a, GetUsageResponse>;
    /// What a session needs to begin with.
    fn open<'a>(&'a self, account: &'a AccountName, mailbox: MailboxRef) -> Answer<'a, Opened>;
    /// Stores messages, all or none. `replace`: a message that the only one takes the place of.
    fn append<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        messages: &'a [Message],
        replace: Option<Replaced>,
    ) -> Answer<'a, AppendedAll>;
    /// Copies messages, or moves them, all or none.
    fn copy<'a>(
        &'a self,
        account: &'a AccountName,
        from: MailboxRef,
        uids: Vec<UidRange>,
        to: MailboxRef,
        moved: bool,
    ) -> Answer<'a, Copied>;
    /// Changes flags.
    fn set_flags<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        change: FlagChange,
    ) -> Answer<'a, FlagsChanged>;
    /// Removes those of the messages that carry `\Deleted`.
    fn expunge<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        uids: Vec<UidRange>,
    ) -> Answer<'a, Expunged>;
    /// What has changed in a mailbox, or in the whole account.
    fn changes<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: Option<MailboxRef>,
        since: ModSeq,
    ) -> Answer<'a, GetChangesResponse>;
    /// Messages in the order of their uids.
    fn fetch(
        &self,
        account: &AccountName,
        mailbox: MailboxRef,
        options: Wanted,
    ) -> BoxStream<'static, Result<Event, Error>>;
    /// Searches, sorts or threads a mailbox; given up when dropped.
    fn search<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: MailboxRef,
        query: Query,
    ) -> Answer<'a, Matches>;
    /// Follows the changes of an account after `since`.
    fn follow(&self, account: &AccountName, since: ModSeq) -> Box<dyn Follow>;
}

/// A message to be stored.
pub struct Message {
    /// Its octets.
    pub body: Body,
    /// Its flags.
    pub flags: Vec<String>,
    /// Milliseconds since 1970, 0 for now.
    pub internal_date_ms: u64,
}

/// What is fetched of which messages; flags, dates and size always are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// Which; none means all.
    pub uids: Vec<UidRange>,
    /// Only those with a higher modseq.
    pub changed_since: ModSeq,
    /// With envelope.
    pub envelope: bool,
    /// With structure.
    pub structure: bool,
    /// With preview.
    pub preview: bool,
    /// With thread id.
    pub email: bool,
    /// Sections, in this order.
    pub sections: Vec<Section>,
    /// A view that no quorum has confirmed will do: for what never changes of messages. One that
    /// is missing may be there all the same.
    pub unconfirmed: bool,
    /// Nothing but these columns; messages may come many at a time.
    pub columns: Option<Columns>,
}

/// What comes while messages are fetched.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Keywords and their numbers; before the first message that has them.
    Keywords(Vec<Keyword>),
    /// A message begins.
    Message(Box<Fetched>),
    /// Octets of a section of it.
    Section(SectionData),
    /// Messages of which only columns are wanted.
    Rows(Rows),
}

/// What is searched for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// The condition; none: every message.
    pub key: Option<SearchKey>,
    /// Sorted by these.
    pub sort: Vec<SortKey>,
    /// In threads.
    pub thread: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matches {
    /// Without sort and thread.
    pub uids: RoaringBitmap,
    /// With sort.
    pub sorted: Vec<Uid>,
    /// With thread: depth first.
    pub threads: Vec<ThreadNode>,
    /// The highest modseq of the matches.
    pub modseq: ModSeq,
}

/// News of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The newest change.
    pub modseq: ModSeq,
    /// Numbers of the mailboxes that changed.
    pub mailboxes: Vec<u32>,
    /// Which ones is not known: any.
    pub resync: bool,
    /// The account is no more.
    pub gone: bool,
}

/// A subscription to the changes of one account. Dropping it ends it.
pub trait Follow: Send {
    /// The next change; `None` when no more will come. Nothing is lost when it is dropped.
    fn next(&mut self) -> BoxFuture<'_, Option<Change>>;
}
