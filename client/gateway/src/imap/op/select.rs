//! SELECT and EXAMINE (RFC 9051, sections 6.3.2 and 6.3.3), with QRESYNC (RFC 7162, section
//! 3.2.5).

use posthouse_client::Error;
use posthouse_client::ids::MailboxRef;
use roaring::RoaringBitmap;

use crate::imap::ahead::Ahead;
use crate::imap::parse::Set;
use crate::imap::parse::select::{Qresync, Select};
use crate::imap::respond::text::{all_flags, number, put, set};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::{Selected, Session};
use crate::imap::view::{View, set_of};
use crate::imap::watching::Watching;

/// SELECT or EXAMINE. Unless it is BAD, the mailbox that was selected is no more, whatever comes of
/// it.
pub(super) async fn select(s: &mut Session, command: Select) -> Result<Done, Stop> {
    let account = s.account()?;
    if command.qresync.is_some() && !s.enabled.qresync {
        return Err(Done::bad("enable QRESYNC first").into());
    }
    if s.deselect() {
        s.wire.say("* OK [CLOSED] the mailbox before is closed");
    }
    // A name that cannot be one is a failure like any other (RFC 9051, section 6.3.2).
    let name = s.name(&command.name)?;
    if command.condstore {
        s.enabled.condstore = true;
    }
    let opened = s.door.store.open(&account, MailboxRef::Name(name)).await?;
    let first_unseen = opened.first_unseen;
    let mailbox = opened.mailbox.clone();
    let view = View::new(opened, command.read_only);
    let watching = Watching::new(&*s.door.store, &account, Some(view.id), view.modseq);

    let rev2 = s.enabled.rev2;
    let out = s.wire.out();
    put(out, "* FLAGS (");
    all_flags(out, &view.keywords);
    put(out, ")\r\n* ");
    number(out, view.count());
    put(out, " EXISTS\r\n");
    if !rev2 {
        put(out, "* 0 RECENT\r\n");
        if let Some(n) = first_unseen.and_then(|uid| view.number(uid)) {
            put(
                out,
                &format!("* OK [UNSEEN {n}] the first without \\Seen\r\n"),
            );
        }
    }
    put(out, "* OK [PERMANENTFLAGS (");
    if !command.read_only {
        all_flags(out, &view.keywords);
        put(out, " \\*");
    }
    put(out, ")] flags that stay\r\n");
    let (uidvalidity, next, id) = (mailbox.uidvalidity, mailbox.uidnext, mailbox.mailbox_id);
    put(
        out,
        &format!(
            "* OK [UIDVALIDITY {uidvalidity}] uids are valid\r\n\
             * OK [UIDNEXT {next}] the next uid\r\n\
             * OK [HIGHESTMODSEQ {}] so far\r\n\
             * OK [MAILBOXID (M{id})] its number\r\n",
            view.opened_modseq.max(1),
        ),
    );
    if rev2 {
        put(out, "* LIST () \"/\" ");
        s.say_name(&mailbox.name);
        put(s.wire.out(), "\r\n");
    }
    s.note_selected(view.id);
    s.selected = Some(Selected {
        view,
        watching,
        ahead: Ahead::default(),
        own: RoaringBitmap::new(),
        untold: RoaringBitmap::new(),
    });
    if let Some(resync) = command.qresync
        && resync.uidvalidity == uidvalidity
    {
        resynchronise(s, &resync).await?;
    }
    // HIGHESTMODSEQ has been told, and counts.
    let _ = s.selected()?.view.correction();
    Ok(match command.read_only {
        true => Done::ok("open for reading only").code("READ-ONLY"),
        false => Done::ok("open").code("READ-WRITE"),
    })
}

/// Tells what has vanished and what has changed since the client was here.
async fn resynchronise(s: &mut Session, resync: &Qresync) -> Result<(), Stop> {
    let selected = s.selected()?;
    let known = match &resync.known {
        Some(known) => selected.view.uids_below_next(known),
        None => selected.view.all_below_next(),
    };
    // RFC 7162, section 3.2.5.2: what the pairs vouch for, in front of the first pair that does
    // not hold, needs no telling.
    let sure = resync
        .pairs
        .as_ref()
        .map_or(0, |(numbers, uids)| sure_of(&selected.view, numbers, uids));
    let vanished = vanished_since(s, resync.modseq, known.clone(), sure).await?;
    let selected = s.selected()?;
    let there = known & selected.view.uids();
    if !vanished.is_empty() {
        let out = s.wire.out();
        put(out, "* VANISHED (EARLIER) ");
        set(out, &vanished);
        put(out, "\r\n");
    }
    s.tell_changed(&there, resync.modseq).await
}

/// The highest uid up to which the client's pairs of numbers and uids hold: below it nothing that
/// it knows has vanished.
fn sure_of(view: &View, numbers: &Set, uids: &Set) -> u32 {
    let (Set::Ranges(numbers), Set::Ranges(uids)) = (numbers, uids) else {
        return 0;
    };
    let each = |ranges: &[(u32, u32)]| {
        let ranges = ranges.to_vec();
        ranges.into_iter().flat_map(|(a, b)| a.min(b)..=a.max(b))
    };
    let pairs = each(numbers).zip(each(uids));
    // They ascend (RFC 7162, section 7): so there are no more of them than messages.
    let mut before = 0;
    let holding = pairs.take_while(|&(n, uid)| {
        let ascends = n > std::mem::replace(&mut before, n);
        ascends && view.uid(n) == Some(uid)
    });
    holding.last().map_or(0, |(_, uid)| uid)
}

/// Of `asked`, the uids that vanished after `since`. When that is forgotten, all that are not
/// there: a client passes over what it never knew (RFC 7162, section 3.2.6).
pub(super) async fn vanished_since(
    s: &mut Session,
    since: u64,
    asked: RoaringBitmap,
    sure: u32,
) -> Result<RoaringBitmap, Stop> {
    let account = s.account()?;
    let view = &s.selected()?.view;
    let (mailbox, id) = (view.mailbox(), view.id);
    let there = view.uids().clone();
    let (mut from, mut vanished) = (since, RoaringBitmap::new());
    loop {
        let changes = match s
            .door
            .store
            .changes(&account, Some(mailbox.clone()), from)
            .await
        {
            Ok(changes) => changes,
            Err(Error::TooOld { .. }) => {
                let mut gone = asked - there;
                gone.remove_range(0..=sure);
                return Ok(gone);
            }
            Err(error) => return Err(error.into()),
        };
        for mailbox in changes.mailboxes.iter().filter(|m| m.mailbox_id == id.0) {
            vanished |= set_of(&mailbox.vanished);
        }
        if !changes.more || changes.up_to <= from {
            return Ok((vanished & asked) - there);
        }
        from = changes.up_to;
    }
}
