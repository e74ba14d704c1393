//! What a client does: commands drawn at random, and what their answers must be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use posthouse_tests::imap::{Reply, Search, Untagged, members};
use rand::RngExt;

use super::belief::{Known, Manner, pairs, set};
use super::ledger::{PLACES, Place, message};
use super::session::{Listens, Session};

/// Flags that clients set; the first removes.
const FLAGS: [&str; 8] = [
    "\\DELETED",
    "\\SEEN",
    "\\FLAGGED",
    "\\ANSWERED",
    "\\DRAFT",
    "$FORWARDED",
    "WORK",
    "LATER",
];

/// A section that tells the number of a message.
const NUMBER: &str = "BODY[HEADER.FIELDS (X-NUMBER)]";

impl Session {
    pub(super) async fn deed(&mut self) -> anyhow::Result<()> {
        match self.rng.random_range(0..100u32) {
            0..12 => self.append().await,
            12..38 => self.store().await,
            38..43 => self.expunge().await,
            43..48 => self.copy(false).await,
            48..52 => self.copy(true).await,
            52..55 => self.replace().await,
            55..70 => self.fetch().await,
            70..80 => self.search().await,
            80..86 => self.say("NOOP", &[], true).await.map(drop),
            86..88 => self.idle().await,
            88..90 => self.wait().await,
            90..92 => self.status().await,
            92..96 => self.leave().await,
            96..98 => {
                let place = 1 - self.place()?;
                self.select(place).await
            }
            _ => {
                if self.rng.random_bool(0.3) {
                    self.put_away();
                    self.say("LOGOUT", &[], false).await.ok();
                }
                self.cut();
                Ok(())
            }
        }
    }

    /// Some messages that the client knows by uid: number and what is known.
    fn some(&mut self, most: usize, fits: impl Fn(&Session, u32) -> bool) -> Vec<(u32, Known)> {
        let Some(belief) = &self.belief else {
            return Vec::new();
        };
        let all: Vec<(u32, Known)> = belief.known().map(|(n, m)| (n, m.clone())).collect();
        let mut all: Vec<(u32, Known)> =
            all.into_iter().filter(|(_, m)| fits(self, m.uid)).collect();
        if all.is_empty() {
            return all;
        }
        // Neighbours, or anybody.
        let count = self.rng.random_range(1..=most.min(all.len()));
        if self.rng.random_bool(0.5) {
            let at = self.rng.random_range(0..=all.len() - count);
            return all.drain(at..at + count).collect();
        }
        let mut chosen = BTreeMap::new();
        for _ in 0..count {
            let (n, known) = &all[self.rng.random_range(0..all.len())];
            chosen.insert(*n, known.clone());
        }
        chosen.into_iter().collect()
    }

    /// By uid, or by number where a number keeps its meaning.
    fn by_uid(&mut self) -> bool {
        self.rng.random_bool(0.5) || self.listens == Listens::Always
    }

    fn some_flags(&mut self, deleted: bool) -> BTreeSet<String> {
        let mut flags = BTreeSet::new();
        for _ in 0..self.rng.random_range(0..3) {
            flags.insert(FLAGS[self.rng.random_range(1..FLAGS.len())].to_owned());
        }
        if deleted {
            flags.insert(FLAGS[0].to_owned());
        }
        flags
    }

    async fn append(&mut self) -> anyhow::Result<()> {
        let to: Place = usize::from(self.rng.random_bool(0.2));
        let count = if self.rng.random_bool(0.2) { 3 } else { 1 };
        let numbers: Vec<u64> = (0..count).map(|_| self.ledger.new_message()).collect();
        let octets: Vec<Vec<u8>> = numbers.iter().map(|&n| message(n)).collect();
        let flags = |s: &mut Session| {
            let flags: Vec<String> = s.some_flags(false).into_iter().collect();
            format!("({}) ", flags.join(" "))
        };
        let command = format!("APPEND {} {}", PLACES[to], flags(self));
        let mut afters: Vec<String> = (1..count).map(|_| format!(" {}", flags(self))).collect();
        afters.push(String::new());
        let literals: Vec<(&[u8], &str)> = octets
            .iter()
            .zip(&afters)
            .map(|(o, a)| (&o[..], &a[..]))
            .collect();
        let reply = self.say(&command, &literals, true).await?;
        expect(&reply, &[])?;
        let code = reply.status.code("APPENDUID").context("no APPENDUID")?;
        self.appended(code, to, &numbers)
    }

