//! The commands, one a file (or two that belong together).

pub mod auth;
pub mod capa;
pub mod dele;
pub mod list;
pub mod login;
pub mod quit;
pub mod retr;
pub mod stls;
pub mod uidl;
