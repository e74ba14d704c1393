//! One operation a file.

pub mod create_account;
pub mod create_mailbox;
pub mod store;
pub mod upload;
