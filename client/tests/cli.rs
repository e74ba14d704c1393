//! The command line as a process, against a pretended cluster: what it prints, what it returns.

#![allow(clippy::disallowed_methods)]

mod fake;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use fake::FakeCluster;
use serde_json::Value;

struct Cli {
    addr: String,
}

impl Cli {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
        command.args(args).env("POSTHOUSE_ADDR", &self.addr);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["-o", "json"]);
        let output = self.run(&args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn code(&self, args: &[&str]) -> i32 {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() || !stderr.is_empty(), "{args:?}");
        output.status.code().unwrap()
    }
}

async fn start() -> (FakeCluster, Cli) {
    let cluster = FakeCluster::start().await;
    let addr = format!("{},{}", cluster.addr(2), cluster.addr(3));
    (cluster, Cli { addr })
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_in_and_comes_back() {
    let (cluster, cli) = start().await;
    let a = cluster.account_of(1, "a").to_string();
    let b = cluster.account_of(2, "b").to_string();
    let dir = std::env::temp_dir().join(format!("posthouse-cli-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (one, two, back) = (path("1.eml"), path("2.eml"), path("back.eml"));
    std::fs::write(&one, b"Subject: one\r\n\r\nfirst\r\n").unwrap();
    let large: Vec<u8> = (0..1_500_000u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&two, &large).unwrap();

    let to = format!("{a},{b}");
    let answer = cli.json(&["mail", "deliver", "--to", &to, &one, &two]);
    let deliveries = answer["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 2);
    assert_eq!(deliveries[1]["size"], 1_500_000);
    assert_eq!(deliveries[1]["results"][1]["account"], b.as_str());

    let found = [1, 2].into_iter().find(|uid| {
        let answer = cli.run(&["mail", "fetch", &b, &uid.to_string(), "-o", &back]);
        assert!(answer.status.success(), "{answer:?}");
        std::fs::read(&back).unwrap() == large
    });
    assert!(found.is_some());

    let mut child = cli
        .command(&["mail", "append", &a, "--flag", "\\Seen"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&large).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let fetched = cli.run(&["mail", "fetch", &a, "3"]);
    assert!(fetched.stdout == large);

    let listed = cli.json(&["mail", "list", &a]);
    assert_eq!(listed["messages"].as_array().unwrap().len(), 3);
    let text = cli.run(&["mail", "list", &a, "--no-summary"]);
    assert_eq!(String::from_utf8(text.stdout).unwrap().lines().count(), 5);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_mean_what_the_help_says() {
    let (mut cluster, cli) = start().await;
    let a = cluster.account_of(1, "a").to_string();
    assert_eq!(cli.code(&["account", "get", &a]), 0);
    assert_eq!(cli.code(&["account", "get", "nobody@example.org"]), 3);
    assert_eq!(cli.code(&["mail", "fetch", &a, "7"]), 3);
    assert_eq!(cli.code(&["mail", "fetch", &a]), 2);
    assert_eq!(cli.code(&["account", "get", "a\nb"]), 2);
    assert_eq!(cli.code(&["account", "list", "-o", "somewhere"]), 2);
    assert_eq!(cli.code(&["account", "delete", &a]), 2);
    assert_eq!(cli.code(&["account", "get", &a, "--cluster", "other"]), 6);
    assert_eq!(
        cli.code(&["mail", "deliver", "--to", "nobody@x", "/no/file"]),
        1
    );
    assert_eq!(
        cli.code(&["mail", "deliver", "--to", "nobody@x", "/proc/self/stat"]),
        3
    );
    // The pretended nodes do not do this.
    assert_eq!(cli.code(&["account", "usage", &a]), 5);
    cluster.world.lock().busy = u32::MAX;
    assert_eq!(cli.code(&["account", "get", &a, "--timeout", "1"]), 4);
    cluster.kill(2);
    cluster.kill(3);
    assert_eq!(cli.code(&["cluster", "status"]), 4);
    assert_eq!(cli.code(&["account", "get", &a, "--timeout", "1"]), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn benches_print_what_they_measured() {
    let (_cluster, cli) = start().await;
    let line = "bench deliver --size 1K,300K --clients 1,4 --messages 20 --accounts 5 --pids none";
    let args: Vec<&str> = line.split(' ').collect();
    let result = cli.json(&args);
    let cells = result["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    for cell in cells {
        assert_eq!(cell["messages"], 20);
        assert_eq!(cell["errors"], 0);
        assert!(cell["messages_per_second"].as_f64().unwrap() > 0.0);
        assert!(cell["p99_ms"].as_f64() >= cell["p50_ms"].as_f64());
    }
    assert!(result["workload"].as_str().unwrap().contains("--seed 1"));
    let table = cli.run(&args);
    assert!(table.status.success());
    assert!(
        String::from_utf8(table.stdout)
            .unwrap()
            .contains("Messages/s")
    );
}

#[test]
fn completions_come_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_posthouse"))
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains("deliver")
        );
    }
}
