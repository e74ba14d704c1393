//! A mail program that stays: it selects a mailbox, hears of what others do there by IDLE and NOOP,
//! and comes back when it loses its connection, with what it has kept where it speaks QRESYNC
//! (RFC 2177, 7162). Some say NOTIFY, and hear between commands as well, of other mailboxes of the
//! account by their counters (RFC 5465).
//!
//! What it is told must make sense to it at every moment ([`super::belief`]); and at the end it
//! must know what a full reading finds, whichever nodes have led meanwhile
//! ([`crate::invariants::sessions`]).

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::history::{Answer, Believed, Call, Done};

use super::belief::{Belief, Known, Told};
use super::door::Program;
use super::imap::{self, literal};
use super::{At, Inner, account_name, credentials, mailbox_name};

/// Before it comes back: a password is not tried more often.
const AWAY: Duration = Duration::from_millis(1500);
/// Between two words of a program that only listens: without any, it would not find out that its
/// node is gone.
const WORD: Duration = Duration::from_secs(10);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(700);
/// How long it idles.
const IDLE: Duration = Duration::from_secs(3);
/// How long it waits for an answer: longer than a cluster needs to find a leader, so that the
/// session is still the same then.
const PATIENCE: Duration = Duration::from_secs(40);
/// Problems that are kept.
const PROBLEMS: usize = 5;

/// A mailbox as the final reading found it: uids with flags.
pub(super) type Final = Vec<(u32, BTreeSet<String>)>;

/// Which mailbox, and how.
pub(super) struct Stay {
    /// Whose.
    pub account: u32,
    /// Which.
    pub mailbox: u32,
    /// The password.
    pub password: u32,
    /// It speaks QRESYNC.
    pub qresync: bool,
    /// It idles; otherwise it asks.
    pub idle: bool,
    /// It says NOTIFY; without `idle`, it asks nothing after that.
    pub notify: bool,
}

/// A program that stays.
pub struct Stayer {
    stay: Stay,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    belief: Belief,
    /// The mailbox is selected.
    open: bool,
    /// How the last connection ended.
    out: Option<String>,
    problems: Vec<String>,
    /// Messages of other mailboxes, by uidvalidity, as last told.
    counted: BTreeMap<u32, u64>,
}

/// Codes of refusals that keep a program out of a mailbox for as long as things stay as they are:
/// it may not log in, or there is no such mailbox (RFC 9051, section 7.1).
const KEPT_OUT: [&str; 2] = ["NO [AUTHENTICATIONFAILED]", "NO [NONEXISTENT]"];

/// Whether a connection that ended like this is what there is to expect, and not a fault.
pub fn is_kept_out(why: &str) -> bool {
    KEPT_OUT.iter().any(|code| why.starts_with(code))
}

/// Begins to stay.
pub(super) fn stay(at: &At<'_>, stay: Stay) {
    let stayer = Arc::new(Stayer {
        stay,
        state: Mutex::default(),
    });
    at.inner.stayers.lock().push(Arc::clone(&stayer));
    let inner = Arc::downgrade(at.inner);
    tokio::spawn(async move {
        while let Some(inner) = inner.upgrade() {
            stayer.come(&inner).await;
            drop(inner);
            tokio::time::sleep(AWAY).await;
        }
    });
}

/// Waits until every program that stays knows what is there, and records what it knows. `finals`:
/// what is there, by account and uidvalidity.
pub(super) async fn finish(
    inner: &Arc<Inner>,
    finals: &BTreeMap<(u32, u32), Final>,
    until: Instant,
) {
    let stayers = inner.stayers.lock().clone();
    for stayer in stayers {
        while !stayer.knows(finals) && Instant::now() < until {
            tokio::time::sleep(PAUSE).await;
        }
        let at = At {
            inner,
            op: None,
            client: super::READER,
        };
        let call = Call::Stay {
            account: account_name(stayer.stay.account),
            mailbox: mailbox_name(stayer.stay.mailbox),
        };
        at.call(call, async {
            Answer::Done(Done::Believed(stayer.believed()))
        })
        .await;
    }
}

impl Stayer {
    /// Whether it knows what is there, or is kept out.
    fn knows(&self, finals: &BTreeMap<(u32, u32), Final>) -> bool {
        let believed = self.believed();
        let there = finals.get(&(self.stay.account, believed.uid_validity));
        let kept_out = believed.out.as_deref().is_some_and(is_kept_out);
        let counted = |(era, messages): &(u32, u64)| {
            let there = finals.get(&(self.stay.account, *era));
            there.is_none_or(|there| there.len() as u64 == *messages)
        };
        let told = there == Some(&believed.messages) && believed.counted.iter().all(counted);
        kept_out || told
    }

