//! Shortens a summary until its encoding fits.
//!
//! The summary travels in the log and is stored in every replica's index; one message with a
//! thousand named parts must not make it larger than the message. Each step gives up what readers
//! miss least.

use super::{Envelope, MAX_SUMMARY_BYTES, Part, Summary, cut_addresses};

/// Parts that are left when there are too many.
const SOME_PARTS: usize = 200;

/// The steps, from mild to hard. The last one always fits: its few values are bounded by the
/// limits of the fields.
const STEPS: [fn(&mut Summary); 6] = [
    // Envelopes of attached messages can be read from the octets again.
    |s| s.parts.iter_mut().for_each(|p| p.message = None),
    |s| lists(&mut s.envelope, 50, 200),
    |s| {
        for part in &mut s.parts {
            part.params.truncate(8);
            part.disposition_params.truncate(4);
            part.language.clear();
            part.location.clear();
            clip(&mut part.description, 100);
            let params = part.params.iter_mut().chain(&mut part.disposition_params);
            params.for_each(|(_, value)| clip(value, 100));
        }
    },
    |s| {
        for part in &mut s.parts {
            // The boundary was needed to find the parts; to show them it is not.
            part.params
                .retain(|(name, _)| name == "charset" || name == "name");
            part.description.clear();
            part.id.clear();
            part.md5.clear();
        }
    },
    |s| {
        lists(&mut s.envelope, 20, 100);
        s.parts.truncate(SOME_PARTS);
    },
    |s| {
        s.parts.truncate(1);
        if let Some(part) = s.parts.first_mut() {
            part.params.clear();
            part.disposition_params.clear();
        }
    },
];

/// The encoding of a summary, of at most [`MAX_SUMMARY_BYTES`].
pub fn to_fit(mut summary: Summary) -> Vec<u8> {
    for step in STEPS {
        let encoded = summary.encode_whole();
        if encoded.len() <= MAX_SUMMARY_BYTES {
            return encoded;
        }
        step(&mut summary);
        summary.truncated = true;
    }
    let encoded = summary.encode_whole();
    assert!(
        encoded.len() <= MAX_SUMMARY_BYTES,
        "a summary of {} octets does not shrink below its limit",
        encoded.len()
    );
    encoded
}

/// Whether parts may have been given up of a summary that is not whole: of one with any other
/// number of parts, none were.
pub fn may_lack_parts(parts: &[Part]) -> bool {
    match parts {
        [one] => one.is_multipart() || one.main_type == "message",
        parts => parts.is_empty() || parts.len() == SOME_PARTS,
    }
}

/// Keeps `items` of each list of an envelope and `octets` of each of their values.
fn lists(envelope: &mut Envelope, items: usize, octets: usize) {
    let addresses = [
        &mut envelope.from,
        &mut envelope.sender,
        &mut envelope.reply_to,
        &mut envelope.to,
        &mut envelope.cc,
        &mut envelope.bcc,
    ];
    for list in addresses {
        cut_addresses(list, items);
        for address in list {
            match address {
                super::Address::Mailbox { name, address } => {
                    clip(name, octets);
                    clip(address, octets);
                }
                super::Address::GroupStart(name) => clip(name, octets),
                super::Address::GroupEnd => (),
            }
        }
    }
    for ids in [&mut envelope.in_reply_to, &mut envelope.references] {
        if ids.len() > items {
            ids.drain(1..=ids.len() - items);
        }
    }
}

fn clip(text: &mut String, octets: usize) {
    text.truncate(text.floor_char_boundary(octets));
}

#[cfg(test)]
mod tests {
    use super::super::Address;
    use super::*;

    #[test]
    fn the_largest_possible_summary_fits() {
        let text = "x".repeat(1000);
        let param = ("p".repeat(64), text.clone());
        let addresses = vec![
            Address::Mailbox {
                name: text.clone(),
                address: text.clone(),
            };
            200
        ];
        let ids = vec!["i".repeat(250); 100];
        let envelope = Envelope {
            subject: text.clone(),
            from: addresses.clone(),
            sender: addresses.clone(),
            reply_to: addresses.clone(),
            to: addresses.clone(),
            cc: addresses.clone(),
            bcc: addresses,
            date: "d".repeat(40),
            date_text: "d".repeat(100),
            message_id: "i".repeat(250),
            in_reply_to: ids.clone(),
            references: ids,
        };
        let part = Part {
            params: vec![param.clone(); 32],
            disposition_params: vec![param; 32],
            description: text.clone(),
            location: text.clone(),
            language: vec!["l".repeat(64); 32],
            ..Part::default()
        };
        let attached = Part {
            message: Some(Box::new(envelope.clone())),
            ..part.clone()
        };
        let summary = Summary {
            envelope,
            base_subject: text,
            preview: "驿".repeat(256),
            parts: [vec![attached; 3], vec![part; 997]].concat(),
            ..Summary::default()
        };
        let encoded = summary.encode();
        assert!(encoded.len() <= MAX_SUMMARY_BYTES);
        let read = Summary::decode(&encoded).unwrap();
        assert!(read.truncated);
        assert_eq!(read.envelope.references.len(), 20);
    }

    #[test]
    fn an_ordinary_summary_is_kept_whole() {
        let summary = super::super::summarize(b"Subject: s\r\n\r\ntext\r\n");
        let encoded = summary.clone().encode();
        assert!(encoded.len() < 100, "{}", encoded.len());
        assert_eq!(Summary::decode(&encoded), Ok(summary));
        assert!(Summary::decode(&[]).is_err());
        assert!(Summary::decode(&[9, 9]).is_err());
    }
}
