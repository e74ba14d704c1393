//! What operations of clients there are.

use serde::{Deserialize, Serialize};

/// What an operation does. `mailbox` 0 is INBOX. A `pick` chooses among the messages that the
/// client believes to be there, modulo their number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum OpKind {
    /// Creates the account.
    CreateAccount,
    /// Deletes the account with all that is in it.
    DeleteAccount,
    /// Creates a mailbox.
    CreateMailbox {
        /// Which.
        mailbox: u32,
    },
    /// Delivers one message to this account and to more.
    Deliver {
        /// Other accounts.
        also: Vec<u32>,
        /// Octets of the body.
        size: u64,
        /// Body number: equal numbers and sizes give equal octets.
        body: u64,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
        /// Into this mailbox of each account; none: INBOX.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        into: Option<u32>,
        /// What it is given beside.
        #[serde(default, skip_serializing_if = "Given::is_nothing")]
        given: Given,
    },
    /// Appends to a mailbox.
    Append {
        /// Which.
        mailbox: u32,
        /// Octets of the body.
        size: u64,
        /// Body number.
        body: u64,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
        /// What it is given beside.
        #[serde(default, skip_serializing_if = "Given::is_nothing")]
        given: Given,
    },
    /// Changes flags of one to three messages.
    SetFlags {
        /// Mailbox.
        mailbox: u32,
        /// Message.
        pick: u32,
        /// `add`, `remove` or `replace`.
        mode: FlagMode,
        /// Names of flags and keywords.
        flags: Vec<String>,
        /// Whether the change is conditional on the modseq that the client last saw.
        unchanged_since: bool,
    },
    /// Expunges one message.
    Expunge {
        /// Mailbox.
        mailbox: u32,
        /// Message.
        pick: u32,
    },
    /// Lists mailboxes with their counters.
    Mailboxes,
    /// Lists the messages of a mailbox, a page of `page` at a time.
    List {
        /// Mailbox.
        mailbox: u32,
        /// Messages of a page.
        page: u32,
    },
    /// Reads a message whole and compares its octets.
    Fetch {
        /// Mailbox.
        mailbox: u32,
        /// Message.
        pick: u32,
    },
    /// An LMTP session with one message to this account and to more, through a node's door.
    Lmtp {
        /// Node whose door it is.
        node: u32,
        /// Other accounts.
        also: Vec<u32>,
        /// Octets of the body.
        size: u64,
        /// Body number.
        body: u64,
        /// Breaks the connection off at this place of the dialogue.
        cut: Option<LmtpCut>,
    },
    /// Creates a mailbox and the parents that its name needs.
    MakeMailbox {
        /// Which.
        mailbox: u32,
        /// Its special uses (RFC 6154).
        uses: Vec<String>,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Removes a mailbox.
    DeleteMailbox {
        /// Which.
        mailbox: u32,
        /// Name it by its number, where that is known.
        by_id: bool,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Renames a mailbox with its children; INBOX moves its messages.
    RenameMailbox {
        /// Which.
        mailbox: u32,
        /// It gets this one's name.
        to: u32,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Subscribes to a name, or not any more.
    Subscribe {
        /// Which.
        mailbox: u32,
        /// Whether it is subscribed then.
        on: bool,
    },
    /// Sets the special uses of a mailbox.
    SpecialUse {
        /// Which.
        mailbox: u32,
        /// All of them.
        uses: Vec<String>,
    },
    /// Sets or removes an annotation.
    SetMetadata {
        /// Of which mailbox; none: of the account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mailbox: Option<u32>,
        /// Its entry.
        entry: String,
        /// Its value; empty: removed.
        value: String,
    },
    /// Reads all annotations.
    Metadata {
        /// Of which mailbox; none: of the account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mailbox: Option<u32>,
    },
    /// Appends several messages, all or none.
    AppendMany {
        /// Where.
        mailbox: u32,
        /// Octets of each.
        sizes: Vec<u64>,
        /// Body number of the first; the others follow.
        body: u64,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
        /// What each is given beside.
        #[serde(default, skip_serializing_if = "Given::is_nothing")]
        given: Given,
    },
    /// Appends a message that takes the place of another one.
    Replace {
        /// Where.
        mailbox: u32,
        /// Which is replaced.
        pick: u32,
        /// Octets of the body.
        size: u64,
        /// Body number.
        body: u64,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
        /// What it is given beside.
        #[serde(default, skip_serializing_if = "Given::is_nothing")]
        given: Given,
    },
    /// Copies or moves messages to another mailbox.
    Carry {
        /// From here.
        mailbox: u32,
        /// To here.
        to: u32,
        /// In this account; none: in the same one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to_account: Option<u32>,
        /// The first of them.
        pick: u32,
        /// How many.
        count: u32,
        /// Whether they leave where they were.
        away: bool,
        /// Name both mailboxes by their numbers, where these are known.
        by_id: bool,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Changes flags of several messages.
    FlagSet {
        /// Where.
        mailbox: u32,
        /// The first of them.
        pick: u32,
        /// How many.
        count: u32,
        /// `add`, `remove` or `replace`.
        mode: FlagMode,
        /// Names of flags and keywords.
        flags: Vec<String>,
        /// Whether the change is conditional on the modseq that the client last saw.
        unchanged_since: bool,
        /// Name the mailbox by its number, where that is known.
        by_id: bool,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Expunges several messages.
    ExpungeSet {
        /// Where.
        mailbox: u32,
        /// The first of them.
        pick: u32,
        /// How many.
        count: u32,
        /// Also those without \Deleted.
        force: bool,
        /// Name the mailbox by its number, where that is known.
        by_id: bool,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Searches a mailbox for messages with a flag, or without it.
    Search {
        /// Which.
        mailbox: u32,
        /// The flag or keyword.
        flag: String,
        /// With it, or without.
        on: bool,
    },
    /// Reads a message section by section, and compares its octets.
    Sections {
        /// Mailbox.
        mailbox: u32,
        /// Message.
        pick: u32,
        /// How it is cut.
        cut: Cut,
    },
    /// Follows the account from now to the end: hears of changes by a watch and takes them over
    /// from then on, so that it knows at the end what a full reading finds.
    Follow {
        /// Changes that one question looks at.
        page: u32,
        /// Asks for the changes of the whole account, not of each mailbox that was named.
        #[serde(default, skip_serializing_if = "is_false")]
        whole: bool,
    },
    /// Sets the password, or removes it.
    SetPassword {
        /// Which; 0: none.
        password: u32,
    },
    /// Asks whether a password is right.
    Login {
        /// Which.
        password: u32,
        /// How often, one after the other.
        #[serde(default = "once")]
        times: u32,
    },
    /// An IMAP session: logs in, selects, appends a message, reads one, marks it as deleted and
    /// expunges it.
    Imap {
        /// The mailbox that is selected and appended to.
        mailbox: u32,
        /// The password.
        password: u32,
        /// Octets of the new message.
        size: u64,
        /// Its body number.
        body: u64,
        /// The message that is read and goes.
        pick: u32,
        /// Breaks off after so many commands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<u32>,
        /// Flags and keywords that the new message is given.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        flags: Vec<String>,
        /// Where the message that was read goes or is copied, before it is marked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carry: Option<ImapCarry>,
        /// What else it does, before it marks the message that was read.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<ImapStep>,
    },
    /// Lets the account in, freezes or closes it.
    SetState {
        /// To what.
        state: LoginState,
    },
    /// Makes a password for one program.
    AddAppPassword {
        /// For which program.
        app: u32,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Removes the password of one program.
    RemoveAppPassword {
        /// Of which program.
        app: u32,
        /// Repeat the call so many times afterwards, under the same request id.
        repeat: u32,
    },
    /// Lists the passwords of programs.
    ListAppPasswords,
    /// Logs in by a password of a program that the clients were told of, also one that is gone by
    /// now; where they were told of none, nothing is asked.
    AppLogin {
        /// Which of them, and how it is typed.
        pick: u32,
    },
    /// Searches a mailbox for messages with a flag, or without it, and has them told in an order.
    Sort {
        /// Which.
        mailbox: u32,
        /// The flag or keyword.
        flag: String,
        /// With it, or without.
        on: bool,
        /// By what.
        by: SortBy,
        /// The other way round.
        reverse: bool,
    },
    /// Searches a mailbox for messages with a flag, or without it, and has them told in threads.
    Thread {
        /// Which.
        mailbox: u32,
        /// The flag or keyword.
        flag: String,
        /// With it, or without.
        on: bool,
    },
    /// A POP3 session: logs in, lists INBOX, reads a message, marks it as deleted and quits.
    Pop3 {
        /// The password.
        password: u32,
        /// The message that is read and goes.
        pick: u32,
        /// Takes the mark away again before it quits.
        keep: bool,
        /// Breaks off after so many commands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<u32>,
    },
    /// Stays in a mailbox from now to the end, as a mail program does that is left open: hears by
    /// IMAP of what others do there, and knows at the end what a full reading finds.
    Stay {
        /// Which.
        mailbox: u32,
        /// The password.
        password: u32,
        /// Comes back with what it has kept (RFC 7162).
        qresync: bool,
        /// Idles; otherwise it asks from time to time.
        idle: bool,
        /// Says NOTIFY (RFC 5465), so that it is told of all mailboxes of the account; without `idle`,
        /// it asks nothing after that.
        #[serde(default, skip_serializing_if = "is_false")]
        notify: bool,
    },
    /// Asks what the account holds.
    Usage,
    /// Lists the accounts of all shards.
    Accounts {
        /// Accounts of a page.
        page: u32,
    },
}

/// What a new message is given beside its octets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Given {
    /// Names of flags and keywords.
    #[serde(default)]
    pub flags: Vec<String>,
    /// When it came, ms since 1970; 0: the store's clock tells.
    #[serde(default)]
    pub date_ms: u64,
}

impl Given {
    /// Whether there is neither.
    pub fn is_nothing(&self) -> bool {
        *self == Given::default()
    }
}

/// What an IMAP session copies or moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImapCarry {
    /// Into this mailbox.
    pub to: u32,
    /// Whether it leaves where it was.
    pub away: bool,
}

/// What an IMAP session may do beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImapStep {
    /// Appends several messages, all or none (RFC 3502).
    AppendMany {
        /// Octets of each.
        sizes: Vec<u64>,
        /// Body number of the first; the others follow.
        body: u64,
    },
    /// Appends a message in the place of another one (RFC 8508).
    Replace {
        /// The message that goes.
        pick: u32,
        /// Octets of the new one.
        size: u64,
        /// Its body number.
        body: u64,
    },
    /// Asks for the counters of a mailbox; not of the one that is selected.
    Status {
        /// Which.
        mailbox: u32,
    },
    /// Lists all mailboxes.
    List {
        /// With their counters (RFC 5819).
        status: bool,
    },
    /// Searches for messages with a flag, or without it, and has them counted (RFC 4731).
    Search {
        /// The flag or keyword.
        flag: String,
        /// With it, or without.
        on: bool,
    },
    /// Reads the message that is read in two pieces.
    Pieces {
        /// Octets of the first.
        cut: u32,
    },
}

/// By what messages are sorted (RFC 5256).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// When they came.
    Arrival,
    /// Their octets.
    Size,
    /// When they were sent.
    Date,
}

/// Messages of some bodies have many parts when they are at least so large: more than a summary
/// has room for.
pub const MANY_PARTS_BYTES: u64 = 96 << 10;

/// Whether the message of this body and size is one of many parts.
pub fn has_many_parts(body: u64, size: u64) -> bool {
    body % 8 == 5 && size >= MANY_PARTS_BYTES
}

fn once() -> u32 {
    1
}

fn is_false(on: &bool) -> bool {
    !on
}

/// How a message is cut into what is read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Header and text.
    Structure,
    /// The first octets, and the others.
    Halves,
    /// The same, each by a call of its own for a range of octets.
    Ranges,
    /// The whole, and with it one part that a summary leaves out.
    Part,
}

/// How flags are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlagMode {
    /// Adds them.
    Add,
    /// Removes them.
    Remove,
    /// Makes them the only ones.
    Replace,
}

/// Where an LMTP client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LmtpCut {
    /// Before it has said anything.
    Greeting,
    /// After LHLO.
    Lhlo,
    /// Within the line of a command.
    Line,
    /// After MAIL FROM.
    Mail,
    /// After the first recipient.
    Among,
    /// After the recipients.
    Rcpt,
    /// After DATA, before the first octet.
    Data,
    /// In the middle of the message.
    Body,
    /// After the last octet but before the final dot is answered.
    Dot,
    /// After the reply for the first recipient, before those for the others.
    Replies,
}

/// Who may log in to an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginState {
    /// Whoever knows a password.
    #[default]
    Active,
    /// Nobody; mail still arrives.
    Frozen,
    /// Nobody, and mail is refused.
    Closed,
}