    fn believed(&self) -> Believed {
        let state = self.state.lock();
        let flags = |m: &Known| match &m.flags {
            Some(flags) => flags.clone(),
            None => BTreeSet::from(["not told".to_owned()]),
        };
        let messages = state.belief.messages.iter().filter(|_| state.open);
        Believed {
            uid_validity: match state.open {
                true => state.belief.uid_validity,
                false => 0,
            },
            out: state.out.clone().filter(|_| !state.open),
            messages: messages.map(|m| (m.uid, flags(m))).collect(),
            problems: state.problems.clone(),
            counted: match state.open {
                true => state.counted.iter().map(|(era, n)| (*era, *n)).collect(),
                false => Vec::new(),
            },
        }
    }

    /// One connection.
    async fn come(&self, inner: &Arc<Inner>) {
        let open = |door| imap::open(inner, door);
        let Some(program) = Program::connect(&inner.imap, None, open) else {
            return;
        };
        let mut connection = Connection {
            stayer: self,
            program,
            tag: 0,
        };
        let Err(why) = connection.run().await;
        tracing::debug!(%why, "a connection of a program that stays has ended");
        let mut state = self.state.lock();
        state.open = false;
        state.counted.clear();
        state.out = Some(why.to_string());
        match self.stay.qresync {
            true => state.belief.keep(),
            false => state.belief = Belief::default(),
        }
    }

    /// Takes a line that came while the mailbox was open.
    fn hear(&self, line: &[u8], expunges: bool) -> io::Result<()> {
        if line.starts_with(b"* BYE") {
            return Err(io::Error::other("the door closes"));
        }
        let mut state = self.state.lock();
        if let Some((era, messages)) = counters(line) {
            state.counted.insert(era, messages);
        }
        let heard = state.belief.hear(Told::read(line), expunges);
        state.judge(heard)
    }
}

/// UIDVALIDITY and MESSAGES of a STATUS that tells both.
fn counters(line: &[u8]) -> Option<(u32, u64)> {
    let line = String::from_utf8_lossy(line.strip_prefix(b"* STATUS ")?).into_owned();
    // Behind the name, which may hold anything.
    let items = &line[line.rfind('(')?..];
    let value = |name: &str| -> Option<u64> {
        let mut words = items.split(|c: char| !c.is_ascii_alphanumeric());
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    Some((value("UIDVALIDITY")?.try_into().ok()?, value("MESSAGES")?))
}

impl State {
    /// What makes no sense is a problem; after it, the program begins anew.
    fn judge(&mut self, heard: Result<(), String>) -> io::Result<()> {
        heard.map_err(|what| {
            if self.problems.len() < PROBLEMS {
                self.problems.push(what.clone());
            }
            self.belief = Belief::default();
            io::Error::other(what)
        })
    }
}

/// One connection of a program that stays.
struct Connection<'a> {
    stayer: &'a Stayer,
    program: Program,
    tag: u32,
}

