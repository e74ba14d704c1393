//! Carries out the operations of a plan as mail software would: through the client library, and for
//! LMTP over a byte stream; and writes down every call with its answer.
//!
//! ```text
//! plan.ops ─▶ one task a client ─▶ account deliver append flags expunge read lmtp mailboxes carry
//!                                        │  search credentials follow imap stay pop3   (a kind a file)
//!                                        │  choose targets by `known`, octets by `body`
//!                                        ▼
//!                        posthouse_client::Client / LMTP stream ─▶ `answer` ─▶ history::Record
//! ```
//!
//! An answer is one of three (openraft's `oracle.rs` calls the last one "ambiguous"): done,
//! refused with the certainty that nothing was done, or unknown: it may have been done, once, at
//! any time from the call on. Deadlines are short on purpose, so that unknown answers are common.

pub mod account;
pub mod answer;
pub mod append;
pub mod belief;
pub mod body;
pub mod carry;
pub mod credentials;
pub mod deliver;
pub mod door;
pub mod expunge;
pub mod final_read;
pub mod flags;
pub mod follow;
pub mod imap;
pub mod known;
pub mod lmtp;
pub mod mailboxes;
pub mod pop3;
pub mod read;
pub mod search;
pub mod stay;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use posthouse_client::ids::{AccountName, MailboxId, MailboxName, MailboxRef, RequestId};
use posthouse_client::proto::UidRange;
use posthouse_client::{Client, Error};
use posthouse_node::env::net::Stream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::history::{Answer, Call, Octets, Record};
use crate::plan::{Op, OpKind, Plan};
use known::Known;

/// The client number of calls that the run itself makes at its end.
pub const READER: u32 = u32::MAX;

/// Octets of messages that go to another account in one step, all or none: posthouse.proto,
/// `CopyRequest`, less what the door of LMTP adds.
const STEP_BYTES: u64 = 31 << 20;

/// Beyond the client's own deadline, after which a call is given up in any case.
const GUARD: Duration = Duration::from_secs(6);
/// Why an answer is unknown that did not come by then: the client library promises to be in time
/// (`posthouse_client::Client::with_deadline`), so that there is none.
pub const GIVEN_UP: &str = "given up";
/// The same of a fetch that had not begun by then. How long it may go on is another matter.
pub const NOT_BEGUN: &str = "a fetch that did not begin is given up";

/// Makes a byte stream to the LMTP door of a node.
pub type Connect =
    Arc<dyn Fn(u32) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// What the world gives.
pub struct Access {
    /// The client library over the simulated network, for a client of this number. Asked for once
    /// a number.
    pub client: Arc<dyn Fn(u32) -> Client + Send + Sync>,
    /// Connects to the LMTP door of a node of the plan.
    pub connect: Connect,
    /// Simulated time since the start of the run.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Called when a call has its final answer.
    pub record: Arc<dyn Fn(Record) + Send + Sync>,
}

/// The operations of one plan, and what is known of them.
pub struct Workload {
    inner: Arc<Inner>,
}

struct Inner {
    access: Access,
    seed: u64,
    accounts: u32,
    clients: u32,
    ops: Vec<Op>,
    /// Operations that could not begin by then are left out.
    cutoff: Duration,
    known: Mutex<Known>,
    bodies: Mutex<body::Bodies>,
    handles: Mutex<BTreeMap<u32, Client>>,
    under_way: Mutex<UnderWay>,
    followers: Mutex<BTreeMap<u32, Arc<follow::Follower>>>,
    stayers: Mutex<Vec<Arc<stay::Stayer>>>,
    imap: door::Gateway,
    pop3: door::Gateway,
    /// Passwords of programs that clients were told, by account, in the order of the answers.
    secrets: Mutex<BTreeMap<u32, Vec<String>>>,
}

/// Calls without an answer yet.
#[derive(Default)]
struct UnderWay {
    next: u64,
    calls: BTreeMap<u64, Begun>,
}

struct Begun {
    op: Option<u32>,
    client: u32,
    called_ms: u64,
    call: Call,
}

/// The domain of all accounts of a plan.
const DOMAIN: &str = "sim.example";

/// The name of an account of the plan.
pub fn account_name(account: u32) -> String {
    format!("user{account}@{DOMAIN}")
}

