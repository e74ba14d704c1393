//! What a client wants to be told, whether it has asked just now or not (RFC 5465).
//!
//! ```text
//! news of the account ──▶ changes since ──▶ compared with what ──▶ LIST, STATUS, METADATA
//! (a watch, shared)       (one read)        the client knows
//!
//! news of the selected mailbox ──▶ its view ──▶ EXISTS, FETCH, EXPUNGE   (`super::updates`)
//! ```
//!
//! A session that is told of other mailboxes holds their names, and a number for each annotation if
//! it is told of those; counters come from the read that every look makes. Looks are half a second
//! apart, so a mailbox that is filled is told of twice a second and not for each message. What
//! happened between two looks is told as it is at the second one: a mailbox that came and went is not
//! told at all.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use posthouse_client::Error;
use posthouse_client::ids::{AccountName, MailboxId, MailboxRef, ModSeq};
use posthouse_client::proto::{Annotation, ListMailboxesResponse, Mailbox};
use tokio::time::Instant;

use super::op;
use super::op::metadata::SPECIAL_USE;
use super::parse::list::StatusItem;
use super::parse::notify::{Events, Filter, Group, Selected};
use super::session::Session;
use super::store::Store;
use super::updates::Ask;
use super::watching::Watching;
use super::wire::Gone;

/// Time between two looks at other mailboxes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Mailboxes of an account that can be followed: a session keeps their names.
pub const MOST_MAILBOXES: usize = 10_000;
/// Mailboxes whose annotations are followed when NOTIFY begins: each costs a read.
pub const MOST_ANNOTATED: usize = 1_000;
/// Annotations that are followed: a session keeps their names.
const MOST_ANNOTATIONS: usize = 10_000;

/// Names of mailboxes as the store knows them.
pub type Names = BTreeSet<String>;

/// What a client wants to be told; nothing, to begin with.
#[derive(Default)]
pub struct Notify {
    /// Of the selected mailbox.
    pub selected: Option<Selected>,
    /// Of others.
    pub others: Option<Others>,
}

/// Other mailboxes, as the client knows them.
pub struct Others {
    groups: Vec<Group<Names>>,
    ear: Watching,
    /// Changes up to this modseq have been told.
    since: ModSeq,
    names: BTreeMap<u32, String>,
    subscriptions: BTreeSet<String>,
    /// Of mailboxes by number, and of the account itself, if that is to be told.
    annotations: BTreeMap<Option<u32>, Entries>,
    /// Mailboxes that were left before everything in them was told.
    left: BTreeSet<u32>,
    next_look: Instant,
}

/// Annotations by name, each with a number that another value would not have.
type Entries = BTreeMap<String, u64>;

/// What there is to tell.
#[derive(Default)]
struct Found {
    listing: ListMailboxesResponse,
    /// Names that are told by LIST, with the old one of a renamed mailbox.
    names: BTreeMap<String, Option<String>>,
    /// Mailboxes that are told by STATUS: their places in the listing, and the items.
    counters: Vec<(usize, Vec<StatusItem>)>,
    /// Names of mailboxes, empty for the account, and of the annotations that have changed.
    annotations: Vec<(String, Vec<String>)>,
}

/// What has changed.
#[derive(Default)]
struct Moved {
    /// Nobody knows what.
    everything: bool,
    /// The account itself.
    account: bool,
    mailboxes: BTreeMap<u32, MailboxMoved>,
}

#[derive(Default, Clone, Copy)]
struct MailboxMoved {
    /// Messages came or went.
    messages: bool,
    /// Flags were changed.
    flags: bool,
    /// The mailbox itself.
    itself: bool,
}

impl Filter<Names> {
    fn covers(&self, name: &str, subscribed: bool) -> bool {
        match self {
            Filter::Personal => true,
            Filter::Subscribed => subscribed,
            // Below no name lies everything.
            Filter::Subtree(roots) => {
                roots.contains(name) || above(name).chain([""]).any(|root| roots.contains(root))
            }
            Filter::Mailboxes(names) => names.contains(name),
        }
    }
}

