//! Messages by columns: many rows in one answer, for who reads the flags of a whole mailbox.

use crate::error::Error;
use crate::ids::Uid;
use crate::proto::{self, Fetched};

/// What of the rows is wanted beside the uids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    /// Flags and keywords.
    pub flags: bool,
    /// When it was last touched.
    pub modseq: bool,
    /// When it came in, and into this mailbox.
    pub dates: bool,
    /// Octets.
    pub size: bool,
    /// What it shows.
    pub email_id: bool,
}

impl From<Columns> for proto::RowColumns {
    fn from(c: Columns) -> proto::RowColumns {
        proto::RowColumns {
            flags: c.flags,
            modseq: c.modseq,
            dates: c.dates,
            size: c.size,
            email_id: c.email_id,
        }
    }
}

/// Messages in the order of their uids. Of a row that is given out, what was not asked for is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    columns: proto::Rows,
    last: Uid,
    /// The next row, where its keywords begin, and the uid before it.
    at: usize,
    keyword: usize,
    before: Uid,
}

impl Rows {
    /// Those of an answer to a question for the columns `asked`, all of them above `after`.
    pub(crate) fn new(
        columns: proto::Rows,
        asked: &proto::RowColumns,
        after: Uid,
    ) -> Result<Rows, Error> {
        let wrong = |what: String| Error::Corrupt {
            message: format!("rows that cannot be: {what}"),
        };
        let rows = columns.uid_steps.len();
        let mut last: Uid = 0;
        for step in &columns.uid_steps {
            let next = last.checked_add(*step).filter(|next| *next > last);
            last = next.ok_or_else(|| wrong(format!("uid {last} and {step} more")))?;
        }
        if columns
            .uid_steps
            .first()
            .is_some_and(|first| *first <= after)
        {
            return Err(wrong(format!("more rows up to uid {after}")));
        }
        let lengths = [
            (asked.flags, columns.flags.len()),
            (asked.modseq, columns.modseqs.len()),
            (asked.dates, columns.internal_dates_ms.len()),
            (asked.dates, columns.save_dates_ms.len()),
            (asked.size, columns.sizes.len()),
            (asked.email_id, columns.email_ids.len()),
            (!columns.keywords.is_empty(), columns.keyword_counts.len()),
        ];
        let fits = |(asked, n): &(bool, usize)| *n == rows || *n == 0 && !asked;
        if let Some((_, n)) = lengths.iter().find(|length| !fits(length)) {
            return Err(wrong(format!("{n} values of {rows} messages")));
        }
        let counts = columns.keyword_counts.iter();
        let keywords: u64 = counts.map(|n| u64::from(*n)).sum();
        if keywords != columns.keywords.len() as u64 {
            let there = columns.keywords.len();
            return Err(wrong(format!("{there} keywords, not {keywords}")));
        }
        Ok(Rows {
            columns,
            last,
            at: 0,
            keyword: 0,
            before: 0,
        })
    }

    /// How many there were in the answer.
    pub fn len(&self) -> usize {
        self.columns.uid_steps.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.columns.uid_steps.is_empty()
    }

    /// The uid of the last one; 0 where there is none.
    pub fn last(&self) -> Uid {
        self.last
    }

    /// Puts the next one into `row`, whatever that has held; false: there is none any more.
    pub fn next_into(&mut self, row: &mut Fetched) -> bool {
        let c = &self.columns;
        let Some(step) = c.uid_steps.get(self.at) else {
            return false;
        };
        let of = |column: &[u64]| column.get(self.at).copied().unwrap_or(0);
        self.before += step;
        row.uid = self.before;
        row.flags = c.flags.get(self.at).copied().unwrap_or(0).into();
        row.modseq = of(&c.modseqs);
        row.internal_date_ms = of(&c.internal_dates_ms);
        row.save_date_ms = of(&c.save_dates_ms);
        row.size = of(&c.sizes);
        row.email_id = of(&c.email_ids);
        row.keywords.clear();
        if let Some(count) = c.keyword_counts.get(self.at) {
            let end = self.keyword + *count as usize;
            row.keywords.extend(&c.keywords[self.keyword..end]);
            self.keyword = end;
        }
        self.at += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: proto::RowColumns = proto::RowColumns {
        flags: true,
        modseq: true,
        dates: false,
        size: false,
        email_id: false,
    };

    fn columns() -> proto::Rows {
        proto::Rows {
            uid_steps: vec![5, 1, 10],
            flags: vec![1, 0, 31].into(),
            keyword_counts: vec![0, 2, 1],
            keywords: vec![3, 4, 3],
            modseqs: vec![7, 1 << 40, 9],
            ..proto::Rows::default()
        }
    }

    #[test]
    fn rows_come_out_of_columns() {
        let mut rows = Rows::new(columns(), &ASKED, 4).unwrap();
        assert_eq!((rows.len(), rows.last()), (3, 16));
        let mut row = Fetched::default();
        let mut all = Vec::new();
        while rows.next_into(&mut row) {
            all.push((row.uid, row.flags, row.keywords.clone(), row.modseq));
        }
        let expected = [
            (5, 1, vec![], 7),
            (6, 0, vec![3, 4], 1 << 40),
            (16, 31, vec![3], 9),
        ];
        assert_eq!(all, expected);
        assert!(!rows.next_into(&mut row));
    }

    #[test]
    fn columns_that_do_not_fit_together_are_refused() {
        type Spoil = fn(&mut proto::Rows);
        let spoils: [Spoil; 7] = [
            |c| c.uid_steps[1] = 0,
            |c| c.uid_steps[2] = u32::MAX,
            |c| c.flags = vec![1].into(),
            |c| c.keyword_counts[0] = 1,
            |c| c.sizes.push(1),
            |c| c.modseqs.clear(),
            |c| c.keyword_counts.clear(),
        ];
        for spoil in spoils {
            let mut c = columns();
            spoil(&mut c);
            let refused = Rows::new(c.clone(), &ASKED, 0);
            assert!(matches!(refused, Err(Error::Corrupt { .. })), "{c:?}");
        }
        assert!(Rows::new(columns(), &ASKED, 5).is_err());
    }
}