/// The name of a mailbox of the plan; 0 is INBOX.
pub fn mailbox_name(mailbox: u32) -> String {
    match mailbox {
        0 => "INBOX".to_owned(),
        // Children of INBOX and of the first seven.
        n if n >= 8 => format!("{}/Low-{}", mailbox_name(n % 8), n / 8),
        n => format!("Box-{n}"),
    }
}

/// The number of a mailbox of the plan; of others, there is none.
pub fn mailbox_number(name: &str) -> Option<u32> {
    (0..32).find(|n| mailbox_name(*n) == name)
}

impl Workload {
    /// The workload of `plan`.
    pub fn new(plan: &Plan, access: Access) -> Workload {
        let last = plan.ops.iter().map(|op| op.at_ms).max().unwrap_or(0);
        Workload {
            inner: Arc::new(Inner {
                access,
                seed: plan.seed,
                accounts: plan.accounts,
                clients: plan.clients.max(1),
                ops: plan.ops.clone(),
                cutoff: Duration::from_millis(last.max(plan.duration_ms)),
                known: Mutex::default(),
                bodies: Mutex::default(),
                handles: Mutex::default(),
                under_way: Mutex::default(),
                followers: Mutex::default(),
                stayers: Mutex::default(),
                imap: Mutex::default(),
                pop3: Mutex::default(),
                secrets: Mutex::default(),
            }),
        }
    }