/// All that these groups want to be told of a mailbox.
fn wanted(groups: &[Group<Names>], name: &str, subscribed: bool) -> Events {
    let covering = groups.iter().filter(|g| g.filter.covers(name, subscribed));
    covering.fold(Events::default(), |all, group| all.and(group.events))
}

/// What is told of a mailbox in which messages came or went; `modseq`: HIGHESTMODSEQ as well.
pub fn all_counters(wants: Events, modseq: bool) -> Vec<StatusItem> {
    let mut items = vec![
        StatusItem::Messages,
        StatusItem::UidNext,
        StatusItem::UidValidity,
    ];
    items.extend(wants.flags.then_some(StatusItem::Unseen));
    items.extend(modseq.then_some(StatusItem::HighestModSeq));
    items
}

/// What is told of a mailbox in which flags have changed.
fn counters_of_flags(condstore: bool) -> Vec<StatusItem> {
    let mut items = vec![StatusItem::UidValidity, StatusItem::Unseen];
    items.extend(condstore.then_some(StatusItem::HighestModSeq));
    items
}

/// The names above a name, the nearest first.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.rmatch_indices('/').map(|(at, _)| &name[..at])
}

fn entries(annotations: Vec<Annotation>, special_use: &[String]) -> Entries {
    let number = |value: &[u8]| {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    };
    let mut out: Entries = annotations
        .into_iter()
        .map(|a| (a.entry, number(&a.value)))
        .collect();
    if !special_use.is_empty() {
        // As GETMETADATA tells it.
        out.insert(
            SPECIAL_USE.to_owned(),
            number(special_use.join(" ").as_bytes()),
        );
    }
    out
}

/// Names of entries that are in one of both alone, or with different values.
fn differences(before: &Entries, after: &Entries) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&&String| before.get(**name) != after.get(**name);
    names.iter().filter(differs).map(|n| (*n).clone()).collect()
}

async fn annotations_of(
    store: &dyn Store,
    account: &AccountName,
    mailbox: Option<&Mailbox>,
) -> Result<Entries, Error> {
    let of = mailbox.map(|m| MailboxRef::Id {
        id: MailboxId(m.mailbox_id),
        uidvalidity: m.uidvalidity,
    });
    let uses = mailbox.map_or(&[][..], |m| &m.special_use);
    match store.metadata(account, of).await {
        Ok(found) => Ok(entries(found, uses)),
        // Removed since the listing; the next look tells so.
        Err(Error::NotFound { what, .. }) if what == "mailbox" => Ok(Entries::new()),
        Err(error) => Err(error),
    }
}

/// What has changed since, and up to which modseq.
async fn moved(
    store: &dyn Store,
    account: &AccountName,
    mut since: ModSeq,
) -> Result<(Moved, ModSeq), Error> {
    let mut moved = Moved::default();
    loop {
        let page = match store.changes(account, None, since).await {
            Ok(page) => page,
            Err(Error::TooOld { .. }) => {
                moved.everything = true;
                return Ok((moved, since));
            }
            Err(error) => return Err(error),
        };
        moved.account |= page.account_changed;
        for m in &page.mailboxes {
            let mailbox = moved.mailboxes.entry(m.mailbox_id).or_default();
            mailbox.messages |= !(m.created.is_empty() && m.vanished.is_empty());
            mailbox.flags |= !m.updated.is_empty();
            mailbox.itself |= m.changed || m.destroyed || m.appeared;
        }
        let further = page.up_to > since;
        since = since.max(page.up_to);
        if !(page.more && further) {
            return Ok((moved, since));
        }
    }
}

impl Others {
    /// Listens to an account whose mailboxes the client knows as they are in this listing.
    pub async fn new(
        store: &dyn Store,
        account: &AccountName,
        groups: Vec<Group<Names>>,
        listing: &ListMailboxesResponse,
    ) -> Result<Others, Error> {
        let since = listing.highest_modseq;
        let mut others = Others {
            ear: Watching::new(store, account, None, since),
            since,
            names: names_of(listing),
            subscriptions: listing.subscriptions.iter().cloned().collect(),
            annotations: BTreeMap::new(),
            left: BTreeSet::new(),
            next_look: Instant::now(),
            groups,
        };
        others.read_annotations(store, account, listing).await?;
        Ok(others)
    }

