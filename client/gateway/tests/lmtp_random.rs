//! The LMTP door under random input: cuts do not show, garbage does no harm, and a message is
//! the same through DATA and through BDAT.

mod common;

use common::{FakeStore, open, settings};
use posthouse_gateway::lmtp::settings::Settings;
use proptest::prelude::*;

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// A fragment of a dialogue: mostly sense, some nonsense.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let sense = prop::sample::select(vec![
        "LHLO c\r\n",
        "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\n",
        "MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\na\r\n",
        "MAIL FROM:<>\r\n",
        "MAIL FROM:<a@b> SIZE=10\r\n",
        "RCPT TO:<ann@example.org>\r\n",
        "RCPT TO:<no@example.org>\r\n",
        "DATA\r\n",
        "x: y\r\n\r\nbody\r\n",
        ".\r\n",
        "\r\n.\r\n",
        "\n.\r\n",
        "..\r\n",
        "BDAT 4\r\nabcd",
        "BDAT 3 LAST\r\n.\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT 20\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "QUIT\r\n",
    ])
    .prop_map(|s| s.as_bytes().to_vec());
    let whole = prop::sample::select(vec![
        "LHLO c\r\n",
        "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\nx: y\r\n\r\n..b\r\n.\r\n",
        "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\nBDAT 3\r\na\r\nBDAT 4 LAST\r\n\r\n.b",
        "\r\n.\r\nRSET\r\n",
    ])
    .prop_map(|s| s.as_bytes().to_vec());
    prop_oneof![
        8 => whole,
        6 => sense,
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(prop::sample::select(b"\r\n. A".to_vec()), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn cuts_do_not_show_and_garbage_does_no_harm(
        fragments in prop::collection::vec(fragment(), 0..30),
        cuts in prop::collection::vec(1usize..30, 1..20),
    ) {
        let octets = fragments.concat();
        let talk = |pieces: Vec<Vec<u8>>| {
            let store = FakeStore::with(&["ann@example.org"]);
            let answer = run({
                let store = store.clone();
                async move {
                    let settings = Settings { errors: 1000, dedupe: false, ..settings() };
                    let door = open(store, settings);
                    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                    door.talk(&pieces).await
                }
            });
            (answer, store.mail())
        };
        let mut pieces = Vec::new();
        let (mut rest, mut cut) = (octets.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cut.next().unwrap()));
            pieces.push(piece.to_vec());
            rest = after;
        }
        prop_assert_eq!(talk(vec![octets]), talk(pieces));
    }

    #[test]
    fn data_and_bdat_bring_the_same_octets(
        mut message in prop::collection::vec(
            prop_oneof![4 => prop::sample::select(b"\r\n.".to_vec()), 1 => any::<u8>()], 0..300),
        chunk in 1usize..80,
    ) {
        message.extend_from_slice(b"\r\n");
        let (mut stuffed, mut at_start) = (Vec::new(), true);
        for (i, &b) in message.iter().enumerate() {
            if at_start && b == b'.' {
                stuffed.push(b'.');
            }
            stuffed.push(b);
            at_start = b == b'\n' && i > 0 && message[i - 1] == b'\r';
        }
        let open_mail = b"MAIL FROM:<>\r\nRCPT TO:<ann@example.org>\r\n".as_slice();
        let mut script = [b"LHLO c\r\n", open_mail, b"DATA\r\n", &stuffed, b".\r\n", open_mail].concat();
        for piece in message.chunks(chunk) {
            script.extend_from_slice(format!("BDAT {}\r\n", piece.len()).as_bytes());
            script.extend_from_slice(piece);
        }
        script.extend_from_slice(b"BDAT 0 LAST\r\nQUIT\r\n");
        let store = FakeStore::with(&["ann@example.org"]);
        run({
            let store = store.clone();
            async move {
                open(store, Settings { dedupe: false, ..settings() }).talk(&[&script]).await
            }
        });
        prop_assert_eq!(store.octets(), vec![message.clone(), message]);
    }
}
