//! NOTIFY (RFC 5465, section 8).

use super::fetch::{self, Item};
use super::token::Cursor;
use super::{Bad, Limits, RawName};

/// Groups of one command; each is looked at for every mailbox.
const GROUPS: usize = 50;

/// NOTIFY.
#[derive(Debug, Clone, PartialEq)]
pub enum Notify {
    /// NONE: nothing at all is to be told.
    None,
    /// SET: this is to be told from now on, and nothing else.
    Set(Wishes),
}

/// What is to be told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// STATUS of the other mailboxes, at once.
    pub status: bool,
    /// Of the selected mailbox; `None`: nothing.
    pub selected: Option<Selected>,
    /// Of other mailboxes. More than one group may be about a mailbox.
    pub groups: Vec<Group<Vec<RawName>>>,
    /// An event was named that this door does not know, or does not have.
    pub unknown: bool,
}

/// What is to be told of the selected mailbox: messages that come and go, and this.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selected {
    /// Messages are told to be gone only when that could be told without NOTIFY.
    pub delayed: bool,
    /// Changes of flags.
    pub flags: bool,
    /// Items of messages that have come.
    pub items: Vec<Item>,
}

/// Mailboxes, and what is to be told of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<Names> {
    /// Which.
    pub filter: Filter<Names>,
    /// What.
    pub events: Events,
}

/// Which mailboxes a group is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter<Names> {
    /// PERSONAL: all. INBOXES as well: mail may be delivered to any mailbox (section 6.3).
    Personal,
    /// SUBSCRIBED.
    Subscribed,
    /// SUBTREE: these and all below them.
    Subtree(Names),
    /// MAILBOXES.
    Mailboxes(Names),
}

/// What may happen to mailboxes (section 5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events {
    /// MessageNew and MessageExpunge, which come together.
    pub messages: bool,
    /// FlagChange.
    pub flags: bool,
    /// MailboxName.
    pub names: bool,
    /// SubscriptionChange.
    pub subscriptions: bool,
    /// MailboxMetadataChange.
    pub metadata: bool,
    /// ServerMetadataChange, which is about no mailbox.
    pub server_metadata: bool,
}

impl Events {
    /// The events that there are, as they are written.
    pub const NAMES: &str = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange \
        MailboxMetadataChange ServerMetadataChange";

    /// These and those.
    pub fn and(self, other: Events) -> Events {
        Events {
            messages: self.messages || other.messages,
            flags: self.flags || other.flags,
            names: self.names || other.names,
            subscriptions: self.subscriptions || other.subscriptions,
            metadata: self.metadata || other.metadata,
            server_metadata: self.server_metadata || other.server_metadata,
        }
    }

    /// Whether there is one that is not about messages.
    fn has_others(self) -> bool {
        self.names || self.subscriptions || self.metadata || self.server_metadata
    }
}

/// Reads what follows NOTIFY and a space.
pub fn parse(c: &mut Cursor<'_>, limits: &Limits) -> Result<Notify, Bad> {
    match c.word()?.as_str() {
        "NONE" => return Ok(Notify::None),
        "SET" => {}
        _ => return Err(Bad("NOTIFY is followed by SET or NONE")),
    }
    let mut wishes = Wishes::default();
    let mut selected = false;
    c.space()?;
    if c.peek() != Some(b'(') {
        if c.word()? != "STATUS" {
            return Err(Bad("STATUS or a parenthesis was expected"));
        }
        wishes.status = true;
        c.space()?;
    }
    loop {
        c.expect(b'(', "a parenthesis was expected")?;
        let word = c.word()?;
        match word.as_str() {
            "SELECTED" | "SELECTED-DELAYED" => {
                if std::mem::replace(&mut selected, true) {
                    return Err(Bad("the selected mailbox is named twice"));
                }
                c.space()?;
                let delayed = word == "SELECTED-DELAYED";
                wishes.selected = of_selected(c, limits, delayed, &mut wishes.unknown)?;
            }
            word => {
                if wishes.groups.len() == GROUPS {
                    return Err(Bad("too many groups"));
                }
                let filter = filter(c, limits, word)?;
                c.space()?;
                let (events, items) = events(c, limits, &mut wishes.unknown)?;
                if !items.is_empty() {
                    return Err(Bad("items are told of the selected mailbox alone"));
                }
                wishes.groups.push(Group { filter, events });
            }
        }
        c.expect(b')', "a parenthesis was expected")?;
        if !c.eat(b' ') {
            return Ok(Notify::Set(wishes));
        }
    }
}

fn of_selected(
    c: &mut Cursor<'_>,
    limits: &Limits,
    delayed: bool,
    unknown: &mut bool,
) -> Result<Option<Selected>, Bad> {
    let (events, items) = events(c, limits, unknown)?;
    if events.has_others() {
        return Err(Bad("only messages are told of the selected mailbox"));
    }
    Ok(events.messages.then_some(Selected {
        delayed,
        flags: events.flags,
        items,
    }))
}

