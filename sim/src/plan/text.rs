//! Plans as TOML (version 1.0), for people to read, edit and keep.
//!
//! Operations and faults stand one a line, with when, who and what in front, so that a line can be
//! taken out, moved or copied. Numbers above what TOML can hold (2^63) are written as text.

use std::fmt::Write;
use std::path::Path;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::check::PlanError;
use super::{Fault, Op, Plan, VERSION};
use crate::version::version;

/// Keys that come first on a line.
const FIRST: [&str; 7] = ["at_ms", "client", "account", "op", "fault", "node", "point"];

impl Plan {
    /// The plan as TOML, which [`Plan::parse`] reads.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# A plan of posthouse-sim {}. Run it with: posthouse-sim replay FILE\n\
             # Times are ms since the cluster serves. Nodes, zones, accounts and clients count from \
             0,\n# mailbox 0 is INBOX.\n\n",
            version()
        );
        let mut table = table_of(self);
        let lists = ["nodes", "ops", "faults"].map(|k| (k, table.remove(k)));
        // In the order of the fields: what a person looks for first comes first.
        for key in [
            "version",
            "seed",
            "title",
            "transport",
            "shards",
            "replication",
            "accounts",
            "clients",
            "duration_ms",
            "budget",
        ] {
            if let Some(value) = table.remove(key) {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        for (key, list) in lists {
            let Some(Value::Array(list)) = list else {
                continue;
            };
            if list.is_empty() {
                let _ = writeln!(text, "{key} = []");
                continue;
            }
            let _ = writeln!(text, "{key} = [");
            for value in list {
                let _ = writeln!(text, "  {},", line(&value));
            }
            text.push_str("]\n");
        }
        for (key, value) in table {
            let Value::Table(table) = value else {
                let _ = writeln!(text, "{key} = {value}");
                continue;
            };
            let _ = writeln!(text, "\n[{key}]");
            for (key, value) in table {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }

    /// A plan from TOML text, checked; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Plan, PlanError> {
        let path = path.display().to_string();
        let bad = |cause: String| PlanError::Text {
            path: path.clone(),
            cause: cause.trim_end().to_owned(),
        };
        let table: Table = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        match table.get("version") {
            Some(Value::Integer(n)) if *n == i64::from(VERSION) => {}
            found => {
                let found = found.map_or("(none given)".into(), Value::to_string);
                return Err(PlanError::Version { path, found });
            }
        }
        items::<Op>(&table, "ops").map_err(bad)?;
        items::<Fault>(&table, "faults").map_err(bad)?;
        let plan: Plan = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        unknown(&path, "plan", &table, &table_of(&plan))?;
        plan.check()?;
        Ok(plan)
    }
}

fn table_of(plan: &Plan) -> Table {
    // Nothing of a plan is outside TOML: numbers above 2^63 are text, maps have names as keys.
    Table::try_from(plan).unwrap_or_default()
}

/// One element of a list on one line.
fn line(value: &Value) -> String {
    let Value::Table(table) = value else {
        return value.to_string();
    };
    let first = FIRST.iter().filter_map(|k| table.get_key_value(*k));
    let rest = table.iter().filter(|(k, _)| !FIRST.contains(&k.as_str()));
    let pairs: Vec<String> = first
        .chain(rest)
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// Reads the elements of a list one by one, so that an error can name the one.
fn items<'a, T: Deserialize<'a>>(table: &Table, list: &str) -> Result<(), String> {
    let Some(Value::Array(found)) = table.get(list) else {
        return Ok(());
    };
    for (i, item) in found.iter().enumerate() {
        if let Err(e) = T::deserialize(item.clone()) {
            let message = e.message();
            return Err(format!("{list}[{i}] {}: {message}", line(item)));
        }
    }
    Ok(())
}

/// Finds keys that were read but mean nothing: a typing error in an edited plan must not silently
/// become another plan.
fn unknown(path: &str, place: &str, read: &Table, meant: &Table) -> Result<(), PlanError> {
    for (key, value) in read {
        match (value, meant.get(key)) {
            (_, None) => {
                let known: Vec<&str> = meant.keys().map(String::as_str).collect();
                return Err(PlanError::Unknown {
                    path: path.into(),
                    place: place.into(),
                    key: key.clone(),
                    known: known.join(", "),
                });
            }
            (Value::Table(read), Some(Value::Table(meant))) => unknown(path, key, read, meant)?,
            (Value::Array(read), Some(Value::Array(meant))) => {
                for (i, (read, meant)) in read.iter().zip(meant).enumerate() {
                    if let (Value::Table(read), Value::Table(meant)) = (read, meant) {
                        unknown(
                            path,
                            &format!("{key}[{i}] {}", line(&meant.clone().into())),
                            read,
                            meant,
                        )?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a number that may be too large for TOML.
pub(super) fn write_large<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
    match i64::try_from(*value) {
        Ok(value) => value.serialize(to),
        Err(_) => value.to_string().serialize(to),
    }
}

/// Reads it.
pub(super) fn read_large<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(from)? {
        Either::Number(n) => Ok(n),
        Either::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::generate::{Choice, generate};

    fn parse(text: &str) -> Result<Plan, PlanError> {
        Plan::parse(text, Path::new("x.toml"))
    }

    #[test]
    fn plans_survive_being_written_and_read() {
        for i in 0..200u64 {
            let seed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let plan = generate(seed, &Choice::default());
            let text = plan.to_toml();
            assert_eq!(parse(&text).unwrap(), plan, "seed {seed}\n{text}");
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
        }
    }

    #[test]
    fn events_stand_one_a_line() {
        let plan = generate(11, &Choice::default());
        let text = plan.to_toml();
        let lines = |start: &str| text.lines().filter(|l| l.starts_with(start)).count();
        assert_eq!(lines("  { at_ms = "), plan.ops.len() + plan.faults.len());
        assert!(text.contains("\n[network]\n") && text.contains("op = \"create_account\""));
    }

    #[test]
    fn errors_say_where_and_what() {
        let text = generate(11, &Choice::default()).to_toml();
        let said = |text: &str| parse(text).unwrap_err().to_string();
        assert!(said("what").contains("x.toml"));
        assert!(said("seed = 1").contains("posthouse-sim plan SEED"));
        let old = text.replacen("version = 1", "version = 7", 1);
        assert!(said(&old).contains("version 7"));
        let typed = text.replacen("[network]\n", "[network]\ndelay = 3\n", 1);
        assert!(said(&typed).contains("delay"), "{}", said(&typed));
        let first = text.find("{ at_ms = 0, client").unwrap();
        let (before, after) = text.split_at(first);
        let typed = format!("{before}{{ cut_at = 3,{}", &after[1..]);
        let message = said(&typed);
        assert!(
            message.contains("ops[0]") && message.contains("`cut_at` means nothing"),
            "{message}"
        );
        let typed = format!("{before}{}", after.replacen("client = ", "clients = ", 1));
        let message = said(&typed);
        assert!(
            message.contains("ops[0]") && message.contains("missing field `client`"),
            "{message}"
        );
        let wrong = text.replacen("shards = ", "shards = -", 1);
        assert!(said(&wrong).contains("x.toml"));
    }
}
