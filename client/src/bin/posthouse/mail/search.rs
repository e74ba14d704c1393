//! `posthouse mail search`: messages that meet all conditions of the command line.

use clap::Args;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::proto::sort_key::By;
use posthouse_client::proto::{SearchKey, SortKey, UidRange};
use posthouse_client::search::keys;
use posthouse_client::{Client, SearchOptions};
use serde_json::json;

use crate::args::Context;
use crate::exit::Outcome;
use crate::output::{print_json, say};
use crate::uids;

#[derive(Args)]
pub struct SearchArgs {
    /// Whose mailbox
    account: String,
    /// The mailbox
    #[arg(default_value = "INBOX")]
    mailbox: String,
    /// From contains this
    #[arg(long, value_name = "TEXT")]
    from: Vec<String>,
    /// To contains this
    #[arg(long, value_name = "TEXT")]
    to: Vec<String>,
    /// The subject contains this
    #[arg(long, value_name = "TEXT")]
    subject: Vec<String>,
    /// The header or the text contains this
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// The text contains this
    #[arg(long, value_name = "TEXT")]
    body: Vec<String>,
    /// Arrived on this day (in UTC) or later
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day_ms)]
    since: Option<u64>,
    /// Arrived before this day (in UTC)
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day_ms)]
    before: Option<u64>,
    /// Carries this flag, e.g. \Seen; with "!" before it: does not
    #[arg(long, value_name = "FLAG")]
    flag: Vec<String>,
    /// Has more octets
    #[arg(long, value_name = "OCTETS")]
    larger: Option<u64>,
    /// Has fewer octets
    #[arg(long, value_name = "OCTETS")]
    smaller: Option<u64>,
    /// In this order: arrival, cc, date, from, size, subject, to, display-from, display-to;
    /// several separated by commas; "-date": the latest first
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, value_parser = sort_key)]
    sort: Vec<SortKey>,
}

/// Milliseconds from 1970 to the beginning of a day in UTC.
fn day_ms(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a day from 1970-01-01 to 9999-12-31");
    let numbers: Vec<&str> = text.split('-').collect();
    let [y, m, d] = numbers.as_slice() else {
        return Err(bad());
    };
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| bad());
    let (year, month, day) = (number(y)?, number(m)?, number(d)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return Err(bad());
    }
    let (before, rest) = lengths.split_at(month as usize - 1);
    if day == 0 || day > rest[0] {
        return Err(bad());
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    Ok((years + before.iter().sum::<u64>() + day - 1) * 86_400_000)
}

fn sort_key(text: &str) -> Result<SortKey, String> {
    let (name, reverse) = match text.strip_prefix('-') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let by = match name.to_ascii_lowercase().as_str() {
        "arrival" => By::Arrival,
        "cc" => By::Cc,
        "date" => By::Date,
        "from" => By::From,
        "size" => By::Size,
        "subject" => By::Subject,
        "to" => By::To,
        "display-from" => By::DisplayFrom,
        "display-to" => By::DisplayTo,
        _ => return Err(format!("{text:?} is not an order")),
    };
    Ok(SortKey {
        by: by as i32,
        reverse,
    })
}

fn key(args: &SearchArgs) -> Option<SearchKey> {
    let mut all = Vec::new();
    type Make = fn(String) -> SearchKey;
    let texts: [(&[String], Make); 5] = [
        (&args.from, keys::from),
        (&args.to, keys::to),
        (&args.subject, keys::subject),
        (&args.text, keys::text),
        (&args.body, keys::body),
    ];
    for (given, key) in texts {
        all.extend(given.iter().cloned().map(key));
    }
    all.extend(args.flag.iter().map(|flag| match flag.strip_prefix('!') {
        Some(flag) => keys::no_flag(flag),
        None => keys::flag(flag.as_str()),
    }));
    if args.since.is_some() || args.before.is_some() {
        all.push(keys::arrived(args.since.unwrap_or(0), args.before));
    }
    let above = args.larger.map(|n| n.saturating_add(1));
    if above.is_some() || args.smaller.is_some() {
        all.push(keys::size(above.unwrap_or(0), args.smaller));
    }
    (!all.is_empty()).then(|| keys::all_of(all))
}

/// Runs `mail search`.
pub async fn search(context: &Context, client: &Client, args: SearchArgs) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    let options = SearchOptions {
        key: key(&args),
        sort: args.sort.clone(),
        ..SearchOptions::default()
    };
    let found = client.search(&account, &mailbox, options).await?;
    let uids: Vec<u32> = match args.sort.is_empty() {
        true => found.uids.iter().collect(),
        false => found.sorted,
    };
    if context.json()? {
        return print_json(&json!({
            "uids": uids,
            "count": found.count,
            "matched_modseq": found.matched_modseq,
        }));
    }
    let text = match (args.sort.is_empty(), uids.as_slice()) {
        (_, []) => "no messages".to_owned(),
        (true, uids) => uids::text(&ranges(uids)),
        (false, uids) => {
            let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
            uids.join(",")
        }
    };
    say(&text)
}

fn ranges(uids: &[u32]) -> Vec<UidRange> {
    let runs = uids.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    runs.map(|run| UidRange {
        first: run[0],
        last: run[run.len() - 1],
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(day_ms("1970-01-01"), Ok(0));
        assert_eq!(day_ms("2000-02-29"), Ok(951_782_400_000));
        assert_eq!(day_ms("2024-12-31"), Ok(1_735_603_200_000));
        for bad in [
            "",
            "2024",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "1969-12-31",
            "a-b-c",
        ] {
            assert!(day_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn runs_of_uids_become_ranges() {
        assert_eq!(uids::text(&ranges(&[1, 2, 3, 7, 9, 10])), "1:3,7,9:10");
        assert_eq!(ranges(&[]), []);
        assert!(sort_key("-date").unwrap().reverse && sort_key("colour").is_err());
    }
}
