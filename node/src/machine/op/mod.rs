//! One operation a file.

pub mod append_many;
pub mod copy;
pub mod create_account;
pub mod create_mailbox;
pub mod credentials;
pub mod delete_account;
pub mod delete_mailbox;
pub mod expunge;
pub mod move_messages;
pub mod reap_account;
pub mod reap_mailbox;
pub mod rename_mailbox;
pub mod set_account_state;
pub mod set_flags;
pub mod set_metadata;
pub mod set_special_use;
pub mod store;
pub mod subscribe;
pub mod transfer_in;
pub mod transfer_out;
pub mod upload;