    /// Runs every client, one task each: its operations in the order of the plan, none before its
    /// time counted from now, and none that could not begin before the plan's end. Ends when all
    /// are done; what a session has left without an answer is recorded as unknown.
    pub async fn run(&self) {
        let start = Instant::now();
        let mut by_client: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (index, op) in self.inner.ops.iter().enumerate() {
            by_client.entry(op.client).or_default().push(index as u32);
        }
        let mut tasks = JoinSet::new();
        // Front ends know their cluster before anything goes wrong: one that meets a stranger at
        // a node's address first would take the stranger's cluster for its own.
        for number in 0..self.inner.clients {
            let client = self.inner.handle(number).with_deadline(GUARD);
            tasks.spawn(async move { drop(client.placement().await) });
        }
        for (_, mine) in by_client {
            let inner = self.inner.clone();
            tasks.spawn(async move {
                for index in mine {
                    let op = &inner.ops[index as usize];
                    tokio::time::sleep_until(start + Duration::from_millis(op.at_ms)).await;
                    if start.elapsed() > inner.cutoff {
                        return;
                    }
                    inner.perform(index).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(e) = ended
                && e.is_panic()
            {
                std::panic::resume_unwind(e.into_panic());
            }
        }
        self.inner.give_up();
    }

    /// Reads everything once the world has healed: every account, every mailbox, every message
    /// with its octets, as calls of client [`READER`]. What does not answer is asked again, for up
    /// to 30 seconds; then the error says what it was.
    pub async fn read_all(&self) -> Result<(), String> {
        final_read::read_all(&self.inner).await
    }
}

impl Inner {
    async fn perform(self: &Arc<Self>, index: u32) {
        let op = &self.ops[index as usize];
        let at = At {
            inner: self,
            op: Some(index),
            client: op.client,
        };
        let (account, octets) = (op.account, |body, size| Octets { body, size });
        match &op.kind {
            OpKind::CreateAccount => account::create(&at, account).await,
            OpKind::DeleteAccount => account::delete(&at, account).await,
            OpKind::CreateMailbox { mailbox } => {
                account::create_mailbox(&at, account, *mailbox).await
            }
            OpKind::Deliver {
                also,
                size,
                body,
                repeat,
                into,
                given,
            } => {
                let what = deliver::Delivered {
                    to: recipients(account, also),
                    into: into.unwrap_or(0),
                    octets: octets(*body, *size),
                    given,
                };
                deliver::deliver(&at, what, *repeat).await
            }
            OpKind::Append {
                mailbox,
                size,
                body,
                repeat,
                given,
            } => {
                let what = (octets(*body, *size), given);
                append::append(&at, (account, *mailbox), what, *repeat).await
            }
            OpKind::SetFlags {
                mailbox,
                pick,
                mode,
                flags,
                unchanged_since,
            } => {
                let change = flags::Change {
                    place: (account, *mailbox),
                    pick: *pick,
                    count: 1 + *pick % 3,
                    mode: *mode,
                    flags,
                    conditional: *unchanged_since,
                    by_id: false,
                };
                flags::set_flags(&at, change, 0).await
            }
            OpKind::Expunge { mailbox, pick } => {
                let what = expunge::Expunge {
                    place: (account, *mailbox),
                    pick: *pick,
                    count: 1,
                    force: true,
                    by_id: false,
                };
                expunge::expunge(&at, what, 0).await
            }
            OpKind::Mailboxes => {
                read::mailboxes(&at, account).await;
            }
            OpKind::List { mailbox, page } => {
                read::list(&at, account, &mailbox_name(*mailbox), *page).await;
            }
            OpKind::Fetch { mailbox, pick } => {
                read::fetch_pick(&at, (account, *mailbox), *pick).await
            }
            OpKind::Lmtp {
                node,
                also,
                size,
                body,
                cut,
            } => {
                let to = recipients(account, also);
                lmtp::lmtp(&at, *node, &to, octets(*body, *size), *cut).await
            }
            kind => mail(&at, account, kind).await,
        }
    }

    /// Whether the plan deletes the account, so that another one may get its name.
    fn comes_again(&self, account: u32) -> bool {
        let mut ops = self.ops.iter().filter(|op| op.account == account);
        ops.any(|op| op.kind == OpKind::DeleteAccount)
    }

    /// Whether so many messages may have more octets than one step of the store takes.
    fn are_many_octets(&self, messages: usize) -> bool {
        let largest = self.ops.iter().map(|op| op.kind.octets()).max();
        largest.unwrap_or(0).saturating_mul(messages as u64) > STEP_BYTES
    }

    /// The client library of client `number`.
    fn handle(&self, number: u32) -> Client {
        let mut handles = self.handles.lock();
        let handle = handles.entry(number);
        handle
            .or_insert_with(|| (self.access.client)(number))
            .clone()
    }

    fn begin(&self, op: Option<u32>, client: u32, call: Call) -> u64 {
        let called_ms = (self.access.now_ms)();
        let under_way = &mut *self.under_way.lock();
        let ticket = under_way.next;
        under_way.next += 1;
        let begun = Begun {
            op,
            client,
            called_ms,
            call,
        };
        under_way.calls.insert(ticket, begun);
        ticket
    }

    fn end(&self, ticket: u64, call: Option<Call>, answer: Answer) {
        let Some(begun) = self.under_way.lock().calls.remove(&ticket) else {
            return;
        };
        (self.access.record)(Record {
            op: begun.op,
            client: begun.client,
            called_ms: begun.called_ms,
            returned_ms: (self.access.now_ms)(),
            call: call.unwrap_or(begun.call),
            answer,
        });
    }

    /// What is under way stays unknown.
    fn give_up(&self) {
        let tickets: Vec<u64> = self.under_way.lock().calls.keys().copied().collect();
        for ticket in tickets {
            self.end(ticket, None, Answer::Unknown("the run has ended".into()));
        }
    }
}

/// What mail programs do.
async fn mail(at: &At<'_>, account: u32, kind: &OpKind) {
    match kind {
        OpKind::MakeMailbox {
            mailbox,
            uses,
            repeat,
        } => mailboxes::make(at, (account, *mailbox), uses, *repeat).await,
        OpKind::DeleteMailbox {
            mailbox,
            by_id,
            repeat,
        } => mailboxes::delete(at, (account, *mailbox), *by_id, *repeat).await,
        OpKind::RenameMailbox {
            mailbox,
            to,
            repeat,
        } => mailboxes::rename(at, (account, *mailbox), *to, *repeat).await,
        OpKind::Subscribe { mailbox, on } => {
            mailboxes::subscribe(at, (account, *mailbox), *on).await
        }
        OpKind::SpecialUse { mailbox, uses } => {
            mailboxes::special_use(at, (account, *mailbox), uses).await
        }
        OpKind::SetMetadata {
            mailbox,
            entry,
            value,
        } => mailboxes::set_metadata(at, account, *mailbox, entry, value).await,
        OpKind::Metadata { mailbox } => mailboxes::metadata(at, account, *mailbox).await,
        OpKind::AppendMany {
            mailbox,
            sizes,
            body,
            repeat,
            given,
        } => {
            let items = sizes.iter().zip(*body..);
            let items: Vec<Octets> = items
                .map(|(size, body)| Octets { body, size: *size })
                .collect();
            carry::append_many(at, (account, *mailbox), (&items, given), *repeat).await
        }
        OpKind::Replace {
            mailbox,
            pick,
            size,
            body,
            repeat,
            given,
        } => {
            let octets = Octets {
                body: *body,
                size: *size,
            };
            carry::replace(at, (account, *mailbox), *pick, (octets, given), *repeat).await
        }
        OpKind::Carry {
            mailbox,
            to,
            to_account,
            pick,
            count,
            away,
            by_id,
            repeat,
        } => {
            let what = carry::Carried {
                place: (account, *mailbox),
                target: (to_account.unwrap_or(account), *to),
                pick: *pick,
                count: *count,
                away: *away,
                by_id: *by_id,
            };
            carry::carry(at, what, *repeat).await
        }
        OpKind::FlagSet {
            mailbox,
            pick,
            count,
            mode,
            flags,
            unchanged_since,
            by_id,
            repeat,
        } => {
            let change = flags::Change {
                place: (account, *mailbox),
                pick: *pick,
                count: *count,
                mode: *mode,
                flags,
                conditional: *unchanged_since,
                by_id: *by_id,
            };
            flags::set_flags(at, change, *repeat).await
        }
        OpKind::ExpungeSet {
            mailbox,
            pick,
            count,
            force,
            by_id,
            repeat,
        } => {
            let what = expunge::Expunge {
                place: (account, *mailbox),
                pick: *pick,
                count: *count,
                force: *force,
                by_id: *by_id,
            };
            expunge::expunge(at, what, *repeat).await
        }
        OpKind::Search { mailbox, flag, on } => {
            search::search(at, (account, *mailbox), flag, *on).await
        }
        OpKind::Sections { mailbox, pick, cut } => {
            search::sections(at, (account, *mailbox), *pick, *cut).await
        }
        OpKind::Follow { page, whole } => follow::follow(at, account, *page, *whole),
        OpKind::SetPassword { password } => credentials::set_password(at, account, *password).await,
        OpKind::Login { password, times } => {
            credentials::login(at, account, *password, *times).await
        }
        OpKind::SetState { state } => credentials::set_state(at, account, *state).await,
        OpKind::Imap {
            mailbox,
            password,
            size,
            body,
            pick,
            cut,
            flags,
            carry,
            also,
        } => {
            let script = imap::Script {
                place: (account, *mailbox),
                password: *password,
                octets: Octets {
                    body: *body,
                    size: *size,
                },
                pick: *pick,
                cut: *cut,
                flags,
                carry: *carry,
                also,
            };
            imap::imap(at, script).await
        }
        kind => programs(at, account, kind).await,
    }
}

/// What programs of users do beside.
async fn programs(at: &At<'_>, account: u32, kind: &OpKind) {
    match kind {
        OpKind::AddAppPassword { app, repeat } => {
            credentials::add_app(at, account, *app, *repeat).await
        }
        OpKind::RemoveAppPassword { app, repeat } => {
            credentials::remove_app(at, account, *app, *repeat).await
        }
        OpKind::ListAppPasswords => credentials::list_apps(at, account).await,
        OpKind::Stay {
            mailbox,
            password,
            qresync,
            idle,
            notify,
        } => {
            let stay = stay::Stay {
                account,
                mailbox: *mailbox,
                password: *password,
                qresync: *qresync,
                idle: *idle,
                notify: *notify,
            };
            stay::stay(at, stay);
        }
        OpKind::Usage => account::usage(at, account).await,
        OpKind::Accounts { page } => account::list(at, *page).await,
        OpKind::AppLogin { pick } => credentials::app_login(at, account, *pick).await,
        OpKind::Sort {
            mailbox,
            flag,
            on,
            by,
            reverse,
        } => {
            let order = search::Order {
                by: *by,
                reverse: *reverse,
            };
            search::sort(at, (account, *mailbox), (flag.as_str(), *on), order).await
        }
        OpKind::Thread { mailbox, flag, on } => {
            search::thread(at, (account, *mailbox), flag, *on).await
        }
        OpKind::Pop3 {
            password,
            pick,
            keep,
            cut,
        } => {
            let script = pop3::Script {
                account,
                password: *password,
                pick: *pick,
                keep: *keep,
                cut: *cut,
            };
            pop3::pop3(at, script).await
        }
        other => unreachable!("{} is done elsewhere", other.name()),
    }
}

/// One operation at work.
struct At<'a> {
    inner: &'a Arc<Inner>,
    op: Option<u32>,
    client: u32,
}

impl At<'_> {
    /// How long a call of this operation may take: between 2 and 9 seconds.
    fn deadline(&self) -> Duration {
        let op = self.op.unwrap_or(3) as u64;
        Duration::from_secs(2 + op % 8)
    }

    /// The client library for the n-th try of this operation: a repeat comes from elsewhere, as
    /// when another front end takes over.
    fn client(&self, repeat: u32) -> Client {
        let number = match self.client {
            READER => 0,
            client => (client + repeat) % self.inner.clients,
        };
        self.inner.handle(number).with_deadline(self.deadline())
    }

    /// The request id of this operation.
    fn request(&self) -> [u8; 16] {
        let mut hash = blake3::Hasher::new();
        hash.update(b"request id");
        hash.update(&self.inner.seed.to_le_bytes());
        hash.update(&self.op.unwrap_or(READER).to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        id
    }

    /// Makes a call and records it with its answer.
    async fn call(&self, call: Call, work: impl Future<Output = Answer>) -> Answer {
        let seconds = match &call {
            Call::Deliver { octets, .. }
            | Call::Append { octets, .. }
            | Call::Replace { octets, .. } => octets.size >> 20,
            // The size is not known: as for a message of 20 MiB.
            Call::Fetch { .. } => 20,
            _ => 0,
        };
        let guard = self.deadline() + GUARD + Duration::from_secs(seconds);
        let ticket = self.inner.begin(self.op, self.client, call);
        let answer = match tokio::time::timeout(guard, work).await {
            Ok(answer) => answer,
            Err(_) => Answer::Unknown(GIVEN_UP.into()),
        };
        self.inner.end(ticket, None, answer.clone());
        answer
    }

    /// A fetch that is to begin.
    async fn opened<T>(&self, fetch: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let guard = self.deadline() + GUARD;
        let late = |_| Error::Deadline {
            message: NOT_BEGUN.into(),
        };
        let opened = tokio::time::timeout(guard, fetch).await;
        opened.map_err(late)?
    }

    /// How a mailbox is named, and its uidvalidity when it is named by its number.
    fn which(&self, place: known::Place, by_id: bool) -> (MailboxRef, u32) {
        let known = self.inner.known.lock().id(place);
        match known.filter(|_| by_id) {
            Some((id, uidvalidity)) => {
                let id = MailboxId(id);
                (MailboxRef::Id { id, uidvalidity }, uidvalidity)
            }
            None => (mailbox_id(place.1).into(), 0),
        }
    }

    /// Some of the messages that are known, with their modseqs.
    fn pick(&self, place: known::Place, pick: u32, count: u32) -> Vec<(u32, u64)> {
        self.inner.known.lock().pick(place, pick, count as usize)
    }

    fn octets(&self, octets: Octets) -> bytes::Bytes {
        self.inner.bodies.lock().get(octets)
    }
}

/// The account and the others, none of them twice.
fn recipients(account: u32, also: &[u32]) -> Vec<u32> {
    let mut all = vec![account];
    for other in also {
        if !all.contains(other) {
            all.push(*other);
        }
    }
    all
}

fn account_id(account: u32) -> AccountName {
    AccountName::new(&account_name(account)).expect("names of the plan's accounts are good")
}

fn mailbox_id(mailbox: u32) -> MailboxName {
    MailboxName::new(&mailbox_name(mailbox)).expect("names of the plan's mailboxes are good")
}

fn request_id(id: [u8; 16]) -> Option<RequestId> {
    Some(RequestId(id))
}

/// Each uid as a range.
fn ranges(uids: &[u32]) -> Vec<UidRange> {
    let one = |uid: &u32| UidRange {
        first: *uid,
        last: *uid,
    };
    uids.iter().map(one).collect()
}