    /// The same account with other wishes. What has not been told yet is still to be told.
    pub async fn change(
        &mut self,
        store: &dyn Store,
        account: &AccountName,
        groups: Vec<Group<Names>>,
        listing: &ListMailboxesResponse,
    ) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.groups, groups);
        let known: BTreeSet<Option<u32>> = self.annotations.keys().copied().collect();
        let read = self.read_annotations(store, account, listing).await;
        if read.is_err() {
            self.groups = before;
            self.annotations.retain(|of, _| known.contains(of));
        }
        read
    }

    /// Reads the annotations that are wanted, and not known yet; refused when they are too many.
    async fn read_annotations(
        &mut self,
        store: &dyn Store,
        account: &AccountName,
        listing: &ListMailboxesResponse,
    ) -> Result<(), Error> {
        let mailboxes = listing.mailboxes.iter();
        let wanted = mailboxes.filter(|m| Others::wanted(&self.groups, m).metadata);
        let mut wanted: Vec<Option<&Mailbox>> = wanted.map(Some).collect();
        wanted.extend(self.wants_account().then_some(None));
        wanted.retain(|of| !self.annotations.contains_key(&of.map(|m| m.mailbox_id)));
        for of in wanted {
            let entries = annotations_of(store, account, of).await?;
            self.annotations.insert(of.map(|m| m.mailbox_id), entries);
            if self.is_too_much() {
                let message = "there are too many annotations to follow".to_owned();
                return Err(Error::Refused { message });
            }
        }
        Ok(())
    }

    /// Whether the session keeps more than it should.
    pub fn is_too_much(&self) -> bool {
        let annotations: usize = self.annotations.values().map(BTreeMap::len).sum();
        self.names.len() > MOST_MAILBOXES || annotations > MOST_ANNOTATIONS
    }

    /// What the client wants to be told of a mailbox.
    pub fn wanted(groups: &[Group<Names>], mailbox: &Mailbox) -> Events {
        wanted(groups, &mailbox.name, mailbox.subscribed)
    }

    fn wants_account(&self) -> bool {
        self.groups.iter().any(|g| g.events.server_metadata)
    }

    /// Whether it is time to look, and there may be something to see.
    fn is_due(&mut self) -> bool {
        (self.ear.has_news() || !self.left.is_empty()) && Instant::now() >= self.next_look
    }

    /// Waits until it is. Nothing is lost when it is dropped.
    async fn due(&mut self) {
        if self.left.is_empty() {
            self.ear.wait().await;
        }
        tokio::time::sleep_until(self.next_look).await;
    }

    /// Looks at what has changed in mailboxes other than the selected one. From then on, the client
    /// counts as told. After an error nothing has been seen, and the next look sees it.
    async fn look(
        &mut self,
        store: &dyn Store,
        account: &AccountName,
        selected: Option<u32>,
        condstore: bool,
    ) -> Result<Found, Error> {
        // Before the question: news of later changes must stay.
        let _ = self.ear.has_news();
        self.ear.asked();
        self.next_look = Instant::now() + BETWEEN_LOOKS;
        let seen = self.see(store, account, selected, condstore).await;
        if seen.is_err() {
            self.ear.not_answered();
        }
        seen
    }

    async fn see(
        &mut self,
        store: &dyn Store,
        account: &AccountName,
        selected: Option<u32>,
        condstore: bool,
    ) -> Result<Found, Error> {
        let (moved, since) = moved(store, account, self.since).await?;
        // Of the selected mailbox everything is told by its view.
        let elsewhere = |(id, m): (&u32, &MailboxMoved)| Some(*id) != selected || m.itself;
        let any = moved.everything || moved.account || moved.mailboxes.iter().any(elsewhere);
        if !any && self.left.is_empty() {
            self.since = since;
            return Ok(Found::default());
        }
        let mut found = Found {
            listing: store.mailboxes(account).await?,
            ..Found::default()
        };
        let listing = &found.listing;
        found.names = self.changed_names(listing);
        let mut annotations = Vec::new();
        for (at, m) in listing.mailboxes.iter().enumerate() {
            let wants = Others::wanted(&self.groups, m);
            let is_new = match self.names.get(&m.mailbox_id) {
                None => true,
                // Under a name that it watches, the client now finds another mailbox, and LIST did not
                // say which; or one that it did not watch before.
                Some(old) if *old != m.name => {
                    !wants.names || !wanted(&self.groups, old, m.subscribed).messages
                }
                Some(_) => false,
            };
            let this = moved.mailboxes.get(&m.mailbox_id).copied();
            let this = this.unwrap_or_default();
            let all = moved.everything || is_new;
            if Some(m.mailbox_id) == selected {
            } else if wants.messages && (all || this.messages || self.left.contains(&m.mailbox_id))
            {
                found.counters.push((at, all_counters(wants, condstore)));
            } else if wants.flags && this.flags {
                found.counters.push((at, counters_of_flags(condstore)));
            }
            if wants.metadata && (all || this.itself) {
                let entries = annotations_of(store, account, Some(m)).await?;
                annotations.push((Some(m.mailbox_id), m.name.clone(), entries));
            }
        }
        if self.wants_account() && (moved.everything || moved.account) {
            let entries = annotations_of(store, account, None).await?;
            annotations.push((None, String::new(), entries));
        }
        // Nothing can fail from here on.
        for (of, name, entries) in annotations {
            let before = self.annotations.insert(of, entries).unwrap_or_default();
            let changed = differences(&before, &self.annotations[&of]);
            if !changed.is_empty() {
                found.annotations.push((name, changed));
            }
        }
        self.names = names_of(listing);
        self.subscriptions = listing.subscriptions.iter().cloned().collect();
        let there = |of: &Option<u32>| of.is_none_or(|id| self.names.contains_key(&id));
        self.annotations.retain(|of, _| there(of));
        self.left.clear();
        self.since = match moved.everything {
            true => listing.highest_modseq,
            false => since,
        };
        Ok(found)
    }

    /// Names that LIST would tell otherwise than when the client was told last.
    fn changed_names(&self, listing: &ListMailboxesResponse) -> BTreeMap<String, Option<String>> {
        let subscribed: BTreeSet<&str> = listing.subscriptions.iter().map(|s| &**s).collect();
        let wants = |name: &str| {
            let was_or_is = self.subscriptions.contains(name) || subscribed.contains(name);
            wanted(&self.groups, name, was_or_is)
        };
        let mut out = BTreeMap::new();
        // RFC 5465, section 5.4: the name that came or went, and the one above it.
        let mut came_or_went = |name: &str| {
            for name in [Some(name), above(name).next()].into_iter().flatten() {
                if wants(name).names {
                    out.entry(name.to_owned()).or_insert(None);
                }
            }
        };
        let mut renamed = BTreeMap::new();
        for m in &listing.mailboxes {
            match self.names.get(&m.mailbox_id) {
                None => came_or_went(&m.name),
                Some(old) if *old != m.name => {
                    renamed.insert(old.as_str(), m.name.as_str());
                }
                Some(_) => {}
            }
        }
        let now: BTreeSet<u32> = listing.mailboxes.iter().map(|m| m.mailbox_id).collect();
        for (_, name) in self.names.iter().filter(|(id, _)| !now.contains(id)) {
            came_or_went(name);
        }
        let told = |old: &str, new: &str| wants(old).names || wants(new).names;
        for (old, new) in renamed.iter().filter(|(old, new)| told(old, new)) {
            // Children are renamed with their parent, and where that is told, it alone is.
            let moved_with = |from: &str| {
                let to = renamed.get(from).filter(|to| told(from, to));
                to.is_some_and(|to| new.strip_prefix(to) == old.strip_prefix(from))
            };
            if !above(old).any(moved_with) {
                out.insert((*new).to_owned(), Some((*old).to_owned()));
            }
        }
        let before: BTreeSet<&str> = self.subscriptions.iter().map(|s| &**s).collect();
        for name in before.symmetric_difference(&subscribed) {
            if wants(name).subscriptions {
                out.entry((*name).to_owned()).or_insert(None);
            }
        }
        out
    }

    /// The client has created a mailbox.
    fn created(&mut self, mailbox: &Mailbox) {
        self.names.insert(mailbox.mailbox_id, mailbox.name.clone());
        if Others::wanted(&self.groups, mailbox).metadata {
            let entries = entries(Vec::new(), &mailbox.special_use);
            self.annotations.insert(Some(mailbox.mailbox_id), entries);
        }
    }

    /// The client has renamed a mailbox, and with it those below. INBOX stays when it is renamed.
    fn renamed(&mut self, from: &str, to: &str) {
        for name in self.names.values_mut().filter(|_| from != "INBOX") {
            if let Some(rest) = name.strip_prefix(from)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *name = format!("{to}{rest}");
            }
        }
    }

    /// The client has subscribed to a name, or does so no more.
    fn subscribed(&mut self, name: &str, on: bool) {
        match on {
            true => self.subscriptions.insert(name.to_owned()),
            false => self.subscriptions.remove(name),
        };
    }

    /// The client has changed annotations of a mailbox, or of the account.
    fn annotated_by_client(&mut self, name: Option<&str>, changed: &[Annotation]) {
        let of = name.map(|name| self.names.iter().find(|(_, n)| **n == name));
        let of = match of {
            None => None,
            Some(Some((id, _))) => Some(*id),
            Some(None) => return,
        };
        if let Some(known) = self.annotations.get_mut(&of) {
            known.retain(|entry, _| !changed.iter().any(|a| a.entry == *entry));
            let set = changed.iter().filter(|a| !a.nil).cloned().collect();
            known.extend(entries(set, &[]));
        }
    }
}

