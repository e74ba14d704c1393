//! Arguments that every command takes: where the cluster is, and how output looks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use posthouse_client::{Client, Error, Settings};

use crate::exit::{Failure, usage};

/// Where a node of this machine listens when nobody has told it otherwise, and where the second
/// and third of a small cluster do.
const DEFAULT_ADDRS: [&str; 3] = ["127.0.0.1:6600", "127.0.0.1:6601", "127.0.0.1:6602"];

/// How often nodes are asked whether they are there, and the pause between.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(150);

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

    /// A client of the cluster, and the address to use for what concerns one node. A person is
    /// not made to wait when nobody is there.
    pub async fn client(&self) -> Result<(Client, String), Failure> {
        let mut silence = None;
        for _ in 0..ATTEMPTS {
            for addrs in self.choices() {
                let client = self.client_of(&addrs)?;
                match client.refresh_placement().await {
                    Err(error @ (Error::Transport { .. } | Error::Deadline { .. })) => {
                        silence = Some(error);
                    }
                    // An error is an answer too; the command will meet it again.
                    Ok(_) | Err(_) => return Ok((client, addrs[0].clone())),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(match silence {
            Some(error) if !self.args.addr.is_empty() => error.into(),
            _ => Failure::Other(4, nobody()),
        })
    }

    /// The given addresses together, or the default ones one by one: another cluster of the same
    /// machine must not be mixed in.
    fn choices(&self) -> Vec<Vec<String>> {
        match self.args.addr.is_empty() {
            false => vec![self.args.addr.clone()],
            true => DEFAULT_ADDRS.map(|a| vec![a.to_owned()]).into(),
        }
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
}

fn nobody() -> String {
    format!(
        "no node answers on {}; start one with: posthoused --data DIR, or name one with --addr or \
         POSTHOUSE_ADDR",
        DEFAULT_ADDRS.join(", ")
    )
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
