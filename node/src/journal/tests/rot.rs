//! Rot: synced bytes that change are reported, with place and cause, and never cut.

use super::*;

/// Batches of two entries and a vote each; returns the disk and the locations by index.
fn filled(batches: u64, seal: bool) -> (FakeDisk, Vec<Location>, usize) {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        let mut at = Vec::new();
        for i in 0..batches {
            let vote = record(RecordKind::Vote, 3 * i + 2, payload(3 * i + 2, 40));
            let batch = vec![entry(3 * i, 120), entry(3 * i + 1, 33), vote];
            at.extend(journal.append(batch).await.unwrap());
        }
        let end = journal.segments()[0].bytes as usize;
        if seal {
            at.iter().for_each(|l| journal.pin(l.segment, 1));
            journal.seal().await.unwrap();
        }
        disk.kill();
        (disk, at, end)
    })
}

/// All that is not damaged is there; what is missing is covered by damage.
fn check(disk: &FakeDisk, at: &[Location], bad_byte: usize, what: &str) {
    for seed in [2, 3] {
        block_on(async {
            let (journal, recovery) = open(disk, seed).await;
            let mut seen: Vec<u64> = Vec::new();
            for record in &recovery.records {
                let index = record.head.index;
                let octets = match journal.read(record.location).await {
                    Ok(octets) => octets,
                    // The footer vouches for the header alone; the payload is checked here.
                    Err(JournalError::Damaged(damage)) => {
                        let range = damage.offset..damage.offset + damage.len;
                        let header = range.start - 64..range.end;
                        assert!(header.contains(&(bad_byte as u64)), "{what}");
                        continue;
                    }
                    Err(other) => panic!("{what}: {other}"),
                };
                assert_eq!(octets, payload(index, octets.len()), "{what}");
                assert_eq!(record.location, at[index as usize], "{what}");
                seen.push(index);
            }
            assert_eq!(
                recovery.torn_bytes, 0,
                "{what}: acknowledged bytes were cut"
            );
            for (index, location) in at.iter().enumerate() {
                if seen.contains(&(index as u64)) {
                    continue;
                }
                let from = location.offset as usize - 64;
                let to = (location.offset + location.len) as usize;
                assert!((from..to).contains(&bad_byte), "{what}: {index} is missing");
                let reported = recovery.damage.iter().any(|d| {
                    d.offset as usize <= bad_byte && bad_byte < (d.offset + d.len) as usize
                });
                let on_read = journal.read(*location).await;
                assert!(
                    reported || matches!(on_read, Err(JournalError::Damaged(_))),
                    "{what}"
                );
            }
            disk.kill();
        });
    }
}

#[test]
fn every_byte_below_the_last_promise_of_an_unsealed_segment() {
    let (disk, at, _) = filled(4, false);
    // The fourth batch's mark promises that all before it was synced.
    let promised = at[9].offset as usize - 128;
    let mut reported = 0;
    for byte in 4096..promised {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes[byte] ^= 0x10);
        check(&disk, &at, byte, &format!("byte {byte}"));
        reported += block_on(async { open(&disk, 9).await.1.damage.len() });
    }
    // Padding and nothing else may change unnoticed.
    let padding: usize = at[..9].iter().map(|l| (8 - l.len as usize % 8) % 8).sum();
    assert_eq!(reported, promised - 4096 - padding);
}

#[test]
fn every_byte_of_a_sealed_segment() {
    let (disk, at, end) = filled(3, true);
    for byte in 4096..end {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes[byte] ^= 0x10);
        check(&disk, &at, byte, &format!("byte {byte}"));
    }
}

#[test]
fn every_byte_of_header_footer_and_seal() {
    let (disk, at, end) = filled(2, true);
    let len = disk.content(&seg(1)).len();
    let footer = end..len;
    for byte in (0..64).chain(2048..2088).chain(footer) {
        let disk = disk.fork();
        disk.corrupt(&seg(1), |bytes| bytes[byte] ^= 0x10);
        check(&disk, &at, byte, &format!("byte {byte}"));
        block_on(async {
            let (journal, recovery) = open(&disk, 5).await;
            assert_eq!(recovery.records.len(), 6, "byte {byte}: records are whole");
            assert_eq!(journal.records(1).await.unwrap().len(), 6, "byte {byte}");
        });
    }
}

