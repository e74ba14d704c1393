//! What clients did and what they were told: the only thing that a user of the store knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::plan::Given;

/// One call of a client, from its first request to its final answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the operation in the plan; calls that the workload adds (the final reading) have
    /// none.
    pub op: Option<u32>,
    /// Number of the client.
    pub client: u32,
    /// When it was called, ms of simulated time since the start of the run.
    pub called_ms: u64,
    /// When it answered.
    pub returned_ms: u64,
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
}

/// Which octets a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Octets {
    /// Body number.
    pub body: u64,
    /// Length.
    pub size: u64,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Creates an account.
    CreateAccount {
        /// Its name.
        account: String,
    },
    /// Deletes an account.
    DeleteAccount {
        /// Its name.
        account: String,
    },
    /// Creates a mailbox.
    CreateMailbox {
        /// Account.
        account: String,
        /// Its name.
        mailbox: String,
    },
    /// Delivers to some accounts, by gRPC or by LMTP.
    Deliver {
        /// Accounts, in the order of the answer.
        accounts: Vec<String>,
        /// Mailbox of each.
        mailbox: String,
        /// What the message is given beside.
        given: Given,
        /// What.
        octets: Octets,
        /// Its request id; `None` when the front door chooses it.
        request: Option<[u8; 16]>,
        /// Whether the message may be there even when nothing was acknowledged, and cannot be when
        /// this is false: the session was broken off before the whole message had been sent.
        may_exist: bool,
    },
    /// Appends to a mailbox.
    Append {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// What.
        octets: Octets,
        /// What it is given beside.
        given: Given,
        /// Its request id.
        request: [u8; 16],
    },
    /// Changes flags.
    SetFlags {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// Messages.
        uids: Vec<u32>,
        /// How.
        mode: crate::plan::FlagMode,
        /// Which.
        flags: Vec<String>,
        /// Condition; 0: none.
        unchanged_since: u64,
        /// The mailbox is the one with this uidvalidity, named by its number; 0: by its name.
        era: u32,
        /// Its request id.
        request: [u8; 16],
    },
    /// Expunges messages.
    Expunge {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// Messages.
        uids: Vec<u32>,
        /// Also those without \Deleted.
        force: bool,
        /// The mailbox is the one with this uidvalidity, named by its number; 0: by its name.
        era: u32,
        /// Its request id.
        request: [u8; 16],
    },
    /// Creates a mailbox and the parents that it needs.
    MakeMailbox {
        /// Account.
        account: String,
        /// Its name.
        mailbox: String,
        /// Special uses.
        uses: Vec<String>,
        /// Its request id.
        request: [u8; 16],
    },
    /// Removes a mailbox.
    DeleteMailbox {
        /// Account.
        account: String,
        /// Its name, as far as the client knows.
        mailbox: String,
        /// The mailbox is the one with this uidvalidity, named by its number; 0: by its name.
        era: u32,
        /// Its request id.
        request: [u8; 16],
    },
    /// Renames a mailbox; INBOX moves its messages.
    RenameMailbox {
        /// Account.
        account: String,
        /// Its name.
        mailbox: String,
        /// Its new name.
        to: String,
        /// Its request id.
        request: [u8; 16],
    },
    /// Subscribes to a name, or not any more.
    Subscribe {
        /// Account.
        account: String,
        /// The name.
        mailbox: String,
        /// Whether it is subscribed then.
        on: bool,
        /// Its request id.
        request: [u8; 16],
    },
    /// Sets the special uses of a mailbox.
    SpecialUse {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// All of them.
        uses: Vec<String>,
        /// Its request id.
        request: [u8; 16],
    },
    /// Sets or removes an annotation.
    SetMetadata {
        /// Account.
        account: String,
        /// Mailbox; `None`: of the account.
        mailbox: Option<String>,
        /// Entry.
        entry: String,
        /// Value; empty: removed.
        value: String,
        /// Its request id.
        request: [u8; 16],
    },
    /// Reads annotations.
    Metadata {
        /// Account.
        account: String,
        /// Mailbox; `None`: of the account.
        mailbox: Option<String>,
    },
    /// Appends several messages, all or none.
    AppendMany {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// What.
        items: Vec<Octets>,
        /// What each is given beside.
        given: Given,
        /// Its request id.
        request: [u8; 16],
    },
    /// Appends a message in the place of another one.
    Replace {
        /// Account.
        account: String,
        /// Where the new one comes.
        mailbox: String,
        /// The message that goes is in the mailbox with this uidvalidity, as a session selected it;
        /// 0: in the same one.
        era: u32,
        /// The message that goes.
        uid: u32,
        /// What comes.
        octets: Octets,
        /// What it is given beside.
        given: Given,
        /// Its request id.
        request: [u8; 16],
    },
    /// Copies or moves messages.
    Carry {
        /// Account.
        account: String,
        /// The account that they come into; `None`: the same one.
        to_account: Option<String>,
        /// From here.
        mailbox: String,
        /// ... the mailbox with this uidvalidity, named by its number; 0: by its name.
        era: u32,
        /// To here.
        to: String,
        /// ... the mailbox with this uidvalidity, named by its number; 0: by its name.
        to_era: u32,
        /// Which.
        uids: Vec<u32>,
        /// Whether they leave where they were.
        away: bool,
        /// Its request id.
        request: [u8; 16],
    },
    /// Searches a mailbox.
    Search {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// The mailbox is the one with this uidvalidity, as a session selected it; 0: by its name.
        era: u32,
        /// Messages from this uid on need not be told: the session may not know them yet. 0: all that
        /// are found are told.
        untold: u32,
        /// For messages with this flag ...
        flag: String,
        /// ... or without it.
        on: bool,
    },
    /// Selects a mailbox in an IMAP session.
    Select {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
    },
    /// What a client that follows the account knows at the end.
    Follow {
        /// Account.
        account: String,
    },
    /// What a mail program that stays in a mailbox knows at the end.
    Stay {
        /// Account.
        account: String,
        /// The name by which it selects the mailbox.
        mailbox: String,
    },
    /// Sets the password.
    SetPassword {
        /// Account.
        account: String,
        /// Number of the password; 0: none.
        password: u32,
        /// Its request id.
        request: [u8; 16],
    },
    /// Asks whether a password is right.
    Login {
        /// Account.
        account: String,
        /// Number of the password.
        password: u32,
    },
    /// Sets who may log in.
    SetState {
        /// Account.
        account: String,
        /// To this.
        state: crate::plan::LoginState,
        /// Its request id.
        request: [u8; 16],
    },
    /// Makes a password for one program.
    AddAppPassword {
        /// Account.
        account: String,
        /// Name of the program.
        name: String,
        /// Its request id.
        request: [u8; 16],
    },
    /// Removes the password of one program.
    RemoveAppPassword {
        /// Account.
        account: String,
        /// Name of the program.
        name: String,
        /// Its request id.
        request: [u8; 16],
    },
    /// Lists the passwords of programs.
    ListAppPasswords {
        /// Account.
        account: String,
    },
    /// Asks whether a program's password is right.
    AppLogin {
        /// Account.
        account: String,
        /// Hash of the password, as [`Done::Secret`] has it.
        secret: String,
    },
    /// Searches a mailbox and has what is found told in an order.
    Sort {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// For messages with this flag ...
        flag: String,
        /// ... or without it.
        on: bool,
        /// By what.
        by: crate::plan::SortBy,
        /// The other way round.
        reverse: bool,
    },
    /// Searches a mailbox and has what is found told in threads.
    Thread {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// For messages with this flag ...
        flag: String,
        /// ... or without it.
        on: bool,
    },
    /// What INBOX holds, as a POP3 session sees it from its login on.
    Maildrop {
        /// Account.
        account: String,
    },
    /// Asks what an account holds.
    Usage {
        /// Account.
        account: String,
    },
    /// Lists the accounts of all shards.
    Accounts,
    /// Lists mailboxes.
    Mailboxes {
        /// Account.
        account: String,
    },
    /// Asks for the counters of one mailbox by IMAP.
    Status {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
    },
    /// Lists the names of mailboxes by IMAP.
    Names {
        /// Account.
        account: String,
    },
    /// Lists messages.
    List {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
    },
    /// Reads a message.
    Fetch {
        /// Account.
        account: String,
        /// Mailbox.
        mailbox: String,
        /// Message.
        uid: u32,
        /// The mailbox is the one with this uidvalidity, as a session selected it; 0: by its name.
        era: u32,
    },
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done(Done),
    /// Refused for a reason that says that nothing was done.
    Refused(String),
    /// Failed or timed out: it may have been done, once, at any time from the call on.
    Unknown(String),
}

