//! The client library, seen as the IMAP door's [`Store`].