    fn appended(&mut self, code: &str, to: Place, numbers: &[u64]) -> anyhow::Result<()> {
        let (_, uids) = code.split_once(' ').context("APPENDUID")?;
        let uids: Vec<u32> = members(uids)?.iter().flat_map(|&(a, b)| a..=b).collect();
        ensure!(
            uids.len() == numbers.len(),
            "APPENDUID {code} of {numbers:?}"
        );
        for (uid, n) in uids.iter().zip(numbers) {
            self.ledger.stored(to, *uid, *n)?;
        }
        Ok(())
    }

    async fn store(&mut self) -> anyhow::Result<()> {
        let place = self.place()?;
        let deleted = self.rng.random_bool(0.25);
        let targets = self.some(8, |s, uid| !deleted || s.ledger.is_mortal(place, uid));
        let flags = self.some_flags(deleted);
        if targets.is_empty() {
            return Ok(());
        }
        let (by_uid, silent) = (self.by_uid(), self.rng.random_bool(0.4));
        // Flags that are told unasked may be those of before the command.
        let silent = silent && self.listens == Listens::Never;
        let sign = ["+", "-", ""][self.rng.random_range(0..3)];
        let since = self.rng.random_bool(0.3).then(|| {
            let highest = targets.iter().map(|(_, m)| m.modseq).max().unwrap_or(0);
            highest.saturating_sub(self.rng.random_range(0..3)).max(1)
        });
        let numbers = targets.iter().map(|(n, m)| if by_uid { m.uid } else { *n });
        let command = format!(
            "{}STORE {}{} {sign}FLAGS{} ({})",
            if by_uid { "UID " } else { "" },
            set(numbers),
            since.map_or(String::new(), |n| format!(" (UNCHANGEDSINCE {n})")),
            if silent { ".SILENT" } else { "" },
            flags.iter().cloned().collect::<Vec<_>>().join(" ")
        );
        let reply = self.say(&command, &[], by_uid).await?;
        expect(&reply, &[])?;
        let modified: BTreeSet<u32> = match reply.status.code("MODIFIED") {
            Some(set) => members(set)?.iter().flat_map(|&(a, b)| a..=b).collect(),
            None => BTreeSet::new(),
        };
        let told: BTreeSet<u32> = reply
            .fetches()
            .filter(|fetch| fetch.flags.is_some())
            .map(|fetch| fetch.number)
            .collect();
        for (number, known) in &targets {
            let failed = modified.contains(if by_uid { &known.uid } else { number });
            if let Some(since) = since
                && known.modseq > since
                && !failed
            {
                // Only what is not there any more can have passed the test.
                self.ledger.must_be_gone(place, known.uid);
            }
            // With uids, numbers may have shifted; what was told then carries its uid.
            let told = match by_uid {
                false => told.contains(number),
                true => reply
                    .fetches()
                    .any(|f| f.uid == Some(known.uid) && f.flags.is_some()),
            };
            if failed || !silent || told {
                continue;
            }
            let belief = self.belief.as_mut().context("selected")?;
            let mine = belief.messages.iter_mut().find(|m| m.uid == known.uid);
            if let Some(Known {
                flags: Some(now), ..
            }) = mine
            {
                match sign {
                    "+" => now.extend(flags.iter().cloned()),
                    "-" => now.retain(|flag| !flags.contains(flag)),
                    _ => now.clone_from(&flags),
                }
            }
        }
        Ok(())
    }

    async fn expunge(&mut self) -> anyhow::Result<()> {
        let targets = self.some(10, |_, _| true);
        let command = match self.rng.random_bool(0.5) && !targets.is_empty() {
            true => format!("UID EXPUNGE {}", set(targets.iter().map(|(_, m)| m.uid))),
            false => "EXPUNGE".to_owned(),
        };
        let reply = self.say(&command, &[], true).await?;
        expect(&reply, &[])
    }