/// A message that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredAt {
    /// Generation of the uids.
    pub uid_validity: u32,
    /// Uid.
    pub uid: u32,
    /// Modseq; 0: not told, as by IMAP.
    pub modseq: u64,
}

/// A mailbox as it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MailboxSeen {
    /// Generation of the uids.
    pub uid_validity: u32,
    /// The next uid.
    pub uid_next: u32,
    /// Highest modseq.
    pub highest_modseq: u64,
    /// Number of messages.
    pub messages: u64,
    /// Number of those not \Seen.
    pub unseen: u64,
    /// Number of those with \Deleted.
    pub deleted: u64,
    /// Octets of all.
    pub bytes: u64,
    /// Number of the mailbox.
    pub id: u32,
    /// Special uses, sorted.
    pub uses: Vec<String>,
    /// Whether its name is subscribed.
    pub subscribed: bool,
}

/// All mailboxes of an account at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccountSeen {
    /// By name.
    pub mailboxes: BTreeMap<String, MailboxSeen>,
    /// All names that are subscribed, sorted.
    pub subscriptions: Vec<String>,
    /// The account's modseq; 0: IMAP tells neither this nor which names are subscribed that no
    /// mailbox has.
    pub modseq: u64,
}

/// What a follower knows of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Uids of each mailbox, by its number, with the modseq up to which the message was last heard
    /// of.
    pub mailboxes: BTreeMap<u32, BTreeMap<u32, u64>>,
    /// The last modseq that it heard of.
    pub modseq: u64,
    /// What it was told and should not have been.
    pub problems: Vec<String>,
}

