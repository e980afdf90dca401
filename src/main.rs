//! `benocs`: one executable whose role is chosen at start.

mod cli;
mod command;
mod compose;
mod control;
mod roles;
mod settings;
mod when;

use std::process::ExitCode;

use clap::Parser as _;

/// Exit status for a wrong configuration (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIGURATION: u8 = 78;
/// Exit status for a wrong command line, as clap uses it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what failed, on what, what to do.
            eprintln!("benocs: {}", format!("{error:#}").replace('\n', " "));
            if error.downcast_ref::<settings::Wrong>().is_some() {
                ExitCode::from(EXIT_CONFIGURATION)
            } else if error.downcast_ref::<roles::Usage>().is_some() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
