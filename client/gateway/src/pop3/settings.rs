//! What an operator can set about the POP3 door. Every limit has a default that just works.

use std::time::Duration;

use serde::Deserialize;

/// The settings of one POP3 door.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address that the host of the door binds for it: without TLS at first, with STLS where
    /// there is a certificate (port 110); empty for none.
    pub listen: String,
    /// The address for TLS from the first octet (RFC 8314, port 995); empty for none.
    pub listen_tls: String,
    /// The name in the greeting.
    pub hostname: String,
    /// Messages that one session sees, the oldest of INBOX; those after them are seen once these
    /// have been removed.
    pub messages: usize,
    /// Longest command line, in octets, CRLF included (RFC 2449, section 4, asks for 255; a
    /// password of 1,024 octets needs more).
    pub line_bytes: usize,
    /// Bad commands until the connection is closed.
    pub errors: u32,
    /// Logins that fail until the connection is closed.
    pub failed_logins: u32,
    /// Connections at a time, at each of the two addresses.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_address: usize,
    /// Sessions of one account at a time.
    pub sessions_per_account: usize,
    /// Seconds to wait for a command before the login; a handshake takes as long at most.
    pub login_timeout_s: u64,
    /// Seconds to wait for a command after it (RFC 1939, section 3: at least ten minutes).
    pub idle_timeout_s: u64,
    /// Seconds to wait until a client takes more of an answer.
    pub send_timeout_s: u64,
    /// Seconds until a question to the store is given up.
    pub store_timeout_s: u64,
    /// Seconds that answers under way have when the door closes.
    pub grace_s: u64,
}

/// Most messages of one session: what one removal can name in the worst case, every other one,
/// is half as many ranges of uids, and the store takes 100,000.
const MAX_MESSAGES: usize = 200_000;

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: String::new(),
            listen_tls: String::new(),
            hostname: "posthouse".into(),
            messages: MAX_MESSAGES,
            line_bytes: 4096,
            errors: 20,
            failed_logins: 3,
            connections: 1000,
            connections_per_address: 100,
            sessions_per_account: 20,
            login_timeout_s: 120,
            idle_timeout_s: 600,
            send_timeout_s: 180,
            store_timeout_s: 60,
            grace_s: 10,
        }
    }
}

impl Settings {
    /// Why these settings cannot work, if they cannot.
    pub fn check(&self) -> Result<(), String> {
        let host = &self.hostname;
        let plain = |b: u8| b.is_ascii_graphic() && b != b'<' && b != b'>';
        if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
            // Angle brackets in a greeting would offer APOP (RFC 1939, section 7).
            return Err("hostname: 1 to 255 visible ASCII characters, no angle brackets".into());
        }
        if self.messages > MAX_MESSAGES {
            return Err(format!("messages: at most {MAX_MESSAGES}"));
        }
        for (name, value, least) in [
            ("messages", self.messages as u64, 1),
            ("line_bytes", self.line_bytes as u64, 255),
            ("errors", self.errors.into(), 1),
            ("failed_logins", self.failed_logins.into(), 1),
            ("connections", self.connections as u64, 1),
            (
                "connections_per_address",
                self.connections_per_address as u64,
                1,
            ),
            ("sessions_per_account", self.sessions_per_account as u64, 1),
            ("login_timeout_s", self.login_timeout_s, 1),
            ("idle_timeout_s", self.idle_timeout_s, 600),
            ("send_timeout_s", self.send_timeout_s, 1),
            ("store_timeout_s", self.store_timeout_s, 1),
        ] {
            if value < least {
                return Err(format!("{name}: at least {least}"));
            }
        }
        Ok(())
    }

    pub(crate) fn login_timeout(&self) -> Duration {
        Duration::from_secs(self.login_timeout_s)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    pub(crate) fn send_timeout(&self) -> Duration {
        Duration::from_secs(self.send_timeout_s)
    }

    pub(crate) fn store_timeout(&self) -> Duration {
        Duration::from_secs(self.store_timeout_s)
    }
}
