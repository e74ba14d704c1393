//! `posthouse mail list` and `fetch`: what is stored comes out.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{ArgGroup, Args};
use futures::TryStreamExt;
use posthouse_client::ids::{AccountName, BlobId, MailboxName};
use posthouse_client::proto::{ListMessagesResponse, Message};
use posthouse_client::{Client, ListOptions, Source};
use serde_json::json;

use crate::args::{Context, Output};
use crate::exit::{Outcome, usage};
use crate::output::{self, Columns, note, octets, print_json, say, time, write_stdout};

#[derive(Args)]
pub struct ListArgs {
    /// Whose mailbox
    account: String,
    /// The mailbox
    #[arg(default_value = "INBOX")]
    mailbox: String,
    /// First uid
    #[arg(long, default_value_t = 1)]
    from: u32,
    /// Last uid; 0: no bound
    #[arg(long, default_value_t = 0)]
    until: u32,
    /// At most so many messages; 0: all
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Without sender, subject and blob id, which is faster
    #[arg(long)]
    no_summary: bool,
}

#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["uid", "blob"])))]
pub struct FetchArgs {
    /// Whose mailbox
    account: String,
    /// The message's uid
    uid: Option<u32>,
    /// The mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// A blob instead of a message
    #[arg(long, value_name = "HEX")]
    blob: Option<BlobId>,
    /// First octet
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Number of octets; 0: to the end
    #[arg(long, default_value_t = 0)]
    length: u64,
}

/// Runs `mail list`.
pub async fn list(context: &Context, client: &Client, args: ListArgs) -> Outcome {
    let json = context.json()?;
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    let limit = match args.limit {
        0 => usize::MAX,
        n => n,
    };
    let options = ListOptions {
        first: args.from.max(1),
        last: args.until,
        page: limit.min(1000) as u32,
        with_summary: !args.no_summary,
    };
    let pages = client.list_pages(&account, &mailbox, options);
    futures::pin_mut!(pages);
    let mut left = limit;
    let mut written = 0;
    let mut last_mailbox = None;
    // Pages go out as they come: a mailbox of millions is not collected first.
    while let Some(page) = pages.try_next().await? {
        let ListMessagesResponse {
            mut messages,
            mailbox,
            next_uid,
            account_modseq: _,
        } = page;
        messages.truncate(left);
        left -= messages.len();
        match json {
            true => write_json_items(&messages, &mut written)?,
            false if messages.is_empty() => {}
            false => {
                messages_table(&messages, args.no_summary).print("")?;
                written += messages.len();
            }
        }
        last_mailbox = mailbox;
        if left == 0 {
            if next_uid != 0 && !json {
                note("there are more; see --limit");
            }
            break;
        }
    }
    if json {
        let start = if written == 0 { "{\"messages\":[" } else { "" };
        let mailbox = serde_json::to_string(&last_mailbox).map_err(io::Error::from)?;
        return say(&format!("{start}\n],\"mailbox\":{mailbox}}}"));
    }
    match written {
        0 => say("no messages"),
        _ => Ok(()),
    }
}

fn write_json_items(messages: &[Message], written: &mut usize) -> Outcome {
    let mut text = Vec::new();
    for message in messages {
        let before = if *written == 0 {
            "{\"messages\":[\n"
        } else {
            ",\n"
        };
        text.extend_from_slice(before.as_bytes());
        serde_json::to_writer(&mut text, message).map_err(io::Error::from)?;
        *written += 1;
    }
    write_stdout(&text)
}

fn messages_table(messages: &[Message], no_summary: bool) -> Columns {
    let names = ["#Uid", "Flags", "Arrived", "#Size", "From", "Subject"];
    let count = if no_summary { 4 } else { 6 };
    let mut table = Columns::new(&names[..count]);
    for m in messages {
        let envelope = m.envelope.clone().unwrap_or_default();
        let from = envelope.from.first().map(|a| match a.name.is_empty() {
            true => a.address.clone(),
            false => a.name.clone(),
        });
        let cells = [
            m.uid.to_string(),
            m.flags.join(" "),
            time(m.internal_date_ms),
            octets(m.size),
            from.unwrap_or_default(),
            envelope.subject,
        ];
        table.row(cells.into_iter().take(count));
    }
    table
}

/// Runs `mail fetch`.
pub async fn fetch(context: &Context, client: &Client, args: FetchArgs) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let source = match (args.blob, args.uid) {
        (Some(id), _) => Source::Blob(id),
        (None, Some(uid)) => Source::Message(MailboxName::new(&args.mailbox)?, uid),
        (None, None) => return Err(usage("a uid or --blob is needed")),
    };
    let answer = client.fetch_range(&account, source, args.offset, args.length);
    let fetched = answer.await?;
    let (id, size) = (fetched.blob_id, fetched.size);
    let bar = match context.output {
        Output::File(_) => output::progress(size, "fetching", true),
        _ => indicatif::ProgressBar::hidden(),
    };
    let mut octets = fetched.octets;
    let mut count = 0;
    // Octets are good only once the stream has ended well: a file gets its name no earlier.
    let partial = match &context.output {
        Output::File(path) => {
            let partial = partial_name(path);
            Some((File::create(&partial)?, partial, path))
        }
        _ => None,
    };
    while let Some(piece) = octets.try_next().await? {
        count += piece.len() as u64;
        bar.inc(piece.len() as u64);
        put(&piece, context, partial.as_ref().map(|(file, ..)| file))?;
    }
    bar.finish_and_clear();
    if let Some((file, partial, path)) = partial {
        file.sync_all()?;
        std::fs::rename(partial, path)?;
    }
    match context.output {
        Output::Json => print_json(&json!({
            "blob_id": id.to_string(),
            "size": size,
            "octets": count,
            "verified": args.offset == 0 && args.length == 0,
        })),
        _ => Ok(()),
    }
}

fn put(piece: &Bytes, context: &Context, file: Option<&File>) -> Outcome {
    match (file, &context.output) {
        (Some(mut file), _) => Ok(file.write_all(piece)?),
        (None, Output::Json) => Ok(()),
        (None, _) => write_stdout(piece),
    }
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