fn names_of(listing: &ListMailboxesResponse) -> BTreeMap<u32, String> {
    let named = |m: &Mailbox| (m.mailbox_id, m.name.clone());
    listing.mailboxes.iter().map(named).collect()
}

/// What a client has done itself, which it need not be told (RFC 5465, section 5).
pub(super) enum Own<'a> {
    /// CREATE.
    Created(&'a Mailbox),
    /// DELETE.
    Deleted(&'a str),
    /// RENAME.
    Renamed(&'a str, &'a str),
    /// SUBSCRIBE and UNSUBSCRIBE.
    Subscribed(&'a str, bool),
    /// SETMETADATA: of a mailbox, or of the account.
    Annotated(Option<&'a str>, &'a [Annotation]),
}

impl Session {
    /// What is told of the selected mailbox: `None` means everything that is told without NOTIFY.
    pub(super) fn notified(&self) -> Option<Option<&Selected>> {
        self.notify.as_ref().map(|n| n.selected.as_ref())
    }

    /// Notes what the client has done.
    pub(super) fn note_own(&mut self, own: Own<'_>) {
        let Some(others) = self.notify.as_mut().and_then(|n| n.others.as_mut()) else {
            return;
        };
        match own {
            Own::Created(mailbox) => others.created(mailbox),
            Own::Deleted(name) => others.names.retain(|_, n| n != name),
            Own::Renamed(from, to) => others.renamed(from, to),
            Own::Subscribed(name, on) => others.subscribed(name, on),
            Own::Annotated(name, annotations) => others.annotated_by_client(name, annotations),
        }
    }

    /// The selected mailbox is selected no more. What its view has not told yet is told as of any
    /// other mailbox.
    pub(super) fn deselect(&mut self) -> bool {
        let Some(mut selected) = self.selected.take() else {
            return false;
        };
        if let Some(others) = self.notify.as_mut().and_then(|n| n.others.as_mut())
            && (selected.view.has_news()
                || selected.watching.has_news()
                || selected.view.modseq < others.since)
        {
            others.left.insert(selected.view.id.0);
        }
        true
    }

    /// A mailbox has been selected, and its state told.
    pub(super) fn note_selected(&mut self, id: MailboxId) {
        if let Some(others) = self.notify.as_mut().and_then(|n| n.others.as_mut()) {
            others.left.remove(&id.0);
        }
    }

    /// Waits until the client says something, and tells meanwhile what it wants to be told.
    pub(super) async fn listen(&mut self, patience: Duration) -> Result<(), Gone> {
        let until = Instant::now() + patience;
        loop {
            self.announce(false).await?;
            self.wire.flush(self.door.config.data_timeout()).await?;
            let left = until.saturating_duration_since(Instant::now());
            let wire = &mut self.wire;
            tokio::select! {
                biased;
                ready = wire.ready(left) => return ready,
                () = news(&mut self.selected, &mut self.notify) => {}
            }
        }
    }

    /// Tells what there is to tell while no command is carried out, or with `idle` during IDLE.
    pub(super) async fn announce(&mut self, idle: bool) -> Result<(), Gone> {
        let expunges = match self.notified() {
            // Nothing is told outside of commands before NOTIFY.
            None => idle,
            Some(None) => false,
            Some(Some(selected)) => idle || !selected.delayed,
        };
        self.update_as_notified(Ask::IfNews, expunges).await?;
        self.say_correction();
        self.tell_others().await
    }

    /// Between commands there is no tagged answer that could say from which modseq the client may go
    /// on, where older changes wait.
    pub(super) fn say_correction(&mut self) {
        let (true, true, Some(selected)) = (
            self.notify.is_some(),
            self.enabled.condstore,
            &mut self.selected,
        ) else {
            return;
        };
        if let Some(safe) = selected.view.correction() {
            let line = format!("* OK [HIGHESTMODSEQ {}] more is to come", safe.max(1));
            self.wire.say(&line);
        }
    }

    async fn tell_others(&mut self) -> Result<(), Gone> {
        let (Some(notify), Some(login)) = (&mut self.notify, &self.login) else {
            return Ok(());
        };
        let Some(others) = notify.others.as_mut() else {
            return Ok(());
        };
        if !others.is_due() {
            return Ok(());
        }
        let selected = self.selected.as_ref().map(|s| s.view.id.0);
        let (store, condstore) = (&*self.door.store, self.enabled.condstore);
        let found = match others
            .look(store, &login.account, selected, condstore)
            .await
        {
            Ok(found) => found,
            // The account is gone; every command will say so.
            Err(Error::NotFound { .. }) => return self.overflow(),
            Err(error) => {
                tracing::debug!(%error, "changes of an account could not be read");
                return Ok(());
            }
        };
        let too_much = others.is_too_much();
        self.say_found(&found).await?;
        match too_much {
            true => self.overflow(),
            false => Ok(()),
        }
    }

    /// Nothing is told any more, and that is the last that is told (RFC 5465, section 5.8).
    fn overflow(&mut self) -> Result<(), Gone> {
        self.notify = Some(Box::default());
        self.wire
            .say("* OK [NOTIFICATIONOVERFLOW] nothing more is told; ask, or say NOTIFY again");
        Ok(())
    }

    async fn say_found(&mut self, found: &Found) -> Result<(), Gone> {
        let patience = self.door.config.data_timeout();
        let names = op::list::Names::new(&found.listing);
        for (name, old) in &found.names {
            op::list::say(self, &names, name, old.as_deref());
            self.wire.relieve(patience).await?;
        }
        for (at, items) in &found.counters {
            op::status::line(self, &found.listing.mailboxes[*at], items, 0);
            self.wire.relieve(patience).await?;
        }
        for (name, entries) in &found.annotations {
            op::metadata::say_changed(self, name, entries);
            self.wire.relieve(patience).await?;
        }
        Ok(())
    }
}

/// Waits until there may be something to tell. Nothing is lost when it is dropped.
pub(super) async fn news(
    selected: &mut Option<super::session::Selected>,
    notify: &mut Option<Box<Notify>>,
) {
    let of_selected = notify.as_ref().is_none_or(|n| n.selected.is_some());
    let selected = async {
        match selected.as_mut().filter(|_| of_selected) {
            Some(selected) => selected.watching.wait().await,
            None => std::future::pending().await,
        }
    };
    let others = async {
        match notify.as_mut().and_then(|n| n.others.as_mut()) {
            Some(others) => others.due().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = selected => {}
        () = others => {}
    }
}