impl Connection<'_> {
    /// Stays as long as the connection does.
    async fn run(&mut self) -> Result<std::convert::Infallible, io::Error> {
        let stay = &self.stayer.stay;
        self.program.line(literal).await?;
        let (account, octets) = (
            account_name(stay.account),
            credentials::password(stay.password),
        );
        self.answer(&format!("LOGIN {account} \"{octets}\""))
            .await?;
        if stay.qresync {
            self.answer("ENABLE QRESYNC").await?;
        }
        self.select().await?;
        if stay.notify {
            self.get_to_know().await?;
            self.notify().await?;
        }
        if stay.notify && !stay.idle {
            return self.listen().await;
        }
        loop {
            self.get_to_know().await?;
            match stay.idle {
                true => self.idle().await?,
                false => {
                    self.quiet().await?;
                    self.tell("NOOP", true).await?;
                }
            }
        }
    }

    /// Asks for what has not been told.
    async fn get_to_know(&mut self) -> io::Result<()> {
        let unknown = self.stayer.state.lock().belief.unknown();
        if let Some((first, last)) = unknown {
            // By numbers: until it is answered, nothing may be told to be gone.
            let command = format!("FETCH {first}:{last} (UID FLAGS)");
            self.tell(&command, false).await?;
        }
        Ok(())
    }

    /// Says what is to be told from now on.
    async fn notify(&mut self) -> io::Result<()> {
        let selected = match self.stayer.stay.idle {
            true => "SELECTED-DELAYED",
            false => "SELECTED",
        };
        let tag = self
            .say(&format!(
                "NOTIFY SET STATUS ({selected} (MessageNew (FLAGS) MessageExpunge FlagChange)) \
                 (PERSONAL (MessageNew MessageExpunge MailboxName))"
            ))
            .await?;
        let status = self.ended(&tag, true).await?;
        match status.starts_with("OK") {
            true => Ok(()),
            false => Err(io::Error::other(status)),
        }
    }

    /// Asks nothing, and hears. A number may come to mean another message at any time.
    async fn listen(&mut self) -> Result<std::convert::Infallible, io::Error> {
        loop {
            let until = Instant::now() + WORD;
            while let Ok(line) = tokio::time::timeout_at(until, self.program.line(literal)).await {
                self.stayer.hear(&line?, true)?;
            }
            // Where flags of a new message could not be told with it.
            let unknown = self.stayer.state.lock().belief.unknown();
            let word = match unknown {
                Some(_) => "UID FETCH 1:* (FLAGS)",
                None => "NAMESPACE",
            };
            self.tell(word, true).await?;
        }
    }

    async fn select(&mut self) -> io::Result<()> {
        let mailbox = mailbox_name(self.stayer.stay.mailbox);
        let (mut command, qresync) = (format!("SELECT \"{mailbox}\""), self.stayer.stay.qresync);
        {
            let mut state = self.stayer.state.lock();
            state.belief.qresync = qresync;
            let (era, modseq) = (state.belief.uid_validity, state.belief.modseq);
            if qresync && era != 0 && modseq != 0 {
                command.push_str(&format!(" (QRESYNC ({era} {modseq}))"));
            }
        }
        let lines = self.answer(&command).await?;
        let mut state = self.stayer.state.lock();
        let told = lines.iter().map(|line| Told::read(line)).collect();
        let opened = state.belief.open(told);
        state.judge(opened)?;
        state.open = true;
        Ok(())
    }

    /// Asks nothing for a while. No message may be told to be gone then (RFC 9051, section 7.5.1).
    async fn quiet(&mut self) -> io::Result<()> {
        let until = Instant::now() + PAUSE;
        while let Ok(line) = tokio::time::timeout_at(until, self.program.line(literal)).await {
            self.stayer.hear(&line?, false)?;
        }
        Ok(())
    }

    /// Gives a command in the open mailbox; it may be refused.
    async fn tell(&mut self, command: &str, expunges: bool) -> io::Result<()> {
        let tag = self.say(command).await?;
        self.ended(&tag, expunges).await.map(drop)
    }

    /// Hears of what happens for a while.
    async fn idle(&mut self) -> io::Result<()> {
        let tag = self.say("IDLE").await?;
        let until = Instant::now() + IDLE;
        // It begins with what has happened up to now, which may take as long as any answer.
        let latest = until + PATIENCE;
        let mut begun = false;
        loop {
            let line = self.program.line(literal);
            let end = if begun { until } else { latest };
            match tokio::time::timeout_at(end, line).await {
                Ok(Ok(line)) if line.starts_with(b"+ ") => begun = true,
                Ok(Ok(line)) => self.stayer.hear(&line, true)?,
                Ok(Err(e)) => return Err(e),
                Err(_) if begun => break,
                Err(e) => return Err(e.into()),
            }
        }
        self.program.say(&[b"DONE".as_slice()]).await?;
        self.ended(&tag, true).await.map(drop)
    }

    /// Hears of what happens until the answer with this tag has come; that answer.
    async fn ended(&mut self, tag: &str, expunges: bool) -> io::Result<String> {
        let stayer = self.stayer;
        let status = in_time(async {
            loop {
                let line = self.program.line(literal).await?;
                match line.strip_prefix(tag.as_bytes()) {
                    Some(status) => return Ok(String::from_utf8_lossy(status).into_owned()),
                    None => stayer.hear(&line, expunges)?,
                }
            }
        })
        .await?;
        let belief = &mut self.stayer.state.lock().belief;
        if let Some(code) = Told::code(status.trim_end()) {
            belief.hear(code, false).map_err(io::Error::other)?;
        }
        belief.end();
        Ok(status)
    }

    async fn say(&mut self, command: &str) -> io::Result<String> {
        self.tag += 1;
        let tag = format!("s{} ", self.tag);
        self.program
            .say(&[tag.as_bytes(), command.as_bytes()])
            .await?;
        Ok(tag)
    }

    /// What a command is answered before any mailbox is open: the lines without its tag. A refusal
    /// is an error.
    async fn answer(&mut self, command: &str) -> io::Result<Vec<Vec<u8>>> {
        let tag = self.say(command).await?;
        in_time(async {
            let mut lines = Vec::new();
            loop {
                let line = self.program.line(literal).await?;
                let Some(status) = line.strip_prefix(tag.as_bytes()) else {
                    lines.push(line);
                    continue;
                };
                return match status.starts_with(b"OK") {
                    true => Ok(lines),
                    false => Err(io::Error::other(String::from_utf8_lossy(status))),
                };
            }
        })
        .await
    }
}

/// What a command brings.
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await?
}
