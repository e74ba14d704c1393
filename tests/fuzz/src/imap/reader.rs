//! The reader of IMAP commands (RFC 9051, section 9) over whole streams of octets: literals,
//! messages that are not held, refusals, and the parser of what remains.

use std::time::Duration;

use bytes::BytesMut;
use posthouse_gateway::imap::parse::append::{self, Announced, Item};
use posthouse_gateway::imap::parse::command::TAG_BYTES;
use posthouse_gateway::imap::parse::{self, Limits};
use posthouse_gateway::imap::settings::Settings;
use posthouse_gateway::imap::utf7;
use posthouse_gateway::imap::wire::{Gone, Input, Line, Wire};
use tokio_util::sync::CancellationToken;

use crate::pieces::{Chance, cut};
use crate::{memory, talk};

const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of a literal that is no message.
const LITERAL: usize = 64;

/// Small limits, so that small inputs reach them.
fn settings() -> Settings {
    Settings {
        line_bytes: 300,
        literal_bytes: LITERAL,
        command_bytes: 500,
        message_bytes: 2_000,
        nesting: 10,
        set_ranges: 20,
        items: 30,
        append_messages: 5,
        ..Settings::default()
    }
}

fn limits() -> Limits {
    let settings = settings();
    Limits {
        nesting: settings.nesting,
        set: settings.set_ranges,
        items: settings.items,
    }
}

/// What the reader made of a stream.
#[derive(Debug, PartialEq)]
struct Read {
    inputs: Vec<Input>,
    /// What stood between the messages of an APPEND, and their octets.
    messages: Vec<(Option<Item>, Vec<u8>)>,
    answers: Vec<u8>,
    gone: Gone,
}

fn read(pieces: &[&[u8]]) -> Read {
    let (ours, theirs) = tokio::io::duplex(talk::room(pieces));
    let mut wire = Wire::new(Box::new(theirs), CancellationToken::new());
    talk::run(async {
        let take = async {
            let (mut inputs, mut messages) = (Vec::new(), Vec::new());
            let gone = loop {
                match wire.command(&settings(), LITERAL, PATIENCE).await {
                    Ok(input) => {
                        let first = match &input {
                            Input::Message(head) => Some(head.item.clone()),
                            _ => None,
                        };
                        inputs.push(input);
                        if let Some(first) = first
                            && let Err(gone) = append(&mut wire, first, &mut messages).await
                        {
                            break gone;
                        }
                    }
                    Err(gone) => break gone,
                }
            };
            wire.close(PATIENCE).await;
            (inputs, messages, gone)
        };
        let (answers, (inputs, messages, gone)) = tokio::join!(talk::client(ours, pieces), take);
        Read {
            inputs,
            messages,
            answers,
            gone,
        }
    })
}

/// Reads the messages of an APPEND as the door does.
async fn append(
    wire: &mut Wire,
    first: Item,
    messages: &mut Vec<(Option<Item>, Vec<u8>)>,
) -> Result<(), Gone> {
    let settings = settings();
    let mut item = Some(first);
    while let Some(this) = item {
        let Announced { len, waits, utf8 } = this.literal;
        if len > settings.message_bytes {
            return wire.skip(this.literal, &settings).await;
        }
        if waits {
            wire.say("+ go on");
        }
        let (mut octets, mut left) = (Vec::new(), len);
        while left > 0 {
            let piece = wire.piece(left, PATIENCE).await?;
            assert!(!piece.is_empty() && piece.len() as u64 <= left);
            left -= piece.len() as u64;
            octets.extend_from_slice(&piece);
        }
        messages.push((Some(this), octets));
        let mut line = match wire.line(settings.line_bytes, PATIENCE, false).await? {
            Line::Good(line) => line,
            Line::TooLong(_, Some(literal)) => return wire.skip(literal, &settings).await,
            Line::TooLong(..) => return Ok(()),
        };
        if utf8 && !line.starts_with(b")") {
            return Ok(());
        }
        let rest = line.split_off(usize::from(utf8));
        item = match append::next(&rest) {
            Ok(next) => Some(next),
            Err(_) => None,
        };
    }
    Ok(())
}

/// What holds of a command, whatever it is.
fn check(command: &BytesMut) {
    let settings = settings();
    assert!(command.len() <= settings.command_bytes + settings.line_bytes + 2);
    let (tag, parsed) = memory::within(1 << 20, "a command", || parse::parse(command, &limits()));
    if let Some(tag) = &tag {
        assert!(!tag.is_empty() && tag.len() <= TAG_BYTES);
        assert!(tag.bytes().all(|b| b.is_ascii_graphic()));
        assert!(command.starts_with(tag.as_bytes()));
    }
    assert!(tag.is_some() || parsed.is_err());
    let again = parse::parse(command, &limits());
    assert_eq!((tag, parsed), again);
}

/// Modified UTF-7: a name that can be read is read the same when it is written again.
fn names(line: &[u8]) {
    if let Some(name) = utf7::decode(line) {
        let wire = utf7::encode(&name);
        assert!(wire.is_ascii());
        assert_eq!(utf7::decode(wire.as_bytes()).as_ref(), Some(&name));
    }
}

/// A stream of octets through the reader: no panic, bounded memory, the same however it is cut,
/// and each command read alone is the command that it was in the stream.
pub fn fuzz(octets: &[u8]) {
    let limit = (2 << 20) + 64 * octets.len();
    let whole = memory::within(limit, "reading", || read(&[octets]));
    let mut chance = Chance::of(octets);
    let pieces = cut(octets, &mut chance);
    if pieces.len() > 1 {
        assert_eq!(whole, read(&pieces), "cut into {} pieces", pieces.len());
    }
    for input in &whole.inputs {
        if let Input::Command(command) = input {
            check(command);
            let alone = [&command[..], b"\r\n"].concat();
            let alone = read(&[&alone]).inputs;
            assert_eq!(alone.len(), 1, "{}", command.escape_ascii());
            assert_eq!(&alone[0], input);
        }
    }
    octets.split(|&b| b == b'\n').for_each(names);
}
