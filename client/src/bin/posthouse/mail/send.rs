//! `posthouse mail deliver` and `append`: files and standard input go in.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use posthouse_client::body::{Body, FileBody, PIECE_BYTES, Spool};
use posthouse_client::connect::os_entropy;
use posthouse_client::ids::{AccountName, BlobId, MailboxName, RequestId};
use posthouse_client::proto::ErrorKind;
use posthouse_client::{
    AppendOptions, AppendPart, AppendedAll, Client, Delivered, Delivery, Error, Identity,
    Recipient, Stored,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::args::Context;
use crate::exit::{self, Failure, Outcome, usage};
use crate::output::{self, Columns, octets, print_json};

/// Standard input up to this size stays in memory; more goes to a file without a name.
const STDIN_IN_MEMORY_BYTES: usize = 1 << 20;
/// Files on their way at the same time.
const FILES_AT_ONCE: usize = 8;

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
    /// All of the files or none, in one step
    #[arg(long)]
    together: bool,
    /// Messages as files; "-" or none: standard input
    files: Vec<PathBuf>,
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

/// Runs `mail deliver`.
pub async fn deliver(context: &Context, client: &Client, args: DeliverArgs) -> Outcome {
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

/// Runs `mail append`.
pub async fn append(context: &Context, client: &Client, args: AppendArgs) -> Outcome {
    let json = context.json()?;
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    let files = files_or_stdin(args.files);
    if args.together {
        let flags = args.flags;
        let stored = together(
            client,
            &account,
            &mailbox,
            &files,
            flags,
            args.internal_date,
        );
        return print_together(json, &files, stored.await?);
    }
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
            replace: None,
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

/// Appends the messages of all files in one step.
async fn together(
    client: &Client,
    account: &AccountName,
    mailbox: &MailboxName,
    files: &[PathBuf],
    flags: Vec<String>,
    internal_date_ms: u64,
) -> Result<AppendedAll, Failure> {
    let mut bodies = Vec::with_capacity(files.len());
    for file in files {
        bodies.push(open(file).await?);
    }
    let bodies = bodies.iter().map(|body| AppendPart {
        body: &**body,
        flags: flags.clone(),
        internal_date_ms,
    });
    let parts: Vec<AppendPart> = bodies.collect();
    Ok(client.append_many(account, mailbox, &parts, None).await?)
}

fn print_together(json: bool, files: &[PathBuf], stored: AppendedAll) -> Outcome {
    let uids = stored.first.uid..;
    if json {
        let message = |(uid, file): (u32, &PathBuf)| {
            json!({
                "file": file.display().to_string(),
                "uid": uid,
                "uidvalidity": stored.first.uidvalidity,
            })
        };
        let messages: Vec<Value> = uids.zip(files).map(message).collect();
        return print_json(&json!({ "messages": messages, "modseq": stored.first.modseq }));
    }
    let mut table = Columns::new(&["File", "#Uid"]);
    for (uid, file) in uids.zip(files) {
        table.row([file.display().to_string(), uid.to_string()]);
    }
    table.print("")
}
