//! What each operation answers and changes, as the account is: the rules of [`super::spec`].
//!
//! RFC 9051, section 6.3 for mailboxes, 6.4 for messages; RFC 6851 for moves, RFC 3502 for several
//! messages at once, RFC 8508 for replacements, RFC 7162 for conditions. The order of the refusals is
//! the contract's: the account, then a repeated request, then what is asked for.

use std::sync::Arc;

use super::spec::{
    Account, First, INBOX, Item, Landing, Mailbox, Message, Name, Op, Replaced, Ret, UNTOLD, Where,
    combined,
};
use crate::history::{AccountSeen, StoredAt};
use crate::plan::{FlagMode, LoginState};

/// What an operation would do.
#[derive(Debug)]
pub struct Outcome {
    /// What it would answer, without what is learned of its mailbox.
    pub ret: Ret,
    /// That mailbox, when it is there already.
    pub era: Option<u32>,
    /// What it would change.
    pub steps: Vec<Step>,
    /// Under what its answer is remembered.
    pub request: Option<Name>,
}

/// One change.
#[derive(Debug)]
pub enum Step {
    /// The account is created.
    Create,
    /// The account is deleted.
    Destroy,
    /// A mailbox is made, with special uses.
    Make(Arc<str>, Vec<String>),
    /// It will take what INBOX has now.
    WillTake(Name, Arc<str>),
    /// A mailbox is removed.
    Remove(Arc<str>),
    /// Mailboxes get other names, all at once.
    Rename(Vec<(Arc<str>, Arc<str>)>),
    /// A name is subscribed, or not any more.
    Subscribe(Arc<str>, bool),
    /// A mailbox has these special uses.
    Uses(Arc<str>, Vec<String>),
    /// A mailbox or the account has this annotation.
    Annotate(Option<Arc<str>>, String, String),
    /// Messages come; their modseq is set then.
    Arrive(Arc<str>, Vec<Message>),
    /// Messages go.
    Leave(Arc<str>, Vec<u32>),
    /// Flags of messages change.
    Flags(Arc<str>, Vec<u32>, FlagMode, Vec<Name>),
    /// The password changes.
    Password(u32),
    /// A program gets a password, with this secret.
    AddApp(Arc<str>, Name),
    /// A program has no password any more.
    RemoveApp(Arc<str>),
    /// Others may log in.
    State(LoginState),
    /// Nobody can say what changes.
    Blind,
}

impl Step {
    /// By how much it raises the modseq.
    pub fn modseqs(&self) -> u64 {
        match self {
            Step::Create | Step::Destroy | Step::WillTake(..) | Step::Blind => 0,
            Step::Rename(names) => names.len() as u64,
            _ => 1,
        }
    }
}

impl Outcome {
    /// An answer that changes nothing.
    pub fn of(ret: Ret) -> Outcome {
        Outcome {
            ret,
            era: None,
            steps: Vec::new(),
            request: None,
        }
    }

    fn change(step: Step) -> Outcome {
        Outcome {
            steps: vec![step],
            ..Outcome::of(Ret::Done)
        }
    }
}

impl Op {
    /// Whether it changes nothing, whatever it answers.
    pub fn reads(&self) -> bool {
        matches!(
            self,
            Op::Mailboxes
                | Op::Usage
                | Op::Listed
                | Op::List(_)
                | Op::Fetch(..)
                | Op::Search { .. }
                | Op::Status(_)
                | Op::Names
                | Op::Sort { .. }
                | Op::Thread(..)
                | Op::Maildrop { .. }
                | Op::Select(_)
                | Op::Annotations(_)
                | Op::Apps
                | Op::AppLogin(_)
                | Op::Login(_)
        )
    }
}

