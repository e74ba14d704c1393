//! stub
/// Space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceState { /// ok
 Ok, /// ro
 ReadOnly, /// full
 Full }
