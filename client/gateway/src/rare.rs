//! Rare situations of the front doors, counted.

pub use posthouse_client::rare::hit;

posthouse_client::rare_situations! {
    /// Rare situations of a front door.
    pub enum Rare {
        MessageBrokeOff = "a client went away in the middle of a message",
        DeliveredBefore = "a message that had been stored before was acknowledged again",
        NoAnswerFromStore = "the store gave no answer in time: the client was told to try again",
        NoSpaceForMail = "the store takes no mail: the client was told to try later",
        StoreBusy = "the store was busy: the client was told to try again",
        KnownAccountGone = "an account that was there at RCPT was gone after the message",
        SentWhileArriving = "a large message was on its way to the store before it was all there",
        ToldGoingDown = "a client was told that the door closes",
    }
}