impl Account {
    /// What `op` would do now. `ret`: what it answered, where that is known: it tells what depends on
    /// flags that are not known.
    pub fn outcome(&self, op: &Op, ret: Option<&Ret>) -> Outcome {
        match op {
            Op::CreateAccount if self.exists => return Outcome::of(Ret::Exists),
            Op::CreateAccount => return Outcome::change(Step::Create),
            Op::Login(_) | Op::AppLogin(_) if !self.exists => return Outcome::of(Ret::NoLogin),
            _ if !self.exists => return Outcome::of(Ret::NoAccount),
            Op::DeleteAccount => return Outcome::change(Step::Destroy),
            _ => {}
        }
        let request = request_of(op);
        if let Some(First { ret, era }) = request.and_then(|id| self.requests.get(&id)) {
            return Outcome {
                era: *era,
                ..Outcome::of(ret.clone())
            };
        }
        let mut outcome = match self.first_time(op, ret) {
            Ok(outcome) => outcome,
            // What was refused is not remembered.
            Err(ret) => return Outcome::of(ret),
        };
        outcome.request = request;
        outcome
    }

    fn first_time(&self, op: &Op, told: Option<&Ret>) -> Result<Outcome, Ret> {
        match op {
            Op::Make {
                name,
                uses,
                for_inbox,
                request,
            } => {
                if self.mailboxes.contains_key(name) {
                    return Err(Ret::Exists);
                }
                let mut steps = self.parents(name);
                steps.push(Step::Make(Arc::clone(name), uses.clone()));
                if *for_inbox {
                    steps.push(Step::WillTake(*request, Arc::clone(name)));
                }
                Ok(Outcome {
                    steps,
                    ..Outcome::of(Ret::Made(0, 0))
                })
            }
            Op::MoveInbox { made } => self.move_inbox(*made),
            Op::DeleteMailbox { at, .. } => {
                let (name, _) = self.find(at).ok_or(Ret::NoMailbox)?;
                if **name == *INBOX {
                    return Err(Ret::Refused);
                }
                Ok(self.changed(Some(Step::Remove(Arc::clone(name)))))
            }
            Op::Rename { from, to, .. } => self.rename(from, to),
            Op::Subscribe { name, on, .. } => {
                let step = Step::Subscribe(Arc::clone(name), *on);
                let there = self.subscriptions.contains(name);
                Ok(self.changed((there != *on).then_some(step)))
            }
            Op::Uses { name, uses, .. } => {
                let m = self.mailboxes.get(name).ok_or(Ret::NoMailbox)?;
                let step = Step::Uses(Arc::clone(name), uses.clone());
                Ok(self.changed((m.uses != *uses).then_some(step)))
            }
            Op::Annotate {
                name, entry, value, ..
            } => {
                let known = match name {
                    None => &*self.annotations,
                    Some(name) => &self.mailboxes.get(name).ok_or(Ret::NoMailbox)?.annotations,
                };
                let same = known.get(entry).map_or("", String::as_str) == value;
                let step = Step::Annotate(name.clone(), entry.clone(), value.clone());
                Ok(self.changed((!same).then_some(step)))
            }
            Op::Store {
                mailbox,
                items,
                replaces,
                ..
            } => self.store(mailbox, items, *replaces),
            Op::Carry {
                from,
                to,
                uids,
                away,
                ..
            } => {
                let (from, source) = self.find(from).ok_or(Ret::NoMailbox)?;
                let (to, target) = self.find(to).ok_or(Ret::NoMailbox)?;
                Ok(self.carry((from, source), (to, target), uids, *away))
            }
            Op::Land { vague: true, .. } | Op::Depart { vague: true, .. } => {
                Ok(Outcome::change(Step::Blind))
            }
            Op::Land {
                to, told, items, ..
            } => self.land(to, *told, items),
            Op::Depart { at, uids, .. } => {
                let found = self.find(at);
                let gone = found.map(|(name, m)| {
                    let gone: Vec<u32> = there(m, uids).map(|(uid, _)| uid).collect();
                    (Arc::clone(name), gone)
                });
                let gone = gone.filter(|(_, gone)| !gone.is_empty());
                let steps: Vec<Step> = gone
                    .map(|(n, gone)| Step::Leave(n, gone))
                    .into_iter()
                    .collect();
                Ok(Outcome {
                    ret: Ret::Departed(self.modseq + steps.len() as u64),
                    steps,
                    ..Outcome::of(Ret::Done)
                })
            }
            Op::SetFlags {
                at,
                uids,
                mode,
                flags,
                unchanged_since,
                ..
            } => {
                let (name, m) = self.find(at).ok_or(Ret::NoMailbox)?;
                let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
                for (uid, message) in there(m, uids) {
                    if *unchanged_since != 0 && message.modseq > *unchanged_since {
                        unchanged.push(uid);
                    } else if message.open {
                        match told {
                            Some(Ret::Flags { changed: said, .. }) if said.contains(&uid) => {
                                changed.push(uid);
                            }
                            Some(Ret::Flags { .. }) => {}
                            _ => return Ok(Outcome::change(Step::Blind)),
                        }
                    } else if combined(&message.flags, *mode, flags) != message.flags {
                        changed.push(uid);
                    }
                }
                let step = Step::Flags(Arc::clone(name), changed.clone(), *mode, flags.clone());
                let steps: Vec<Step> = (!changed.is_empty()).then_some(step).into_iter().collect();
                Ok(Outcome {
                    ret: Ret::Flags {
                        modseq: self.modseq + steps.len() as u64,
                        changed,
                        unchanged,
                    },
                    steps,
                    ..Outcome::of(Ret::Done)
                })
            }
            Op::Expunge {
                at, uids, force, ..
            } => {
                let (name, m) = self.find(at).ok_or(Ret::NoMailbox)?;
                let said = match told {
                    Some(Ret::Expunged { uids, .. }) => Some(uids),
                    _ => None,
                };
                if !*force && said.is_none() && there(m, uids).any(|(_, m)| m.open) {
                    return Ok(Outcome::change(Step::Blind));
                }
                let goes = |uid: &u32, m: &Message| match (m.open, said) {
                    _ if *force => true,
                    (true, Some(said)) => said.contains(uid),
                    _ => m.flags.contains(&super::spec::DELETED),
                };
                let gone = there(m, uids);
                let gone = gone.filter(|(uid, m)| goes(uid, m));
                let uids: Vec<u32> = gone.map(|(uid, _)| uid).collect();
                let step = Step::Leave(Arc::clone(name), uids.clone());
                let steps: Vec<Step> = (!uids.is_empty()).then_some(step).into_iter().collect();
                Ok(Outcome {
                    ret: Ret::Expunged {
                        modseq: self.modseq + steps.len() as u64,
                        uids,
                    },
                    steps,
                    ..Outcome::of(Ret::Done)
                })
            }
            Op::SetPassword(password, _) => {
                // A password is hashed anew each time that it is set.
                let changes = *password != 0 || self.password != 0;
                let step = changes.then_some(Step::Password(*password));
                Ok(Outcome {
                    ret: Ret::Done,
                    ..self.changed(step)
                })
            }
            Op::SetState(state, _) => {
                let step = (self.state != *state).then_some(Step::State(*state));
                Ok(Outcome {
                    ret: Ret::Done,
                    ..self.changed(step)
                })
            }
            Op::AddApp(name, _) => {
                if self.apps.contains_key(name) {
                    return Err(Ret::Exists);
                }
                let secret = match told {
                    Some(Ret::Secret(secret)) => *secret,
                    _ => UNTOLD,
                };
                Ok(Outcome {
                    ret: Ret::Secret(secret),
                    ..Outcome::change(Step::AddApp(Arc::clone(name), secret))
                })
            }
            Op::RemoveApp(name, _) => match self.apps.contains_key(name) {
                true => Ok(Outcome::change(Step::RemoveApp(Arc::clone(name)))),
                false => Err(Ret::NoApp),
            },
            _ => self.read(op, told),
        }
    }

