//! What a session does beside, once it has selected its mailbox: several messages at once, one in the
//! place of another, counters, lists, searches, pieces of a message.

use std::io;

use crate::history::{Call, Octets};
use crate::plan::{Given, ImapStep};

use super::super::mailbox_name;
use super::Session;
use super::told::Reply;

/// Where a session is.
pub(super) struct Home<'a> {
    /// Its account.
    pub account: &'a str,
    /// The mailbox that it has selected.
    pub mailbox: &'a str,
    /// uidvalidity of the mailbox.
    pub era: u32,
    /// The next uid, as it was selected: the session knows all messages before it.
    pub uid_next: u32,
    /// The message that it reads.
    pub uid: u32,
}

/// All that STATUS can tell and somebody judges.
const COUNTERS: &str = "MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE";

impl Session<'_, '_> {
    /// One step. `replaced`: the message that goes; `n`: the number of the session's change.
    pub(super) async fn step(
        &mut self,
        home: &Home<'_>,
        step: &ImapStep,
        replaced: u32,
        n: u8,
    ) -> io::Result<()> {
        let (account, mailbox) = (home.account.to_owned(), home.mailbox.to_owned());
        let done = match step {
            ImapStep::AppendMany { sizes, body } => {
                let items = sizes.iter().zip(*body..);
                let items = items.map(|(size, body)| Octets { body, size: *size });
                let items: Vec<Octets> = items.collect();
                let mut command = format!("APPEND \"{mailbox}\"").into_bytes();
                for octets in &items {
                    self.announce(&mut command, *octets);
                }
                let call = Call::AppendMany {
                    account,
                    mailbox,
                    items,
                    given: Given::default(),
                    request: self.request(n),
                };
                self.recorded(call, &command, Reply::appended_all).await
            }
            ImapStep::Replace { size, body, .. } => {
                let octets = Octets {
                    body: *body,
                    size: *size,
                };
                let mut command = format!("UID REPLACE {replaced} \"{mailbox}\"").into_bytes();
                self.announce(&mut command, octets);
                let call = Call::Replace {
                    account,
                    mailbox,
                    era: home.era,
                    uid: replaced,
                    octets,
                    given: Given::default(),
                    request: self.request(n),
                };
                self.recorded(call, &command, Reply::appended).await
            }
            ImapStep::Status { mailbox: other } => {
                let mailbox = mailbox_name(*other);
                let command = format!("STATUS \"{mailbox}\" ({COUNTERS})");
                let call = Call::Status { account, mailbox };
                self.said(call, &command, Reply::status).await
            }
            ImapStep::List { status: true } => {
                let items = format!("{COUNTERS} HIGHESTMODSEQ MAILBOXID");
                let command = format!("LIST \"\" \"*\" RETURN (SUBSCRIBED STATUS ({items}))");
                let told = |reply: &Reply| Some(reply.mailboxes());
                self.said(Call::Mailboxes { account }, &command, told).await
            }
            ImapStep::List { status: false } => {
                let told = |reply: &Reply| Some(reply.names());
                let call = Call::Names { account };
                self.said(call, "LIST \"\" \"*\"", told).await
            }
            ImapStep::Search { flag, on } => {
                let key = key(flag, *on);
                let command = format!("UID SEARCH RETURN (ALL COUNT) {key}");
                let call = Call::Search {
                    account,
                    mailbox,
                    era: home.era,
                    untold: home.uid_next,
                    flag: flag.clone(),
                    on: *on,
                };
                self.said(call, &command, Reply::found).await
            }
            ImapStep::Pieces { cut } => {
                let uid = home.uid;
                let rest = format!("BODY.PEEK[]<{cut}.{}>", u32::MAX);
                let command = format!("UID FETCH {uid} (UID BODY.PEEK[]<0.{cut}> {rest})");
                let call = Call::Fetch {
                    account,
                    mailbox,
                    uid,
                    era: home.era,
                };
                let told = |reply: &Reply| reply.pieces(*cut);
                self.said(call, &command, told).await
            }
        };
        done.map(drop)
    }

    /// A message behind what a command says already.
    fn announce(&self, command: &mut Vec<u8>, octets: Octets) {
        let message = self.at.octets(octets);
        command.extend_from_slice(format!(" {{{}+}}\r\n", message.len()).as_bytes());
        command.extend_from_slice(&message);
    }
}

/// The search key for messages with a flag, or without it (RFC 9051, section 6.4.4).
fn key(flag: &str, on: bool) -> String {
    match flag.strip_prefix('\\') {
        Some(name) if on => name.to_ascii_uppercase(),
        Some(name) => format!("UN{}", name.to_ascii_uppercase()),
        None if on => format!("KEYWORD {flag}"),
        None => format!("UNKEYWORD {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_keys_of_their_own_and_keywords_one() {
        assert_eq!(key("\\Seen", true), "SEEN");
        assert_eq!(key("\\Deleted", false), "UNDELETED");
        assert_eq!(key("$Forwarded", true), "KEYWORD $Forwarded");
        assert_eq!(key("work", false), "UNKEYWORD work");
    }
}
