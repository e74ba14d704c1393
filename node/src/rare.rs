//! Rare situations of the node, counted; with those of the client library and of the doors, which
//! the node hosts.
//!
//! A mark stands exactly where the situation is certain, and changes nothing.

pub use posthouse_client::rare::{Mark, hit, of_thread, take_thread};

/// Every rare situation of this process: name, meaning, and how often it was met.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str, u64)> {
    let doors = posthouse_gateway::rare::Rare::marks();
    let client = posthouse_client::rare::Rare::marks();
    let marks = Rare::marks().iter().chain(doors).chain(client);
    marks.map(|mark| (mark.name(), mark.text(), mark.count()))
}

posthouse_client::rare_situations! {
    /// Rare situations of the node.
    pub enum Rare {
        // journal: opening
        TornTailCut = "a torn tail of the journal was cut off",
        FooterMadeAnew = "a segment without a readable footer was read whole and sealed again",
        FooterUnreadable = "the footer of a sealed segment failed its check",
        SealLost = "a segment that has a successor had no valid seal",
        SegmentHeaderLost = "the header of a segment failed its check",
        SegmentLost = "nothing in a segment could be read",
        SyncedOctetsDamaged = "octets that had been synced failed their check at the start",
        DamageRemembered = "damage that an earlier start had found was in a footer",
        RotInSmallRecord = "a vote, a mark or a checkpoint that a footer lists failed its check",
        PadSkipped = "a pad was passed over while a segment was read whole",
        BirthUnfinished = "a segment that was never born completely was removed",
        // journal: writing
        JournalPoisoned = "a write or sync of the journal failed, and the node stops",
        JournalWaitsForSpace = "the disk was full, and the journal waits for space",
        ClosedWhileFull = "the journal was closed while it waited for space",
        PadBeforePageEnd = "a batch was padded up to the end of its page",
        SegmentRecycled = "a segment was born into a freed one's file",
        SegmentExtended = "a batch larger than a segment made its segment larger",
        // journal: reading
        DamagedRead = "a read of the journal met octets that fail their check",
        UnreadableSector = "the medium gave up a sector of the journal",
        // index
        IndexBegunAnew = "an index that failed its checks was given up for a new one",
        IndexMarkerFound = "the last life of the node had marked its index as damaged",
        IndexFailedCheck = "a row of the index failed its check while the node ran",
        IndexBehindJournal = "entries were applied again, because the index was behind the log",
        // raft: logs and their recovery
        ConflictTruncated = "entries were truncated, because the leader has others",
        LogPurged = "the head of a log was purged",
        LogBegunAnew = "a log began anew behind a snapshot",
        EntryReadFromDisk = "an entry that memory had let go of was read from the journal",
        EntryUnreadable = "an entry of the log was found to be unreadable",
        UnreadableForFollower = "a follower that lags could not be given an unreadable entry",
        VoteNewerThanLog = "a replica came back with a vote newer than its last entry",
        AppliedEntryLost = "an entry that is applied was lost: the log is purged up to there",
        EntryLost = "an entry that may have been acknowledged was lost",
        VoteLost = "a vote may have been lost",
        AnyonesRecordLost = "octets were lost that may have been any replica's record",
        UnappliedEntryRotten = "an entry that the index does not hold had rotted at the start",
        ReplicaLost = "a replica lost acknowledged data: it votes no more",
        PromiseForgotten = "a replica held less than it had promised to a peer: an old image",
        ReplicaDisowned = "a replica that runs was ended, because it had forgotten a promise",
        ReplicaGivenUp = "a replica that runs was ended, because an unapplied entry is unreadable",
        OrphanReplica = "the journal knows a replica that the index does not",
        // raft: groups
        SpaceDropped = "rows that no shard points to were removed at the start",
        SnapshotBegun = "a snapshot was on its way to a replica that lacks the head of the log",
        SnapshotReceived = "a snapshot was received and installed",
        SnapshotStale = "a snapshot that came too late was dropped",
        SnapshotRefused = "a snapshot was refused, because one is on its way",
        SnapshotBrokeOff = "a snapshot broke off on its way",
        SnapshotChunkReused = "octets of a snapshot were here already",
        SnapshotChunkFetched = "octets of a snapshot were fetched",
        SnapshotChunkMissing = "the sender of a snapshot lacked octets, too",
        TransferTimedOut = "a successor did not take a shard over in time",
        ElectedItself = "a leader whose successor did not come stood for election itself",
        // shard
        NotLeader = "a call came to a replica that does not lead",
        LeadershipLost = "a leader was none any more when it had a proposal",
        WindowFull = "the byte window of a shard was full: the caller was told to come back",
        ReadOnly = "a command was refused, because the disk is nearly full",
        OutcomeUnknown = "a proposal was not answered in time: its outcome is unknown",
        ReadRefused = "a leader was none any more when it had to confirm a read",
        ReadWithoutQuorum = "a leader that no quorum follows could not confirm a read",
        ReadTimedOut = "a read was not confirmed in time",
        StalePlacement = "a call came to a node that does not know its shard",
        // machine and mailbox
        RequestReplayed = "a repeated request got its first answer",
        TargetReplayed = "a repeated delivery or append got its first answer",
        RequestForgotten = "a remembered request was past the window of time",
        ChangeForgotten = "a change of an account was past the window of time",
        ConditionKeptMessage = "a message changed since and kept its flags",
        AccountGoneAtStore = "a message came for an account that does not exist",
        ReplacedIsGone = "a message was to replace one that is not there any more",
        TransferRefused = "a transfer to another account ended, and nothing came of it",
        ArrivalRepeated = "a repeated arrival from another account got its first answer",
        ArrivalTooLate = "messages of another account came by a transfer that is over",
        ExpungedUnderTransfer = "a message was expunged while it went to another account",
        TransferTakenUp = "a transfer to another account was found unfinished and carried on",
        AccountReaped = "the last rows of a deleted account were removed",
        MailboxReaped = "the last rows of a deleted mailbox were removed",
        BlobShared = "octets that the shard has already were stored once more by reference",
        UploadDropped = "the chunks of a message that will not be stored were dropped",
        UploadBrokeOff = "a large message broke off after its first chunk",
        ShardFellOut = "one shard of a delivery failed while the message arrived",
        ExpungedUnderRead = "a message was expunged while it was read",
        SummaryTooShort = "a message was scanned once more for a part that its summary leaves out",
        ViewRenewed = "a long fetch went on with a newer view of the rows",
        RowsFromMemory = "the rows of a mailbox were at hand in memory",
        AnswerRecalled = "a search knew from an earlier one what a message would have been read for",
        RowsPatched = "rows at hand in memory were brought up to date by what has changed since",
        DeliveredInPart = "a delivery was stored for some of its recipients",
        // blobs
        ChunkRepaired = "damaged octets were fetched from another replica and stored again",
        ChunkPassedOn = "octets were served from another replica without a place here",
        ChunkDamagedEverywhere = "no replica that answers has good octets",
        ChunkMovedUnderRead = "octets had moved on from where a reader looked for them",
        DamagedForPeer = "a peer asked for octets that are damaged here, too",
        LocationChanged = "a location had changed before it could be moved",
        // workers
        CompactionMoved = "octets were moved out of a nearly empty segment",
        CompactionSkipped = "octets could not be moved, because they are damaged",
        CompactionHeld = "compaction waited for a snapshot on its way",
        SegmentFreed = "a segment was freed",
        ScrubWaitsForPeer = "a scrub found damaged octets, and nobody to give good ones yet",
        ScrubRepaired = "a scrub repaired damaged octets",
        ScrubFoundDeadDamage = "a scrub found damage in what nobody needs",
        LeaderMoved = "a leader handed its shard over to the node that should lead it",
        DiskNearlyFull = "the disk came under its reserve",
        DiskFull = "the disk was full",
        DiskHasRoom = "a disk that was nearly full has room again",
        LearnerAdded = "a replica began to learn",
        LearnerPromoted = "a learner that caught up became a voter",
        MemberLeft = "a former replica left its shard",
        JointFinished = "a joint membership was found and finished",
        MembersWait = "a change of members waited for a quorum in vain",
        PlacementBehindMembers = "a leader waited, because its placement did not know a member yet",
        LossReported = "a lost replica was reported to the system shard",
        ReplicaReplaced = "a new replica took the place of a lost one",
        PlacementFromPeer = "a node without the system shard asked another for the placement",
        // transport
        ControlBroke = "the control stream broke with calls waiting on it",
        ControlSilent = "a control message was not answered in time",
        ControlNotOpened = "no control stream could be opened to a node",
        StrangerAnswered = "something else answered at the address of a node",
        CallForAnother = "a call was refused: it was meant for another node or cluster",
        ReplicaNotHere = "a call was meant for a replica that is not here",
        AppendSilent = "an append request was not answered in time",
        AppendNotOpened = "an append stream did not open in time",
        AppendRefused = "entries were refused, because the disk is full",
        // watching and logging in
        WatcherBehind = "an account changed again before its watcher was told of the last time",
        WatcherReadsAnew = "a watcher was told to read anew, because the changes are too many or gone",
        WatchLostLeader = "a stream of changes ended, because the node leads no more",
        WatchWithoutQuorum = "a stream of changes ended, because no quorum confirmed its leader",
        WatchInterrupted = "a stream of changes ended, because a snapshot took the place of rows",
        LoginNotLookedAt = "a login was not looked at after too many wrong passwords",
        // start
        CopyRefused = "a node did not start: it runs already, elsewhere",
        GoneRefused = "a node did not start: its journal and index are gone",
        JoinRepeated = "a join was not answered and sent again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_over_all_crates_and_say_what_they_mean() {
        let names: BTreeSet<&str> = all().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), all().count());
        assert!(names.len() >= 60);
        for (name, text, _) in all() {
            assert!(!text.is_empty() && text.len() < 100, "{name}: {text}");
            assert!(!text.ends_with('.'), "{name}: {text}");
        }
    }
}
