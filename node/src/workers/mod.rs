//! Paced background loops.
pub mod space;
