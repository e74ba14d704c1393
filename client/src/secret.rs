//! How messages with passwords show themselves to people: without them.

use std::fmt;

use crate::proto::{AddAppPasswordResponse, AuthenticateRequest, SetPasswordRequest};

/// Stands for a password.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl fmt::Debug for SetPasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetPasswordRequest")
            .field("request_id", &self.request_id)
            .field("account", &self.account)
            .field("password", &Hidden)
            .finish()
    }
}

impl fmt::Debug for AddAppPasswordResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddAppPasswordResponse")
            .field("password", &Hidden)
            .field("app_password", &self.app_password)
            .field("modseq", &self.modseq)
            .finish()
    }
}

impl fmt::Debug for AuthenticateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateRequest")
            .field("account", &self.account)
            .field("password", &Hidden)
            .field("peer", &self.peer)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        let password = || "hunter2!".to_owned();
        let texts = [
            format!(
                "{:?}",
                SetPasswordRequest {
                    password: password(),
                    ..SetPasswordRequest::default()
                }
            ),
            format!(
                "{:?}",
                AddAppPasswordResponse {
                    password: password(),
                    ..AddAppPasswordResponse::default()
                }
            ),
            format!(
                "{:?}",
                AuthenticateRequest {
                    password: password(),
                    ..AuthenticateRequest::default()
                }
            ),
        ];
        for text in texts {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
