//! What must hold of the history of the clients, whatever the nodes look like inside.
//!
//! All of these judge at the end, when every call has an answer: a call that is under way may have
//! taken effect already, so what a read may have seen is known only later. A violation still
//! carries the moment of the read that shows it. They need no final reading, but see more with one.

use super::Invariant;
use super::acknowledged::Acknowledged;
use super::linear::Linear;
use super::once::Once;
use super::resurrection::Resurrection;
use super::uids::Uids;
use crate::workload::body::Expected;

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    let expected = Expected::default();
    vec![
        Box::new(Acknowledged::new(expected.clone())),
        Box::new(Once::new(expected.clone())),
        Box::new(Uids::new(expected.clone())),
        Box::new(Resurrection::new(expected.clone())),
        Box::new(Linear::new(expected)),
    ]
}
