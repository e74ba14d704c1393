//! What a client is told of the selected mailbox without asking (RFC 9051, sections 5.2, 5.5 and
//! 7.5.1).
//!
//! Two steps: `refresh` takes up what has happened in the store, `tell` says it at a moment when
//! that is allowed. Between them lies the view, which keeps numbers as the client knows them.

use futures::StreamExt;
use posthouse_client::Error;
use posthouse_client::ids::Uid;
use posthouse_client::proto::{Fetched, Keyword};
use roaring::RoaringBitmap;

use super::parse::fetch::Item;
use super::respond::Stop;
use super::respond::text::{all_flags, flags, number, put, set};
use super::session::Session;
use super::store::{Event, Wanted};
use super::view::View;
use super::wire::Gone;

/// When the store is asked for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// In any case.
    Always,
    /// When there is news.
    IfNews,
    /// Not at all.
    Never,
}

/// How messages were read that nobody has asked for.
enum Read {
    All,
    /// Not now.
    Later,
    /// Not all of them can be read.
    Never,
}

impl Session {
    /// Asks the store as `ask` says, and tells the client; of messages that are gone only if
    /// `expunges` are allowed now.
    pub(super) async fn update(&mut self, ask: Ask, expunges: bool) -> Result<(), Gone> {
        self.take_up(ask).await?;
        self.tell(expunges, true).await
    }

    /// The same, as far as the client wants to be told (RFC 5465): for what it has not asked for.
    pub(super) async fn update_as_notified(
        &mut self,
        ask: Ask,
        expunges: bool,
    ) -> Result<(), Gone> {
        let with_flags = match self.notified() {
            None => true,
            Some(None) => return Ok(()),
            Some(Some(selected)) => selected.flags,
        };
        self.take_up(ask).await?;
        self.tell(expunges, with_flags).await
    }

    async fn take_up(&mut self, ask: Ask) -> Result<(), Gone> {
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        let refresh = match ask {
            Ask::Always => true,
            Ask::IfNews => selected.watching.has_news(),
            Ask::Never => false,
        };
        match refresh {
            true => self.refresh().await,
            false => Ok(()),
        }
    }

    /// Takes up what has happened in the selected mailbox. A store that is silent right now does
    /// not end the session: it will be asked again.
    pub(super) async fn refresh(&mut self) -> Result<(), Gone> {
        let (Some(selected), Some(login)) = (&mut self.selected, &self.login) else {
            return Ok(());
        };
        // Before the question: news of later changes must stay.
        let _ = selected.watching.has_news();
        selected.watching.asked();
        let view = &mut selected.view;
        loop {
            let asked = self
                .door
                .store
                .changes(&login.account, Some(view.mailbox()), view.modseq);
            let changes = match asked.await {
                Ok(changes) => changes,
                Err(Error::NotFound { .. }) => return Err(Gone::MailboxGone),
                Err(Error::TooOld { .. }) => return Err(Gone::Lost),
                Err(error) => {
                    tracing::debug!(%error, "changes of a mailbox could not be read");
                    selected.watching.not_answered();
                    return Ok(());
                }
            };
            for mailbox in &changes.mailboxes {
                if mailbox.mailbox_id == view.id.0 {
                    if mailbox.destroyed {
                        return Err(Gone::MailboxGone);
                    }
                    view.absorb(mailbox, changes.up_to);
                }
            }
            let further = changes.up_to > view.modseq;
            view.modseq = view.modseq.max(changes.up_to);
            if !changes.more || changes.mailboxes.is_empty() && !further {
                return Ok(());
            }
        }
    }

    /// Tells the client what has been taken up; without `with_flags`, changes of flags wait.
    pub(super) async fn tell(&mut self, expunges: bool, with_flags: bool) -> Result<(), Gone> {
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        let view = &mut selected.view;
        if !view.has_news() && selected.untold.is_empty() {
            return Ok(());
        }
        let news = view.take_news(expunges);
        if !with_flags {
            view.tell(&news.updated);
        }
        let out = self.wire.out();
        if self.enabled.qresync && !news.vanished.is_empty() {
            put(out, "* VANISHED ");
            set(out, &news.vanished);
            put(out, "\r\n");
        } else {
            for n in news.expunged {
                put(out, "* ");
                number(out, n.into());
                put(out, " EXPUNGE\r\n");
            }
        }
        if let Some(exists) = news.exists {
            put(out, "* ");
            number(out, exists);
            put(out, " EXISTS\r\n");
        }
        self.tell_arrived(&news.arrived).await?;
        match with_flags {
            true => self.tell_flags(&news.updated, true).await,
            false => Ok(()),
        }
    }