    fn read(&self, op: &Op, told: Option<&Ret>) -> Result<Outcome, Ret> {
        let mailbox = |name: &Arc<str>| self.mailboxes.get(name).ok_or(Ret::NoMailbox);
        let ret = match op {
            // Compared in place: an account may be large.
            Op::Usage => Ret::Usage(self.usage()),
            Op::Listed => Ret::Changed(self.modseq),
            Op::Mailboxes => Ret::Mailboxes(Box::<AccountSeen>::default()),
            Op::List(name) => {
                let m = mailbox(name)?;
                let ret = Ret::Messages {
                    uid_validity: 0,
                    highest_modseq: m.modseq,
                    messages: Vec::new(),
                };
                return Ok(Outcome {
                    era: Some(m.era),
                    ..Outcome::of(ret)
                });
            }
            Op::Select(name) => {
                let m = mailbox(name)?;
                let ret = Ret::Selected {
                    uid_validity: 0,
                    uid_next: m.uid_next,
                    messages: m.messages.len() as u32,
                };
                return Ok(Outcome {
                    era: Some(m.era),
                    ..Outcome::of(ret)
                });
            }
            Op::Fetch(at, uid) => match self.find(at).ok_or(Ret::NoMailbox)?.1.messages.get(uid) {
                Some(message) => Ret::Octets(message.blob),
                None => Ret::NoMessage,
            },
            Op::Search { at, flag, on, .. } => {
                let said = |uid: u32| matches!(told, Some(Ret::Uids(said)) if said.contains(&uid));
                let (_, m) = self.find(at).ok_or(Ret::NoMailbox)?;
                Ret::Uids(found(m, *flag, *on, said))
            }
            Op::Status(name) => {
                let m = mailbox(name)?;
                return Ok(Outcome {
                    era: Some(m.era),
                    ..Outcome::of(Ret::Status(self.status(name, m)))
                });
            }
            Op::Names => {
                let all = self.mailboxes.iter();
                Ret::Names(all.map(|(n, m)| (n.to_string(), m.uses.clone())).collect())
            }
            Op::Sort { name, flag, on, .. } => {
                let said =
                    |uid: u32| matches!(told, Some(Ret::Sorted(said)) if said.contains(&uid));
                Ret::Sorted(found(mailbox(name)?, *flag, *on, said))
            }
            Op::Thread(name, flag, on) => {
                let said = |uid: u32| match told {
                    Some(Ret::Threads(said)) => said.iter().any(|(said, _)| *said == uid),
                    _ => false,
                };
                let found = found(mailbox(name)?, *flag, *on, said);
                Ret::Threads(found.into_iter().map(|uid| (uid, 0)).collect())
            }
            Op::Maildrop { .. } => {
                // Compared in place.
                let ret = Ret::Maildrop {
                    uid_validity: 0,
                    stat: (0, 0),
                    messages: Vec::new(),
                };
                return Ok(Outcome {
                    era: Some(mailbox(&INBOX.into())?.era),
                    ..Outcome::of(ret)
                });
            }
            Op::Apps => {
                let names = self.apps.keys().map(|name| name.to_string());
                Ret::Apps(self.password != 0, names.collect())
            }
            Op::AppLogin(secret) => {
                let mut known = self.apps.iter().filter(|(_, known)| *known == secret);
                match known.next() {
                    Some((name, _)) if self.state == LoginState::Active && *secret != UNTOLD => {
                        Ret::Entered(Arc::clone(name))
                    }
                    _ => Ret::NoLogin,
                }
            }
            Op::Annotations(None) => Ret::Annotations((*self.annotations).clone()),
            Op::Annotations(Some(name)) => Ret::Annotations(mailbox(name)?.annotations.clone()),
            Op::Login(password) => {
                let right = *password != 0 && self.password == *password;
                match right && self.state == LoginState::Active {
                    true => Ret::Done,
                    false => Ret::NoLogin,
                }
            }
            other => unreachable!("{other:?} changes something"),
        };
        Ok(Outcome::of(ret))
    }

