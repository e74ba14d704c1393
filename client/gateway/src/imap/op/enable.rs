//! ENABLE (RFC 9051, section 6.3.1; RFC 5161).

use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// ENABLE: what is not known is passed over.
pub(super) fn enable(s: &mut Session, names: &[String]) -> Result<Done, Stop> {
    s.account()?;
    let before = s.enabled;
    let mut line = String::from("* ENABLED");
    for name in names {
        let enabled = &mut s.enabled;
        let newly = match name.as_str() {
            "IMAP4REV2" => !std::mem::replace(&mut enabled.rev2, true),
            "CONDSTORE" => !std::mem::replace(&mut enabled.condstore, true),
            "QRESYNC" => {
                // It includes CONDSTORE (RFC 7162, section 3.2.3).
                enabled.condstore = true;
                !std::mem::replace(&mut enabled.qresync, true)
            }
            "UTF8=ACCEPT" => !std::mem::replace(&mut enabled.utf8, true),
            _ => false,
        };
        if newly {
            line.push(' ');
            line.push_str(if name == "IMAP4REV2" {
                "IMAP4rev2"
            } else {
                name
            });
        }
    }
    s.wire.say(&line);
    if s.enabled.condstore && !before.condstore {
        s.say_modseq();
    }
    Ok(Done::ok("enabled"))
}

impl Session {
    /// The first use of CONDSTORE tells where the mailbox stands (RFC 7162, section 3.1).
    fn say_modseq(&mut self) {
        if let Some(selected) = &self.selected {
            let line = format!(
                "* OK [HIGHESTMODSEQ {}] so far",
                selected.view.opened_modseq.max(1)
            );
            self.wire.say(&line);
        }
    }

    /// A command has used CONDSTORE: from here on, modseqs are told (RFC 7162, section 3.1).
    pub(in crate::imap) fn use_condstore(&mut self) {
        if !std::mem::replace(&mut self.enabled.condstore, true) {
            self.say_modseq();
        }
    }
}
