//! `posthouse mail`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{ArgGroup, Args, Subcommand};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use posthouse_client::body::{Body, FileBody, PIECE_BYTES, Spool};
use posthouse_client::connect::os_entropy;
use posthouse_client::ids::{AccountName, BlobId, MailboxName, RequestId};
use posthouse_client::proto::{ErrorKind, FlagMode, ListMessagesResponse, Message};
use posthouse_client::{
    AppendOptions, Client, Delivered, Delivery, Error, FlagChange, Identity, ListOptions,
    Recipient, Source, Stored,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::args::{Context, Output};
use crate::exit::{self, Failure, Outcome, usage};
use crate::output::{self, Columns, octets, print_json, say, time, write_stdout};
use crate::uids::{self, UidSet};

/// Standard input up to this size stays in memory; more goes to a file without a name.
const STDIN_IN_MEMORY_BYTES: usize = 1 << 20;
/// Files on their way at the same time.
const FILES_AT_ONCE: usize = 8;

#[derive(Subcommand)]
pub enum Command {
    /// Deliver messages to one or several recipients
    Deliver(DeliverArgs),
    /// Append messages to a mailbox
    Append(AppendArgs),
    /// List the messages of a mailbox
    List(ListArgs),
    /// Write the octets of a message to standard output, or with -o FILE to a file
    Fetch(FetchArgs),
    /// Add, remove or set flags of messages
    Flag(FlagArgs),
    /// Remove messages that carry \Deleted
    Expunge(ExpungeArgs),
}

#[derive(Args)]
pub struct DeliverArgs {
    /// Accounts that get the message
    #[arg(long, required = true, value_delimiter = ',', value_name = "ACCOUNT")]
    to: Vec<String>,
    /// The mailbox that it goes to [default: INBOX]
    #[arg(long)]
    mailbox: Option<String>,
    /// Flags that it gets, e.g. \Flagged
    #[arg(long = "flag", value_name = "FLAG")]
    flags: Vec<String>,
    /// Identity for repetitions of this call: 32 hexadecimal digits; for one message alone
    #[arg(long, value_name = "HEX", conflicts_with = "by_content")]
    request_id: Option<RequestId>,
    /// The same octets from the same sender are one message
    #[arg(long)]
    by_content: bool,
    /// The reverse-path, for --by-content
    #[arg(long, default_value = "", requires = "by_content")]
    sender: String,
    /// Messages as files; "-" or none: standard input
    files: Vec<PathBuf>,
}

#[derive(Args)]
pub struct AppendArgs {
    /// Whose mailbox
    account: String,
    /// The mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Flags, e.g. \Seen
    #[arg(long = "flag", value_name = "FLAG")]
    flags: Vec<String>,
    /// Arrival time in milliseconds since 1970; 0: now
    #[arg(long, default_value_t = 0, value_name = "MS")]
    internal_date: u64,
    /// Messages as files; "-" or none: standard input
    files: Vec<PathBuf>,
}

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

#[derive(Args)]
#[command(group(ArgGroup::new("mode").required(true).args(["add", "remove", "set"])))]
pub struct FlagArgs {
    /// Whose mailbox
    account: String,
    /// Which messages, e.g. 1:5,9,20:*
    #[arg(value_parser = uids::parse)]
    uids: UidSet,
    /// The mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Add these flags, e.g. \Seen
    #[arg(long, value_delimiter = ',', value_name = "FLAG")]
    add: Vec<String>,
    /// Remove these flags
    #[arg(long, value_delimiter = ',', value_name = "FLAG")]
    remove: Vec<String>,
    /// Replace all flags by these
    #[arg(long, value_delimiter = ',', value_name = "FLAG")]
    set: Vec<String>,
    /// Only messages that have not changed since this modseq
    #[arg(long, default_value_t = 0, value_name = "MODSEQ")]
    unchanged_since: u64,
}

#[derive(Args)]
pub struct ExpungeArgs {
    /// Whose mailbox
    account: String,
    /// Which messages, e.g. 1:5,9; none: all
    #[arg(value_parser = uids::parse)]
    uids: Option<UidSet>,
    /// The mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Also messages without \Deleted
    #[arg(long)]
    force: bool,
}

pub async fn run(context: Context, command: Command) -> Outcome {
    if !matches!(command, Command::Fetch(_)) {
        context.json()?;
    }
    let (client, _) = context.client().await?;
    match command {
        Command::Deliver(args) => deliver(&context, &client, args).await,
        Command::Append(args) => append(&context, &client, args).await,
        Command::List(args) => list(&context, &client, args).await,
        Command::Fetch(args) => fetch(&context, &client, args).await,
        Command::Flag(args) => flag(&context, &client, args).await,
        Command::Expunge(args) => expunge(&context, &client, args).await,
    }
}

/// The message behind a file name; "-" is standard input.
async fn open(path: &Path) -> Result<Box<dyn Body>, Failure> {
    let named = |e: io::Error| Failure::Other(1, format!("{}: {e}", path.display()));
    if path != Path::new("-") {
        return Ok(Box::new(FileBody::open(path).await.map_err(named)?));
    }
    let dir = std::env::temp_dir();
    let mut spool = Spool::new(STDIN_IN_MEMORY_BYTES, dir, os_entropy());
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match stdin.read(&mut buffer).await.map_err(named)? {
            0 => return Ok(Box::new(spool.finish().await.map_err(named)?)),
            n => spool.write(&buffer[..n]).await.map_err(named)?,
        }
    }
}

