//! The commands, one a file.

pub mod bdat;
pub mod data;
pub mod lhlo;
pub mod mail;
pub mod rcpt;
pub mod simple;
