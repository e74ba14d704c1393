//! SORT (RFC 5256; RFC 5957 for DISPLAYFROM and DISPLAYTO; RFC 7162 for MODSEQ).

use posthouse_client::proto::SortKey;

use super::search::find;
use crate::imap::parse::search::Sort;
use crate::imap::respond::text::{number, put};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::store::Query;

/// SORT.
pub(super) async fn sort(s: &mut Session, uid: bool, command: Sort) -> Result<Done, Stop> {
    let by = |&(by, reverse): &_| SortKey {
        by: by as i32,
        reverse,
    };
    let query = Query {
        sort: command.by.iter().map(by).collect(),
        ..Query::default()
    };
    let found = find(s, &command.search, query).await?;
    let patience = s.door.config.data_timeout();
    put(s.wire.out(), "* SORT");
    let mut any = false;
    for of in found.sorted {
        let Some(n) = s.selected()?.view.number(of) else {
            continue;
        };
        let out = s.wire.out();
        put(out, " ");
        number(out, if uid { of } else { n }.into());
        any = true;
        s.wire.relieve(patience).await?;
    }
    // RFC 7162, section 7, `sort-data`: only behind a message that is told.
    if any && command.search.modseq {
        put(s.wire.out(), &format!(" (MODSEQ {})", found.modseq));
    }
    put(s.wire.out(), "\r\n");
    Ok(Done::ok("that is all"))
}