fn files_or_stdin(files: Vec<PathBuf>) -> Vec<PathBuf> {
    match files.is_empty() {
        true => vec!["-".into()],
        false => files,
    }
}

/// An error as programs read it: its kind as in the proto, and the text.
fn error_json(error: &Error) -> Value {
    let detail = error.to_detail();
    let kind = ErrorKind::try_from(detail.kind).unwrap_or_default();
    json!({ "kind": kind.as_str_name(), "message": error.to_string() })
}

fn stored_json(stored: &Stored) -> Value {
    json!({
        "uidvalidity": stored.uidvalidity,
        "uid": stored.uid,
        "modseq": stored.modseq,
        "email_id": stored.email_id.0,
        "duplicate": stored.duplicate,
    })
}

async fn deliver(context: &Context, client: &Client, args: DeliverArgs) -> Outcome {
    let json = context.json()?;
    let files = files_or_stdin(args.files);
    if args.request_id.is_some() && files.len() > 1 {
        return Err(usage("--request-id is the identity of one message alone"));
    }
    let mailbox = args.mailbox.map(|m| MailboxName::new(&m)).transpose()?;
    let mut recipients = Vec::new();
    for account in &args.to {
        recipients.push(Recipient {
            account: AccountName::new(account)?,
            mailbox: mailbox.clone(),
            flags: args.flags.clone(),
        });
    }
    let bar = output::progress(files.len() as u64, "delivering", false);
    let mut done = stream::iter(&files)
        .map(|file| {
            let identity = match args.by_content {
                true => Identity::ByContent {
                    sender: args.sender.clone(),
                },
                false => Identity::Request(args.request_id.unwrap_or_else(|| client.request_id())),
            };
            let delivery = Delivery {
                identity,
                recipients: recipients.clone(),
                internal_date_ms: 0,
            };
            async move {
                let body = open(file).await?;
                let answer = client.deliver(&delivery, &*body).await?;
                Ok::<_, Failure>((file, answer))
            }
        })
        .buffered(FILES_AT_ONCE);
    let mut table = Columns::new(&["File", "Account", "#Uid", "#Size", "Blob", "Result"]);
    let mut documents = Vec::new();
    let mut worst = 0;
    while let Some((file, answer)) = done.try_next().await? {
        bar.inc(1);
        for (recipient, result) in recipients.iter().zip(&answer.results) {
            worst = worst.max(result.as_ref().map_or_else(exit::code, |_| 0));
            table.row(deliver_row(file, &answer, recipient, result));
        }
        if json {
            documents.push(deliver_json(file, &answer, &recipients));
        }
    }
    bar.finish_and_clear();
    match json {
        true => print_json(&json!({ "deliveries": documents }))?,
        false => table.print("")?,
    }
    match worst {
        0 => Ok(()),
        code => Err(Failure::Other(
            code,
            "not every recipient got the message".into(),
        )),
    }
}

