//! One operation a file.

pub mod create_account;
pub mod create_mailbox;
pub mod delete_account;
pub mod expunge;
pub mod reap_account;
pub mod set_flags;
pub mod store;
pub mod upload;
