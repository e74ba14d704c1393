//! Arguments that every command takes: where the cluster is, and how output looks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use posthouse_client::{Client, Error, Settings, Target};

use crate::exit::{Failure, usage};

/// Where a node of this machine listens when nobody has told it otherwise, and where the second
/// and third of a small cluster do.
const DEFAULT_ADDRS: [&str; 3] = ["127.0.0.1:6600", "127.0.0.1:6601", "127.0.0.1:6602"];

/// Time for a node of this machine to show that it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Arguments of every command.
#[derive(Args, Clone)]
pub struct GlobalArgs {
    /// Addresses of nodes, separated by commas; one that answers is enough [default:
    /// 127.0.0.1:6600, then :6601 and :6602]
    #[arg(
        long,
        global = true,
        env = "POSTHOUSE_ADDR",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    addr: Vec<String>,
    /// The cluster id that is expected
    #[arg(long, global = true, value_name = "ID")]
    cluster: Option<String>,
    /// Longest time for one call, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// table (for people) or json (for programs); in `mail fetch` also a file to write
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    output: String,
}

/// How output looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// Octets into a file; `mail fetch` alone.
    File(PathBuf),
}

/// What a command works with.
pub struct Context {
    args: GlobalArgs,
    /// How output looks.
    pub output: Output,
}

impl Context {
    /// The context of these arguments.
    pub fn new(args: GlobalArgs) -> Result<Context, Failure> {
        let output = match args.output.as_str() {
            "table" => Output::Table,
            "json" => Output::Json,
            "" => return Err(usage("-o needs a format: table or json")),
            file => Output::File(file.into()),
        };
        if args.timeout == 0 {
            return Err(usage("--timeout must be at least one second"));
        }
        Ok(Context { args, output })
    }

    /// True for JSON; refuses a file name where no octets are written.
    pub fn json(&self) -> Result<bool, Failure> {
        match &self.output {
            Output::Table => Ok(false),
            Output::Json => Ok(true),
            Output::File(name) => {
                let name = name.display();
                Err(usage(format!("-o {name}: the formats are table and json")))
            }
        }
    }

    /// Longest time for one call.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.args.timeout)
    }

    /// A client of the cluster, and the address to use for what concerns one node.
    pub async fn client(&self) -> Result<(Client, String), Failure> {
        let addrs = self.addrs().await?;
        Ok((self.client_of(&addrs)?, addrs[0].clone()))
    }

    /// A client that starts from these addresses.
    pub fn client_of(&self, addrs: &[String]) -> Result<Client, Failure> {
        let settings = Settings {
            deadline: self.timeout(),
            cluster_id: self.args.cluster.clone(),
            ..Settings::default()
        };
        Ok(Client::new(addrs, settings)?)
    }

    /// The given addresses, or the first default one that answers: another cluster of the same
    /// machine must not be mixed in.
    async fn addrs(&self) -> Result<Vec<String>, Failure> {
        if !self.args.addr.is_empty() {
            return Ok(self.args.addr.clone());
        }
        for addr in DEFAULT_ADDRS {
            let probe = Client::new(&[addr], Settings::default())?;
            let target = Target::Addr(addr.to_owned());
            let answer = probe.with_deadline(PROBE_TIMEOUT).status(&target).await;
            match answer {
                Err(Error::Transport { .. } | Error::Deadline { .. }) => {}
                // An error is an answer too.
                Ok(_) | Err(_) => return Ok(vec![addr.to_owned()]),
            }
        }
        Err(Failure::Other(
            4,
            format!(
                "no node answers on {}; start one with: posthoused --data DIR, or name one with \
                 --addr or POSTHOUSE_ADDR",
                DEFAULT_ADDRS.join(", ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(output: &str) -> Result<Context, Failure> {
        Context::new(GlobalArgs {
            addr: Vec::new(),
            cluster: None,
            timeout: 1,
            output: output.into(),
        })
    }

    #[test]
    fn a_file_is_an_output_for_octets_alone() {
        assert!(context("json").unwrap().json().unwrap());
        assert!(!context("table").unwrap().json().unwrap());
        let file = context("mail.eml").unwrap();
        assert_eq!(file.output, Output::File("mail.eml".into()));
        assert!(file.json().is_err());
        assert!(context("").is_err());
    }
}