fn deliver_row(
    file: &Path,
    answer: &Delivered,
    recipient: &Recipient,
    result: &Result<Stored, Error>,
) -> [String; 6] {
    let (uid, text) = match result {
        Ok(s) if s.duplicate => (s.uid.to_string(), "stored before".to_owned()),
        Ok(s) => (s.uid.to_string(), "stored".to_owned()),
        Err(error) => (String::new(), error.to_string()),
    };
    let short = |id: BlobId| id.to_string()[..16].to_owned();
    [
        file.display().to_string(),
        recipient.account.to_string(),
        uid,
        octets(answer.size),
        answer.blob_id.map_or(String::new(), short),
        text,
    ]
}

fn deliver_json(file: &Path, answer: &Delivered, recipients: &[Recipient]) -> Value {
    let result = |(r, result): (&Recipient, &Result<Stored, Error>)| {
        let mut value = match result {
            Ok(stored) => stored_json(stored),
            Err(error) => json!({ "error": error_json(error) }),
        };
        value["account"] = r.account.as_str().into();
        value["mailbox"] = r.mailbox.as_ref().map_or("INBOX", |m| m.as_str()).into();
        value
    };
    let results = recipients.iter().zip(&answer.results);
    json!({
        "file": file.display().to_string(),
        "blob_id": answer.blob_id.map(|id| id.to_string()),
        "size": answer.size,
        "results": results.map(result).collect::<Vec<_>>(),
    })
}

async fn append(context: &Context, client: &Client, args: AppendArgs) -> Outcome {
    let json = context.json()?;
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    let files = files_or_stdin(args.files);
    let bar = output::progress(files.len() as u64, "appending", false);
    let mut table = Columns::new(&["File", "#Uid", "#Size", "Blob"]);
    let mut documents = Vec::new();
    // One after the other: the uids follow the order of the files.
    for file in &files {
        let body = open(file).await?;
        let options = AppendOptions {
            flags: args.flags.clone(),
            internal_date_ms: args.internal_date,
            request_id: None,
        };
        let done = client.append(&account, &mailbox, &*body, options).await?;
        bar.inc(1);
        table.row([
            file.display().to_string(),
            done.stored.uid.to_string(),
            octets(done.size),
            done.blob_id.to_string()[..16].to_owned(),
        ]);
        let mut document = stored_json(&done.stored);
        document["file"] = file.display().to_string().into();
        document["blob_id"] = done.blob_id.to_string().into();
        document["size"] = done.size.into();
        documents.push(document);
    }
    bar.finish_and_clear();
    match json {
        true => print_json(&json!({ "messages": documents })),
        false => table.print(""),
    }
}

async fn list(context: &Context, client: &Client, args: ListArgs) -> Outcome {
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
                eprintln!("posthouse: there are more; see --limit");
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

async fn fetch(context: &Context, client: &Client, args: FetchArgs) -> Outcome {
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

async fn flag(context: &Context, client: &Client, args: FlagArgs) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    let (mode, flags) = match (args.add.is_empty(), args.remove.is_empty()) {
        (false, _) => (FlagMode::Add, args.add),
        (_, false) => (FlagMode::Remove, args.remove),
        _ => (FlagMode::Replace, args.set),
    };
    let change = FlagChange {
        uids: args.uids.0,
        mode,
        flags: flags.into_iter().filter(|f| !f.is_empty()).collect(),
        unchanged_since: args.unchanged_since,
    };
    let done = client.set_flags(&account, &mailbox, change, None).await?;
    if context.json()? {
        return print_json(&json!({
            "modseq": done.modseq,
            "changed": done.changed,
            "modified": done.modified,
        }));
    }
    say(&format!(
        "changed {} (modseq {})",
        uids::text(&done.changed),
        done.modseq
    ))?;
    match done.modified.is_empty() {
        true => Ok(()),
        false => say(&format!(
            "left alone, changed meanwhile: {}",
            uids::text(&done.modified)
        )),
    }
}

async fn expunge(context: &Context, client: &Client, args: ExpungeArgs) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    if args.force && args.uids.is_none() {
        return Err(usage("--force needs uids; write 1:* for all"));
    }
    let uids = args.uids.map_or(Vec::new(), |s| s.0);
    let answer = client.expunge(&account, &mailbox, uids, args.force, None);
    let done = answer.await?;
    match context.json()? {
        true => print_json(&json!({ "modseq": done.modseq, "vanished": done.vanished })),
        false => say(&format!(
            "removed {} (modseq {})",
            uids::text(&done.vanished),
            done.modseq
        )),
    }
}