    /// Something with a modseq, or nothing.
    fn changed(&self, step: Option<Step>) -> Outcome {
        let steps: Vec<Step> = step.into_iter().collect();
        Outcome {
            ret: Ret::Changed(self.modseq + steps.len() as u64),
            steps,
            ..Outcome::of(Ret::Done)
        }
    }

    /// The parents that a name needs, the highest first (RFC 9051, section 6.3.4).
    fn parents(&self, name: &str) -> Vec<Step> {
        let ends = name.match_indices('/');
        let missing = ends.filter_map(|(end, _)| {
            let parent = &name[..end];
            let missing = !self.mailboxes.contains_key(parent);
            missing.then(|| Step::Make(parent.into(), Vec::new()))
        });
        missing.collect()
    }

    fn rename(&self, from: &Arc<str>, to: &Arc<str>) -> Result<Outcome, Ret> {
        let m = self.mailboxes.get(from).ok_or(Ret::NoMailbox)?;
        let below = format!("{from}/");
        if to.starts_with(&below) {
            return Err(Ret::Refused);
        }
        if self.mailboxes.contains_key(to) {
            return Err(Ret::Exists);
        }
        let mut names = vec![(Arc::clone(from), Arc::clone(to))];
        let children = self.mailboxes.keys().filter(|n| n.starts_with(&below));
        for child in children {
            let new = format!("{to}/{}", &child[below.len()..]);
            names.push((Arc::clone(child), new.into()));
        }
        let leaves = |name: &str| names.iter().any(|(from, _)| **from == *name);
        let taken = |name: &str| self.mailboxes.contains_key(name) && !leaves(name);
        if names.iter().any(|(_, to)| taken(to)) {
            return Err(Ret::Exists);
        }
        let mut steps = self.parents(to);
        steps.push(Step::Rename(names));
        Ok(Outcome {
            era: Some(m.era),
            steps,
            ..Outcome::of(Ret::Made(0, 0))
        })
    }

