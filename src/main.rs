//! `benocs`: one executable whose role is chosen at start.

mod cli;
mod command;
mod compose;
mod control;
mod remote;
mod roles;
mod settings;
mod when;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

/// Exit status for a wrong configuration (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIGURATION: u8 = 78;
/// Exit status for a wrong command line, as clap uses it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprintln!("benocs: {} (see benocs --help)", one_line(&error.to_string()));
            return ExitCode::from(EXIT_USAGE);
        }
        // Help and version.
        Err(error) => error.exit(),
    };
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

/// What clap says of a wrong command line, without its drawing: the next line is the reader's prompt.
fn one_line(rendered: &str) -> String {
    let told = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let ends = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|end| told.find(end));
    let told = &told[..ends.min().unwrap_or(told.len())];
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{cli, one_line};

    #[test]
    fn wrong_usage_is_said_in_one_line_with_what_is_wrong() {
        for (arguments, words) in [
            (&["benocs", "--no-such-flag"][..], &["--no-such-flag"][..]),
            (&["benocs", "replay", "x.pcap"], &["--to <HOST:PORT>"]),
            (&["benocs", "query", "--limit", "many"], &["many", "--limit <LIMIT>", "invalid digit"]),
            (&["benocs", "simulate", "--scale", "huge"], &["huge", "small, medium, large"]),
            (&["benocs", "quer"], &["quer", "'query'"]),
        ] {
            let line = one_line(&cli::Cli::try_parse_from(arguments).unwrap_err().to_string());
            assert!(!line.contains('\n') && !line.contains("Usage") && !line.contains("--help"), "{line}");
            for word in words {
                assert!(line.contains(word), "{line}");
            }
        }
    }
}