#[test]
fn rot_says_what_the_header_or_the_footer_knows() {
    let (disk, at, _) = filled(4, false);
    disk.corrupt(&seg(1), |bytes| bytes[at[1].offset as usize] ^= 1);
    disk.corrupt(&seg(1), |bytes| bytes[at[3].offset as usize - 30] ^= 1);
    for seed in [2, 3] {
        block_on(async {
            let (journal, recovery) = open(&disk, seed).await;
            let [payload, header] = &recovery.damage[..] else {
                panic!("{:?}", recovery.damage);
            };
            assert_eq!(payload.file, seg(1));
            assert_eq!(payload.cause, Cause::Payload);
            let (head, location) = payload.record.unwrap();
            assert_eq!((head.index, location), (1, at[1]));
            assert_eq!(header.cause, Cause::RecordHeader);
            assert_eq!(header.offset, at[3].offset as u64 - 64);
            assert_eq!(header.len, 64 + 120);
            let seen: Vec<u64> = recovery.records.iter().map(|r| r.head.index).collect();
            assert_eq!(seen, [0, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
            // The one is listed among the records, the other cannot be.
            let survey = journal.survey(1).await.unwrap();
            assert_eq!(survey.records.len(), 11);
            assert_eq!(survey.gaps, std::slice::from_ref(header));
            disk.kill();
        });
    }
}

#[test]
fn a_whole_block_of_rot_is_skipped() {
    let (disk, at, end) = filled(40, true);
    disk.corrupt(&seg(1), |bytes| bytes[8192..12288].fill(0xa5));
    // And the footer with it, so that the records have to be searched.
    disk.corrupt(&seg(1), |bytes| bytes[end] ^= 1);
    block_on(async {
        let (_, recovery) = open(&disk, 2).await;
        let inside = |l: &Location| l.offset < 12288 && l.offset + l.len > 8192 - 64;
        let expected: Vec<u64> = (0..at.len() as u64)
            .filter(|i| !inside(&at[*i as usize]) && at[*i as usize].offset - 64 >= 4096)
            .collect();
        let seen: Vec<u64> = recovery.records.iter().map(|r| r.head.index).collect();
        let missing: Vec<_> = expected.iter().filter(|i| !seen.contains(i)).collect();
        // A header in front of the block may be whole although its payload reaches into it.
        assert!(missing.len() <= 1, "{missing:?}");
        assert!(
            recovery
                .damage
                .iter()
                .any(|d| d.cause == Cause::RecordHeader)
        );
    });
}

#[test]
fn verify_names_the_records_that_fail_although_their_footer_is_whole() {
    let (disk, at, _) = filled(4, true);
    disk.corrupt(&seg(1), |bytes| bytes[at[3].offset as usize] ^= 1);
    disk.corrupt(&seg(1), |bytes| {
        bytes[at[7].offset as usize - 10] ^= 1;
    });
    block_on(async {
        let (journal, recovery) = open(&disk, 2).await;
        assert!(recovery.damage.is_empty(), "a start reads footers alone");
        let entries: Vec<Location> = recovery.records.iter().map(|r| r.location).collect();
        let damaged = journal.verify(&entries).await.unwrap();
        let places: Vec<(u64, Cause)> = damaged.iter().map(|d| (d.offset, d.cause)).collect();
        let expected = [
            (at[3].offset as u64, Cause::Payload),
            (at[7].offset as u64, Cause::RecordHeader),
        ];
        assert_eq!(places, expected);
        let (head, location) = damaged[0].record.unwrap();
        assert_eq!((head.index, location), (3, at[3]));
    });
}

#[test]
fn a_read_that_the_disk_refuses_is_damage_only_when_it_is_refused_again_and_again() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        let at = journal.append(vec![entry(0, 120)]).await.unwrap();
        disk.fail_reads(table::READ_REPEATS);
        assert_eq!(journal.read(at[0]).await.unwrap(), payload(0, 120));
        disk.fail_reads(table::READ_REPEATS + 1);
        match journal.read(at[0]).await {
            Err(JournalError::Damaged(damage)) => assert_eq!(damage.cause, Cause::Unreadable),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_file_that_still_has_the_header_of_its_former_life_has_lost_its_own() {
    block_on(async {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk, 1).await;
        journal.append(vec![entry(0, 120)]).await.unwrap();
        journal.seal().await.unwrap();
        let at = journal.append(vec![entry(1, 120), entry(2, 33)]).await;
        let at = at.unwrap();
        journal.append(vec![entry(3, 10)]).await.unwrap();
        disk.kill();
        assert_eq!(at[0].segment, 2);
        // As if the file had been segment 1 before, and the first write of segment 2 gone astray.
        let birth = at[0].offset as usize - 128;
        let former = disk.content(&seg(1))[..birth].to_vec();
        disk.corrupt(&seg(2), |bytes| bytes[..birth].copy_from_slice(&former));
        for seed in [2, 3] {
            let (journal, recovery) = open(&disk, seed).await;
            assert_eq!(recovery.torn_bytes, 0, "acknowledged bytes were cut");
            let lost = &recovery.damage[0];
            assert_eq!((lost.segment, lost.offset), (2, 0));
            assert_eq!(lost.cause, Cause::SegmentHeader);
            let seen = indexes(&recovery);
            assert!(seen.ends_with(&[1, 2, 3]), "{seen:?}");
            assert_eq!(journal.read(at[0]).await.unwrap(), payload(1, 120));
            disk.kill();
        }
    });
}