    fn move_inbox(&self, made: Name) -> Result<Outcome, Ret> {
        let Some((era, end)) = self.renames.get(&made) else {
            return Err(Ret::NotYet);
        };
        let inbox = self.mailboxes.get_key_value(INBOX).ok_or(Ret::NoMailbox)?;
        let uids: Vec<u32> = inbox.1.messages.range(..end).map(|(uid, _)| *uid).collect();
        // There were none, or all have gone: then it is done, and its retry gets the first answer
        // again, also when the mailbox was removed since. Nothing new comes below `end`.
        if uids.is_empty() {
            return Ok(Outcome::of(Ret::Done));
        }
        let target = self.mailboxes.iter().find(|(_, m)| m.era == *era);
        let target = target.ok_or(Ret::NoMailbox)?;
        let mut outcome = self.carry(inbox, target, &uids, true);
        (outcome.ret, outcome.era) = (Ret::Done, None);
        Ok(outcome)
    }

    fn store(
        &self,
        mailbox: &Arc<str>,
        items: &[Item],
        replaces: Option<Replaced>,
    ) -> Result<Outcome, Ret> {
        if self.state == LoginState::Closed {
            return Err(Ret::Closed);
        }
        let m = self.mailboxes.get(mailbox).ok_or(Ret::NoMailbox)?;
        let mut leaves = None;
        if let Some(Replaced { era, uid }) = replaces {
            let name = Arc::clone(mailbox);
            let source = self.find(&Where { name, era });
            let source = source.filter(|(_, m)| m.messages.contains_key(&uid));
            let (name, _) = source.ok_or(Ret::NoMessage)?;
            leaves = Some(Step::Leave(Arc::clone(name), vec![uid]));
        }
        let new = |item: &Item| Message {
            blob: item.blob,
            size: item.size,
            flags: item.flags.clone(),
            date_ms: item.date_ms,
            modseq: 0,
            open: false,
        };
        let arrive = items.iter().map(new).collect();
        let mut steps = vec![Step::Arrive(Arc::clone(mailbox), arrive)];
        steps.extend(leaves);
        let first = StoredAt {
            uid_validity: 0,
            uid: m.uid_next,
            modseq: self.modseq + steps.len() as u64,
        };
        Ok(Outcome {
            era: Some(m.era),
            steps,
            ..Outcome::of(Ret::Stored(first, items.len() as u32))
        })
    }