/// What a mail program that stays in a mailbox knows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Believed {
    /// Generation of the uids; 0: it is in no mailbox at the moment.
    pub uid_validity: u32,
    /// Why it is in none: how its last connection ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
    /// Uids in the order of their numbers, with flags in small letters.
    pub messages: Vec<(u32, BTreeSet<String>)>,
    /// What it was told that makes no sense.
    pub problems: Vec<String>,
    /// How many messages other mailboxes have, by the generation of their uids, as far as it was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<(u32, u64)>,
}

/// A message as it was listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageSeen {
    /// Uid.
    pub uid: u32,
    /// Modseq.
    pub modseq: u64,
    /// Flags, sorted.
    pub flags: Vec<String>,
    /// Octets.
    pub size: u64,
    /// When it came, ms since 1970.
    pub date_ms: u64,
    /// BLAKE3 of the octets, hexadecimal.
    pub blob: String,
}

/// Counters of one mailbox, as STATUS tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusSeen {
    /// Generation of the uids.
    pub uid_validity: u32,
    /// The next uid.
    pub uid_next: u32,
    /// Number of messages.
    pub messages: u64,
    /// Number of those not \Seen.
    pub unseen: u64,
    /// Number of those with \Deleted.
    pub deleted: u64,
    /// Octets of all.
    pub bytes: u64,
}

/// What an account holds, as it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UsageSeen {
    /// Number of mailboxes.
    pub mailboxes: u64,
    /// Number of messages.
    pub messages: u64,
    /// Number of those not \Seen.
    pub unseen: u64,
    /// Number of those with \Deleted.
    pub deleted: u64,
    /// Octets of all.
    pub bytes: u64,
}