fn filter(c: &mut Cursor<'_>, limits: &Limits, word: &str) -> Result<Filter<Vec<RawName>>, Bad> {
    let names = |c: &mut Cursor<'_>| {
        c.space()?;
        let names = match c.peek() {
            Some(b'(') => c.list(Cursor::astring)?,
            _ => vec![c.astring()?],
        };
        match names.is_empty() || names.len() > limits.items {
            true => Err(Bad("too few or too many names")),
            false => Ok(names),
        }
    };
    Ok(match word {
        "PERSONAL" | "INBOXES" => Filter::Personal,
        "SUBSCRIBED" => Filter::Subscribed,
        "SUBTREE" => Filter::Subtree(names(c)?),
        "MAILBOXES" => Filter::Mailboxes(names(c)?),
        _ => return Err(Bad("unknown kind of mailboxes")),
    })
}

/// Events in parentheses, or NONE; and the items of messages that have come.
fn events(
    c: &mut Cursor<'_>,
    limits: &Limits,
    unknown: &mut bool,
) -> Result<(Events, Vec<Item>), Bad> {
    let (mut events, mut items) = (Events::default(), Vec::new());
    if c.peek() != Some(b'(') {
        return match c.word()?.as_str() {
            "NONE" => Ok((events, items)),
            _ => Err(Bad("events in parentheses or NONE were expected")),
        };
    }
    let (mut come, mut gone, mut annotations) = (false, false, false);
    let named = c.list(|c| {
        match c.atom()?.to_ascii_uppercase().as_str() {
            "MESSAGENEW" => {
                come = true;
                if c.rest().starts_with(b" (") {
                    c.space()?;
                    items = fetch::items(c, limits)?;
                }
            }
            "MESSAGEEXPUNGE" => gone = true,
            "FLAGCHANGE" => events.flags = true,
            "ANNOTATIONCHANGE" => annotations = true,
            "MAILBOXNAME" => events.names = true,
            "SUBSCRIPTIONCHANGE" => events.subscriptions = true,
            "MAILBOXMETADATACHANGE" => events.metadata = true,
            "SERVERMETADATACHANGE" => events.server_metadata = true,
            _ => *unknown = true,
        }
        Ok(())
    })?;
    // RFC 5465, section 5.
    if come != gone || (events.flags || annotations) && !come {
        return Err(Bad(
            "MessageNew and MessageExpunge come together, FlagChange with both",
        ));
    }
    if named.is_empty() {
        return Err(Bad("an event was expected"));
    }
    // Annotations of messages (RFC 5257) are not kept here.
    *unknown |= annotations;
    events.messages = come;
    Ok((events, items))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Notify, Bad> {
        let mut cursor = Cursor::new(text.as_bytes());
        let notify = parse(&mut cursor, &Limits::default())?;
        cursor.end().map(|()| notify)
    }

    #[test]
    fn wishes_are_read() {
        let messages = Events {
            messages: true,
            ..Events::default()
        };
        let text = "set Status (Selected-Delayed (MessageNew (uid body.peek[header.fields (to)]) \
            messageexpunge FlagChange)) (subtree (Lists \"a b\") (MessageNew MessageExpunge)) \
            (mailboxes INBOX NONE) (personal (SubscriptionChange MailboxName))";
        let Ok(Notify::Set(wishes)) = read(text) else {
            panic!("{:?}", read(text));
        };
        let selected = wishes.selected.unwrap();
        assert!(wishes.status && selected.delayed && selected.flags && !wishes.unknown);
        assert_eq!(selected.items.len(), 2);
        let others = Events {
            names: true,
            subscriptions: true,
            ..Events::default()
        };
        let group = |filter, events| Group { filter, events };
        assert_eq!(
            wishes.groups,
            [
                group(
                    Filter::Subtree(vec![b"Lists".to_vec(), b"a b".to_vec()]),
                    messages
                ),
                group(
                    Filter::Mailboxes(vec![b"INBOX".to_vec()]),
                    Events::default()
                ),
                group(Filter::Personal, others),
            ]
        );
        assert_eq!(read("NONE"), Ok(Notify::None));
        let Ok(Notify::Set(none)) = read("SET (SELECTED NONE)") else {
            panic!();
        };
        assert_eq!(none, Wishes::default());
    }

    #[test]
    fn events_that_are_not_there_are_no_mistake_of_syntax() {
        for text in [
            "SET (PERSONAL (Moonrise+tides))",
            "SET (SELECTED (MessageNew MessageExpunge AnnotationChange))",
        ] {
            let Ok(Notify::Set(wishes)) = read(text) else {
                panic!("{text}");
            };
            assert!(wishes.unknown, "{text}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for text in [
            "",
            "SET",
            "SET STATUS",
            "SET (PERSONAL)",
            "SET (PERSONAL ())",
            "SET (PERSONAL MailboxName)",
            "SET (PERSONAL (MessageNew))",
            "SET (PERSONAL (MessageExpunge))",
            "SET (PERSONAL (FlagChange))",
            "SET (SELECTED (MessageNew MessageExpunge MailboxName))",
            "SET (SELECTED NONE) (SELECTED-DELAYED NONE)",
            "SET (PERSONAL (MessageNew (UID) MessageExpunge))",
            "SET (SUBTREE () (MailboxName))",
            "SET (EVERYTHING (MailboxName))",
            "SET (PERSONAL (MailboxName)) ",
            "NONE x",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