    async fn copy(&mut self, moved: bool) -> anyhow::Result<()> {
        let place = self.place()?;
        let to: Place = self.rng.random_range(0..2);
        let targets = self.some(5, |s, uid| match moved {
            true => s.ledger.is_mortal(place, uid),
            false => s.ledger.number(place, uid).is_some(),
        });
        if targets.is_empty() {
            return Ok(());
        }
        let by_uid = self.by_uid();
        let numbers = targets.iter().map(|(n, m)| if by_uid { m.uid } else { *n });
        let command = format!(
            "{}{} {} {}",
            if by_uid { "UID " } else { "" },
            if moved { "MOVE" } else { "COPY" },
            set(numbers),
            PLACES[to]
        );
        if !moved {
            for (_, known) in &targets {
                self.ledger.once_more(place, known.uid);
            }
        }
        let reply = self.say(&command, &[], true).await?;
        expect(&reply, &[])?;
        let Some(code) = reply.code("COPYUID") else {
            // None of them was there any more.
            for (_, known) in &targets {
                self.ledger.must_be_gone(place, known.uid);
            }
            return Ok(());
        };
        let words: Vec<&str> = code.split(' ').collect();
        let [_, from, into] = words[..] else {
            bail!("COPYUID {code}");
        };
        let pairs = pairs(&members(from)?, &members(into)?)?;
        for (uid, new) in &pairs {
            ensure!(targets.iter().any(|(_, m)| m.uid == *uid), "COPYUID {code}");
            if let Some(n) = self.ledger.number(place, *uid) {
                self.ledger.stored(to, *new, n)?;
            }
            if moved {
                self.ledger.must_be_gone(place, *uid);
            }
        }
        for (_, known) in targets.iter().filter(|(_, m)| !pairs.contains_key(&m.uid)) {
            self.ledger.must_be_gone(place, known.uid);
        }
        Ok(())
    }

    async fn replace(&mut self) -> anyhow::Result<()> {
        let place = self.place()?;
        let targets = self.some(1, |s, uid| s.ledger.is_mortal(place, uid));
        let Some((_, known)) = targets.first() else {
            return Ok(());
        };
        let n = self.ledger.new_message();
        let (to, octets) = (self.rng.random_range(0..2usize), message(n));
        let command = format!("UID REPLACE {} {} (\\SEEN) ", known.uid, PLACES[to]);
        let reply = self.say(&command, &[(&octets, "")], true).await?;
        expect(&reply, &["EXPUNGEISSUED", "NONEXISTENT"])?;
        if reply.is_ok() {
            let code = reply.code("APPENDUID").context("no APPENDUID")?.to_owned();
            self.appended(&code, to, &[n])?;
        }
        self.ledger.must_be_gone(place, known.uid);
        Ok(())
    }