    /// Messages of another account, with flags that nobody told.
    fn land(&self, to: &Where, told: u32, items: &[(Name, u64)]) -> Result<Outcome, Ret> {
        if self.state == LoginState::Closed {
            return Err(Ret::Closed);
        }
        let (name, m) = match self.landing(to, told) {
            Landing::In(name, m) => (name, m),
            Landing::Nowhere => return Err(Ret::NoMailbox),
            Landing::Unsaid => return Ok(Outcome::change(Step::Blind)),
        };
        let new = |(blob, size): &(Name, u64)| Message {
            blob: *blob,
            size: *size,
            flags: Vec::new(),
            date_ms: 0,
            modseq: 0,
            open: true,
        };
        let arrive = items.iter().map(new).collect();
        Ok(Outcome {
            era: Some(m.era),
            steps: vec![Step::Arrive(Arc::clone(name), arrive)],
            ..Outcome::of(Ret::Landed {
                uid_validity: 0,
                first: m.uid_next,
            })
        })
    }

    /// What comes is told before what goes, so that nobody ever misses a message.
    fn carry(
        &self,
        (from, source): (&Arc<str>, &Arc<Mailbox>),
        (to, target): (&Arc<str>, &Arc<Mailbox>),
        uids: &[u32],
        away: bool,
    ) -> Outcome {
        let found: Vec<(u32, Message)> = there(source, uids)
            .map(|(uid, message)| (uid, message.clone()))
            .collect();
        let uids: Vec<u32> = found.iter().map(|(uid, _)| *uid).collect();
        let first = target.uid_next;
        let mut steps = Vec::new();
        if !found.is_empty() {
            let messages = found.into_iter().map(|(_, m)| m).collect();
            steps.push(Step::Arrive(Arc::clone(to), messages));
            if away {
                steps.push(Step::Leave(Arc::clone(from), uids.clone()));
            }
        }
        let ret = Ret::Carried {
            uid_validity: 0,
            modseq: self.modseq + steps.len() as u64,
            to: (first..).take(uids.len()).collect(),
            from: uids,
        };
        Outcome {
            era: Some(target.era),
            steps,
            ..Outcome::of(ret)
        }
    }
}

/// Uids of messages with a flag, or without it. `said`: whether one was told whose flags are not
/// known.
fn found(m: &Mailbox, flag: Name, on: bool, said: impl Fn(u32) -> bool) -> Vec<u32> {
    let found = m.messages.iter().filter(|(uid, m)| match m.open {
        true => said(**uid),
        false => m.flags.contains(&flag) == on,
    });
    found.map(|(uid, _)| *uid).collect()
}

/// Messages of these uids that are there.
fn there<'a>(m: &'a Mailbox, uids: &'a [u32]) -> impl Iterator<Item = (u32, &'a Message)> {
    uids.iter()
        .filter_map(|uid| Some((*uid, &**m.messages.get(uid)?)))
}

/// Under what the answer of an operation is remembered.
fn request_of(op: &Op) -> Option<Name> {
    match op {
        Op::Make { request, .. }
        | Op::DeleteMailbox { request, .. }
        | Op::Rename { request, .. }
        | Op::Subscribe { request, .. }
        | Op::Uses { request, .. }
        | Op::Annotate { request, .. }
        | Op::Store { request, .. }
        | Op::Carry { request, .. }
        | Op::Land { request, .. }
        | Op::Depart { request, .. }
        | Op::SetFlags { request, .. }
        | Op::Expunge { request, .. }
        | Op::SetPassword(_, request)
        | Op::AddApp(_, request)
        | Op::RemoveApp(_, request)
        | Op::SetState(_, request) => Some(*request),
        _ => None,
    }
}
