//! `posthouse-sim`: see [`posthouse_sim::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    posthouse_sim::cli::main(posthouse_sim::run::execute)
}