    async fn fetch(&mut self) -> anyhow::Result<()> {
        let place = self.place()?;
        let targets = self.some(20, |_, _| true);
        if targets.is_empty() {
            return Ok(());
        }
        let by_uid = self.by_uid();
        let what = match self.rng.random_range(0..8u32) {
            0 => "(FLAGS)".to_owned(),
            1 => "(UID FLAGS MODSEQ)".to_owned(),
            2 => "(UID MODSEQ RFC822.SIZE)".to_owned(),
            3 => format!("(UID {})", NUMBER.replace("BODY[", "BODY.PEEK[")),
            4 => "(UID BODY.PEEK[])".to_owned(),
            5 if self.qresync => "BODY[TEXT]".to_owned(),
            5 => "(UID BODY[TEXT])".to_owned(),
            6 => "(UID ENVELOPE BODYSTRUCTURE INTERNALDATE EMAILID PREVIEW)".to_owned(),
            _ => "(UID FLAGS BODY.PEEK[TEXT]<0.10>)".to_owned(),
        };
        let since = self.rng.random_bool(0.25).then(|| {
            let (_, m) = &targets[self.rng.random_range(0..targets.len())];
            m.modseq.max(1)
        });
        let vanished = by_uid && self.qresync && since.is_some() && self.rng.random_bool(0.5);
        let modifier = match (since, vanished) {
            (None, _) => String::new(),
            (Some(n), false) => format!(" (CHANGEDSINCE {n})"),
            (Some(n), true) => format!(" (CHANGEDSINCE {n} VANISHED)"),
        };
        let numbers = targets.iter().map(|(n, m)| if by_uid { m.uid } else { *n });
        let word = if by_uid { "UID FETCH" } else { "FETCH" };
        let command = format!("{word} {} {what}{modifier}", set(numbers));
        let reply = self.say(&command, &[], by_uid).await?;
        expect(&reply, &[])?;
        for fetch in reply.fetches() {
            // It has set \Seen (RFC 7162, section 3.2.4).
            let implicit = what == "BODY[TEXT]" && fetch.flags.is_some();
            ensure!(
                !implicit || fetch.uid.is_some() && fetch.modseq.is_some(),
                "flags without UID and MODSEQ: {fetch:?}"
            );
            let uid = match fetch.uid {
                Some(uid) => uid,
                None => continue,
            };
            if let Some(octets) = fetch.section(NUMBER) {
                self.ledger.stored(place, uid, number_in(octets)?)?;
            }
            let Some(n) = self.ledger.number(place, uid) else {
                continue;
            };
            let octets = message(n);
            if let Some(got) = fetch.section("BODY[]") {
                ensure!(
                    got[..] == octets[..],
                    "uid {uid} is not message {n} any more"
                );
            }
            if let Some([size]) = fetch.item("RFC822.SIZE") {
                ensure!(size.number::<usize>()? == octets.len(), "size of uid {uid}");
            }
        }
        for (number, known) in targets {
            let told = |f: &&posthouse_tests::imap::Fetch| match f.uid {
                Some(uid) => uid == known.uid,
                None => f.number == number,
            };
            let due = since.is_none_or(|since| known.modseq > since);
            if due && reply.is_ok() && reply.fetches().find(told).is_none() {
                let why = reply.status.code("EXPUNGEISSUED").is_some();
                let silent = by_uid || since.is_some();
                ensure!(silent || why, "number {number} was not told of");
                self.ledger.must_be_gone(place, known.uid);
            }
        }
        Ok(())
    }

    async fn search(&mut self) -> anyhow::Result<()> {
        let targets = self.some(10, |_, _| true);
        let numbers = set(targets.iter().map(|(n, _)| *n));
        let uids = set(targets.iter().map(|(_, m)| m.uid));
        let n = self.rng.random_range(1..30u32);
        let key = match self.rng.random_range(0..11u32) {
            0 | 1 => "ALL".to_owned(),
            2 => "FLAGGED".to_owned(),
            3 => "UNKEYWORD Work".to_owned(),
            4 => format!(
                "MODSEQ {}",
                targets.first().map_or(1, |(_, m)| m.modseq.max(1))
            ),
            5 => format!("SUBJECT \"number {n}\""),
            6 => format!("TEXT \"letter {n}.\""),
            7 | 8 if self.listens == Listens::Always => "UNANSWERED".to_owned(),
            7 if !targets.is_empty() => format!("{numbers} DELETED"),
            8 if !targets.is_empty() => format!("OR {numbers} SEEN"),
            9 if !targets.is_empty() => format!("NOT UID {uids}"),
            _ => "UNSEEN SMALLER 500".to_owned(),
        };
        let by_uid = self.by_uid();
        let with_numbers = key.starts_with(|c: char| c.is_ascii_digit()) || key.starts_with("OR");
        let word = if by_uid { "UID SEARCH" } else { "SEARCH" };
        let returns = [
            "",
            "",
            "RETURN () ",
            "RETURN (ALL COUNT MIN MAX) ",
            "RETURN (MIN) ",
            "RETURN (SAVE) ",
            "RETURN (SAVE ALL) ",
        ][self.rng.random_range(0..7)];
        let before = self
            .belief
            .as_ref()
            .map(|b| b.messages.clone())
            .unwrap_or_default();
        let command = format!("{word} {returns}{key}");
        let reply = self.say(&command, &[], by_uid && !with_numbers).await?;
        expect(&reply, &[])?;
        let found = reply.untagged.iter().find_map(|answer| match answer {
            Untagged::Search(found) => Some(found.clone()),
            _ => None,
        });
        match found {
            Some(found) if returns.is_empty() || returns.contains("ALL") => {
                self.check_found(&key, by_uid, &found, &before)?;
            }
            None => ensure!(returns == "RETURN (SAVE) ", "no answer to {command}"),
            _ => {}
        }
        if returns.contains("SAVE") {
            let reply = self.say("FETCH $ (UID FLAGS)", &[], false).await?;
            expect(&reply, &[])?;
        }
        Ok(())
    }

