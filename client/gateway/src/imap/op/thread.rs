//! THREAD=REFERENCES (RFC 5256, section 4).

use bytes::BytesMut;
use posthouse_client::proto::ThreadNode;

use super::search::find;
use crate::imap::parse::search::Thread;
use crate::imap::respond::text::{number, put};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::store::Query;

/// THREAD.
pub(super) async fn thread(s: &mut Session, uid: bool, command: Thread) -> Result<Done, Stop> {
    s.selected()?;
    if command.algorithm != "REFERENCES" {
        return Err(Done::bad("the algorithm is REFERENCES").into());
    }
    let query = Query {
        thread: true,
        ..Query::default()
    };
    let found = find(s, &command.search, query).await?;
    let view = &s.selected()?.view;
    // Messages that the client does not know are as if they were not there.
    let number_of = |node: &ThreadNode| match view.number(node.uid) {
        Some(_) if uid => node.uid,
        Some(n) => n,
        None => 0,
    };
    let nodes: Vec<(u32, u32)> = found
        .threads
        .iter()
        .map(|n| (number_of(n), n.depth))
        .collect();
    put(s.wire.out(), "* THREAD");
    let patience = s.door.config.data_timeout();
    let (mut rest, mut first) = (&nodes[..], true);
    while !rest.is_empty() {
        let end = rest[1..].iter().position(|&(_, depth)| depth == 0);
        let (one, after) = rest.split_at(end.map_or(rest.len(), |n| n + 1));
        rest = after;
        let mut written = BytesMut::new();
        write(&mut written, one);
        if !written.is_empty() && std::mem::take(&mut first) {
            put(s.wire.out(), " ");
        }
        s.wire.out().extend_from_slice(&written);
        s.wire.relieve(patience).await?;
    }
    put(s.wire.out(), "\r\n");
    Ok(Done::ok("that is all"))
}

/// A message in a thread, and where its children are.
struct Node {
    number: u32,
    children: Vec<usize>,
}

/// What is still to be written.
enum Step {
    Node(usize),
    Open,
    Close,
}

/// Writes one thread: nodes depth first, with their depths; number 0 for one that is not there.
/// Threads may be deeper than a stack, so nothing here calls itself.
fn write(out: &mut BytesMut, nodes: &[(u32, u32)]) {
    let mut all: Vec<Node> = vec![Node {
        number: 0,
        children: Vec::new(),
    }];
    // The nodes above the next one, with their depths; the root above all is none of them.
    let mut above: Vec<(i64, usize)> = vec![(-1, 0)];
    for &(number, depth) in nodes {
        let depth = i64::from(depth);
        while above.last().is_some_and(|&(d, _)| d >= depth) {
            above.pop();
        }
        let parent = above.last().map_or(0, |&(_, parent)| parent);
        let at = all.len();
        all.push(Node {
            number,
            children: Vec::new(),
        });
        all[parent].children.push(at);
        above.push((depth, at));
    }
    // From the leaves up: a node that is not there and has no children is nothing.
    let mut empty = vec![false; all.len()];
    for at in (0..all.len()).rev() {
        let children = std::mem::take(&mut all[at].children);
        all[at].children = children.into_iter().filter(|&c| !empty[c]).collect();
        empty[at] = all[at].number == 0 && all[at].children.is_empty();
    }
    let mut steps: Vec<Step> = Vec::new();
    for &root in all[0].children.iter().rev() {
        steps.extend([Step::Close, Step::Node(root), Step::Open]);
    }
    let mut space = false;
    while let Some(step) = steps.pop() {
        match step {
            Step::Open => {
                if space {
                    put(out, " ");
                }
                put(out, "(");
                space = false;
            }
            Step::Close => {
                put(out, ")");
                space = false;
            }
            Step::Node(at) => {
                let node = &all[at];
                if node.number != 0 {
                    put(out, if space { " " } else { "" });
                    number(out, node.number.into());
                    space = true;
                }
                match &node.children[..] {
                    [] => {}
                    [only] => steps.push(Step::Node(*only)),
                    several => {
                        for &child in several.iter().rev() {
                            steps.extend([Step::Close, Step::Node(child), Step::Open]);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(nodes: &[(u32, u32)]) -> String {
        let mut out = BytesMut::new();
        write(&mut out, nodes);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn threads_as_the_rfc_writes_them() {
        assert_eq!(written(&[(2, 0)]), "(2)");
        assert_eq!(
            written(&[(3, 0), (6, 1), (4, 2), (23, 3), (44, 2), (7, 3), (96, 4)]),
            "(3 6 (4 23)(44 7 96))"
        );
        // The root is not there.
        assert_eq!(written(&[(0, 0), (3, 1), (5, 1)]), "((3)(5))");
        assert_eq!(written(&[(0, 0), (3, 1)]), "(3)");
        assert_eq!(written(&[(0, 0), (0, 1)]), "");
        assert_eq!(written(&[(1, 0), (0, 1), (3, 1)]), "(1 3)");
    }

    #[test]
    fn a_deep_thread_is_written() {
        let nodes: Vec<(u32, u32)> = (0..200_000).map(|i| (i + 1, i)).collect();
        assert!(written(&nodes).ends_with(" 199999 200000)"));
    }
}