    /// Tells items of messages that have come, if the client wants to know some (RFC 5465, section
    /// 5.2); not of those that it has stored itself. Those that cannot be read now come later; one
    /// that nobody can read is passed over.
    async fn tell_arrived(&mut self, arrived: &RoaringBitmap) -> Result<(), Gone> {
        let items = match self.notified() {
            Some(Some(wanted)) if !wanted.items.is_empty() => wanted.items.clone(),
            _ => return Ok(()),
        };
        let Some(selected) = &mut self.selected else {
            return Ok(());
        };
        selected.untold |= arrived - &selected.own;
        // What has come with them will not come again.
        selected.own.clear();
        selected.untold &= selected.view.uids();
        let all = std::mem::take(&mut selected.untold);
        let mut left = match self.try_items(&all, &items).await? {
            Read::All => return Ok(()),
            Read::Later => return self.tell_later(all),
            Read::Never => all,
        };
        for uid in left.clone() {
            let one = RoaringBitmap::from([uid]);
            if let Read::Later = self.try_items(&one, &items).await? {
                return self.tell_later(left);
            }
            left.remove(uid);
        }
        Ok(())
    }

    async fn try_items(&mut self, uids: &RoaringBitmap, items: &[Item]) -> Result<Read, Gone> {
        match self.tell_items(uids, items.to_vec()).await {
            Ok(()) => Ok(Read::All),
            Err(Stop::Gone(gone)) => Err(gone),
            Err(Stop::Done(done)) if done.code == "UNAVAILABLE" => Ok(Read::Later),
            Err(stop) => {
                tracing::debug!(?stop, "items of new messages could not be read");
                Ok(Read::Never)
            }
        }
    }

    /// Items of these messages are still to be told.
    fn tell_later(&mut self, uids: RoaringBitmap) -> Result<(), Gone> {
        if let Some(selected) = &mut self.selected {
            selected.untold |= uids;
            selected.watching.not_answered();
        }
        Ok(())
    }

    /// Tells the flags (or the modseqs alone) of messages, as they are now.
    pub(super) async fn tell_flags(
        &mut self,
        uids: &RoaringBitmap,
        with_flags: bool,
    ) -> Result<(), Gone> {
        let (Some(selected), Some(login)) = (&mut self.selected, &self.login) else {
            return Ok(());
        };
        if uids.is_empty() {
            return Ok(());
        }
        let (view, wire) = (&mut selected.view, &mut self.wire);
        let patience = self.door.config.data_timeout();
        let wanted = Wanted {
            uids: view.spans(uids),
            ..Wanted::default()
        };
        let mut rows = self
            .door
            .store
            .fetch(&login.account, view.mailbox(), wanted);
        let mut left = uids.clone();
        while let Some(event) = rows.next().await {
            match event {
                Ok(Event::Keywords(keywords)) => learn(view, &keywords, wire.out()),
                Ok(Event::Message(row)) => {
                    left.remove(row.uid);
                    let style = (with_flags, self.enabled.condstore);
                    if self.enabled.condstore {
                        view.show(row.modseq);
                    }
                    flags_line(wire.out(), view, &row, style);
                    wire.relieve(patience).await?;
                }
                Ok(Event::Section(_) | Event::Rows(_)) => {}
                Err(error) => {
                    tracing::debug!(%error, "flags could not be read");
                    view.tell(&left);
                    selected.watching.not_answered();
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Takes up names of keywords; new ones are told before they are used.
pub(super) fn learn(view: &mut View, keywords: &[Keyword], out: &mut bytes::BytesMut) {
    view.learn(keywords);
    if view.tell_keywords() {
        put(out, "* FLAGS (");
        all_flags(out, &view.keywords);
        put(out, ")\r\n");
    }
}

/// `* n FETCH (UID … FLAGS (…) MODSEQ (…))`; nothing for a message that the client does not know.
fn flags_line(
    out: &mut bytes::BytesMut,
    view: &View,
    row: &Fetched,
    (with_flags, modseq): (bool, bool),
) {
    let Some(n) = view.number(row.uid) else {
        return;
    };
    begin(out, n, row.uid);
    if with_flags {
        put(out, " FLAGS ");
        flags(out, row.flags, &row.keywords, &view.keywords);
    }
    if modseq {
        put(out, " MODSEQ (");
        number(out, row.modseq);
        put(out, ")");
    }
    put(out, ")\r\n");
}

fn begin(out: &mut bytes::BytesMut, n: u32, uid: Uid) {
    put(out, "* ");
    number(out, n.into());
    put(out, " FETCH (UID ");
    number(out, uid.into());
}