    /// ALL finds all that the client knew of, but those that are gone.
    fn check_found(
        &self,
        key: &str,
        by_uid: bool,
        found: &Search,
        before: &[Known],
    ) -> anyhow::Result<()> {
        if key != "ALL" {
            return Ok(());
        }
        let place = self.place()?;
        let found: BTreeSet<u32> = found.all.iter().flat_map(|&(a, b)| a..=b).collect();
        for (number, known) in (1u32..).zip(before).filter(|(_, m)| m.uid != 0) {
            if !found.contains(if by_uid { &known.uid } else { &number }) {
                self.ledger.must_be_gone(place, known.uid);
            }
        }
        Ok(())
    }

    async fn idle(&mut self) -> anyhow::Result<()> {
        let (tag, before) = self.imap()?.idle().await?;
        let unasked = Manner {
            expunges: self.listens == Listens::Always,
            ..Manner::default()
        };
        ensure!(
            before.is_empty() || self.listens != Listens::Never,
            "{before:?} before IDLE"
        );
        for answer in &before {
            self.hear(answer, unasked).context("before IDLE")?;
        }
        let until = self.rng.random_range(0..150);
        let until = tokio::time::Instant::now() + Duration::from_millis(until);
        let manner = Manner {
            expunges: true,
            ..Manner::default()
        };
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let Some(answer) = self.imap()?.untagged_within(left).await? else {
                break;
            };
            self.hear(&answer, manner).context("IDLE")?;
        }
        let reply = self.imap()?.done(&tag).await?;
        self.take(&reply, manner).context("DONE")?;
        expect(&reply, &[])
    }

    /// Hears what is told unasked.
    async fn wait(&mut self) -> anyhow::Result<()> {
        let until = self.rng.random_range(0..150);
        let until = tokio::time::Instant::now() + Duration::from_millis(until);
        let manner = Manner {
            expunges: self.listens == Listens::Always,
            ..Manner::default()
        };
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let Some(answer) = self.imap()?.untagged_within(left).await? else {
                return Ok(());
            };
            ensure!(self.listens != Listens::Never, "{answer:?} unasked");
            self.hear(&answer, manner).context("between commands")?;
        }
    }

    async fn status(&mut self) -> anyhow::Result<()> {
        let place = 1 - self.place()?;
        let items = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ)";
        let command = format!("STATUS {} {items}", PLACES[place]);
        let reply = self.say(&command, &[], true).await?;
        expect(&reply, &[])
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        let word = if self.rng.random_bool(0.5) {
            "CLOSE"
        } else {
            "UNSELECT"
        };
        // Neither says anything of the mailbox; what is told unasked may come before.
        let reply = match self.listens {
            Listens::Never => {
                let belief = self.belief.take().context("selected")?;
                let reply = self.say(word, &[], false).await;
                self.belief = Some(belief);
                reply
            }
            _ => self.say(word, &[], false).await,
        };
        self.put_away();
        expect(&reply?, &[])
    }
}

/// It ended with OK, or with NO for one of these reasons.
fn expect(reply: &Reply, reasons: &[&str]) -> anyhow::Result<()> {
    let allowed = reasons
        .iter()
        .any(|reason| reply.status.code(reason).is_some());
    ensure!(reply.is_ok() || allowed, "ended with {:?}", reply.status);
    Ok(())
}

/// The number in `X-Number: n`.
fn number_in(octets: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(octets)?;
    let number = text.trim().strip_prefix("X-Number: ");
    Ok(number.with_context(|| format!("{text:?}"))?.parse()?)
}