/// Results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Done {
    /// Without more to say.
    Plain,
    /// One result a recipient: where it was stored, or why not, or `None` for not known (LMTP
    /// says no uid: then all of `StoredAt` is 0).
    Delivered(Vec<Result<StoredAt, Answer>>),
    /// Appended.
    Appended(StoredAt),
    /// Flags after the change, by uid; and the uids that the condition kept unchanged.
    Flags {
        /// Modseq of the change.
        modseq: u64,
        /// Uids that were changed.
        changed: Vec<u32>,
        /// Uids that the condition protected.
        unchanged: Vec<u32>,
    },
    /// Expunged.
    Expunged {
        /// Modseq of the change.
        modseq: u64,
        /// Uids that are gone by this call.
        uids: Vec<u32>,
    },
    /// Mailboxes.
    Mailboxes(AccountSeen),
    /// A mailbox was made or renamed.
    Made {
        /// Its number.
        id: u32,
        /// Generation of its uids.
        uid_validity: u32,
    },
    /// Something was changed, or was so already.
    Changed {
        /// The account's modseq then.
        modseq: u64,
    },
    /// Annotations by entry.
    Annotations(BTreeMap<String, String>),
    /// Several messages were appended.
    AppendedAll {
        /// The first.
        first: StoredAt,
        /// How many.
        count: u32,
    },
    /// Messages were copied or moved: the n-th of `from` is the n-th of `to`.
    Carried {
        /// The modseq then of the account that they came from; 0: not told, as by IMAP.
        modseq: u64,
        /// Generation of the uids where they came.
        uid_validity: u32,
        /// Where they were.
        from: Vec<u32>,
        /// Where they are.
        to: Vec<u32>,
    },
    /// Counters of one mailbox.
    Status(StatusSeen),
    /// Names of mailboxes, with their special uses, sorted.
    Names(BTreeMap<String, Vec<String>>),
    /// A mailbox was selected.
    Selected {
        /// Generation of the uids.
        uid_validity: u32,
        /// The next uid.
        uid_next: u32,
        /// Number of messages.
        messages: u32,
    },
    /// Uids that a search found.
    Found(Vec<u32>),
    /// Uids that a search found, in the order that was asked for.
    Sorted(Vec<u32>),
    /// What a search found, in threads: uids, 0 for a message that is not there, and how deep each
    /// stands.
    Threads(Vec<(u32, u32)>),
    /// A password was made for a program: its hash, hexadecimal.
    Secret(String),
    /// The passwords of an account.
    AppPasswords {
        /// Whether it has one of its own.
        own: bool,
        /// Names of those of programs, sorted.
        names: Vec<String>,
    },
    /// Somebody may log in: by the password of this program; empty: by the account's own.
    Entered(String),
    /// What a POP3 session sees.
    Maildrop {
        /// Generation of the uids; 0: there is no message to tell it.
        uid_validity: u32,
        /// How many messages there are, as STAT says.
        count: u64,
        /// Octets of all, as STAT says.
        bytes: u64,
        /// Uid and octets of each; uid 0 stands for what cannot be.
        messages: Vec<(u32, u64)>,
    },
    /// What an account holds.
    Usage(UsageSeen),
    /// Names of accounts, as they were listed, with their modseqs.
    Accounts(Vec<(String, u64)>),
    /// What a follower knows.
    Followed(Followed),
    /// What a session knows that stays.
    Believed(Believed),
    /// Messages in the order of their uids.
    Messages {
        /// Generation of the uids.
        uid_validity: u32,
        /// Highest modseq of the mailbox at the first page.
        highest_modseq: u64,
        /// Whether all of it is one moment (one page).
        one_page: bool,
        /// The messages.
        messages: Vec<MessageSeen>,
    },
    /// BLAKE3 of the octets that were read, hexadecimal, and their number.
    Octets {
        /// Hash.
        blob: String,
        /// Number.
        size: u64,
    },
}
