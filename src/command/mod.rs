//! What the command line does.

mod ask;
mod bench;
mod flows;
mod import;
mod rib;
mod table;
mod token;
mod traffic;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use benocs_runtime::state::State;
use benocs_steward::Authority;
use benocs_store::Store;
use benocs_web::{Accounts, Role};

use crate::cli::{CaArgs, CaCommand, Cli, Command, ConfigArgs, JsonArgs, PasswdArgs, StoreArgs, StoreCommand};
use crate::roles::{Inventory, Usage};
use crate::settings::{self, Settings};
use crate::{compose, control};

pub fn run(cli: Cli) -> anyhow::Result<()> {
    let inventory = Inventory::built_in()?;
    let load = || Settings::load(cli.config.as_deref(), &cli.set);
    let locate = |error| settings::locate(error, cli.config.as_deref(), &cli.set);
    if cli.role.is_none() {
        benocs_sys::end_on_broken_pipe();
    }
    match (&cli.role, cli.command) {
        (Some(role), None) => {
            let roles = inventory.select(role)?;
            compose::run(&inventory, &roles, load()?, &cli.data).map_err(locate)
        }
        (Some(role), Some(Command::Check)) => {
            let roles = inventory.select(role)?;
            check(load()?, |role| roles.contains(&role)).map_err(locate)
        }
        (None, Some(Command::Check)) => check(load()?, |_| true).map_err(locate),
        (Some(_), Some(_)) => {
            Err(Usage("--role runs a machine's part, a command does one thing: give one of them".to_owned()).into())
        }
        (None, None) => Err(Usage("nothing to do: give --role or a command (see benocs --help)".to_owned()).into()),
        (None, Some(Command::Config(arguments))) => config(&arguments, load),
        (None, Some(Command::Roles(arguments))) => roles(&inventory, &arguments),
        (None, Some(Command::Replay(arguments))) => traffic::replay(arguments),
        (None, Some(Command::Import(arguments))) => import::import(&cli.data, &arguments),
        (None, Some(Command::Generate(arguments))) => traffic::generate(arguments),
        (None, Some(Command::Simulate(arguments))) => traffic::simulate(arguments),
        (None, Some(Command::Query(arguments))) => ask::query(&cli.data, &arguments),
        (None, Some(Command::Sql(arguments))) => ask::sql(&cli.data, &arguments),
        (None, Some(Command::Rib(arguments))) => ask::rib(&cli.data, arguments),
        (None, Some(Command::Graph(arguments))) => ask::graph(&cli.data, arguments),
        (None, Some(Command::Status(arguments))) => ask::status(&cli.data, &arguments),
        (None, Some(Command::Flows(arguments))) => flows::run(&cli.data, &arguments),
        (None, Some(Command::Passwd(arguments))) => passwd(&cli.data, &arguments),
        (None, Some(Command::Token(arguments))) => token::run(&cli.data, arguments),
        (None, Some(Command::Store(arguments))) => store(load()?, &cli.data, &arguments),
        (None, Some(Command::Ca(arguments))) => authority(&inventory, &arguments),
        (None, Some(Command::BenchCollector(arguments))) => bench::collector(&cli.data, &arguments),
    }
}

/// Resolves on SIGINT or SIGTERM.
pub(crate) async fn ended_by_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn check(settings: Settings, runs: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    settings.check()?;
    settings.check_files(runs)?;
    println!("the configuration is good");
    Ok(())
}

fn config(arguments: &ConfigArgs, load: impl Fn() -> anyhow::Result<Settings>) -> anyhow::Result<()> {
    if arguments.effective {
        print!("{}", toml::to_string_pretty(&load()?)?);
    } else {
        print!("{}", settings::DEFAULTS);
    }
    Ok(())
}

fn roles(inventory: &Inventory, arguments: &JsonArgs) -> anyhow::Result<()> {
    if arguments.json {
        println!("{}", serde_json::to_string(inventory)?);
        return Ok(());
    }
    let machines = inventory
        .role
        .iter()
        .map(|(name, role)| vec![name.clone(), role.title.clone(), role.networks.join(" "), role.actors.join(" ")]);
    table::print(&["machine", "what it is", "networks", "actors"], &machines.collect::<Vec<_>>());
    println!();
    let networks = inventory.network.iter().map(|(name, network)| {
        vec![name.clone(), network.title.clone(), format!("/{}", network.size), network.purpose.clone()]
    });
    table::print(&["network", "title", "size", "purpose"], &networks.collect::<Vec<_>>());
    println!();
    let flows = inventory.flow.iter().map(|flow| {
        let ports: Vec<String> = flow.ports.iter().map(u16::to_string).collect();
        let when = if flow.temporary {
            "installation"
        } else if flow.extension {
            "extension"
        } else {
            ""
        };
        vec![
            flow.number.clone(),
            flow.name.clone(),
            flow.source.clone(),
            flow.destination.clone(),
            ports.join(","),
            flow.transport.join(","),
            flow.protocol.clone(),
            when.to_owned(),
            flow.encryption.clone(),
        ]
    });
    let heading = ["flow", "name", "source", "destination", "ports", "transport", "protocol", "only", "encryption"];
    table::print(&heading, &flows.collect::<Vec<_>>());
    Ok(())
}

fn authority(inventory: &Inventory, arguments: &CaArgs) -> anyhow::Result<()> {
    match &arguments.command {
        CaCommand::Issue { role, out } => {
            inventory.select(role)?;
            Authority::open(&arguments.ca)?.issue(role)?.write(out, role)?;
            println!("{} and its key are in {}", role, out.display());
            Ok(())
        }
    }
}

/// Refuses where a process runs on the directory: it holds the state.
fn not_running(data: &Path) -> anyhow::Result<()> {
    if control::is_answered(data) {
        bail!("benocs runs on {}: stop it first", data.display());
    }
    Ok(())
}

fn passwd(data: &Path, arguments: &PasswdArgs) -> anyhow::Result<()> {
    not_running(data)?;
    if !data.is_dir() {
        bail!("{} is no directory: give the --data directory of the process", data.display());
    }
    let state = State::open(&compose::state_path(data))?;
    let given = if arguments.stdin {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("cannot read the password")?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    } else {
        None
    };
    let accounts = Accounts::open(&state)?;
    let password = given.clone().unwrap_or_else(benocs_web::random_password);
    let now_ms = crate::when::now_ms();
    if accounts.users().iter().any(|user| user.name == arguments.user) {
        accounts.set_password(&arguments.user, &password, None, now_ms)?;
    } else {
        accounts.create_user(&arguments.user, &password, Role::Administrator, now_ms)?;
    }
    state.flush()?;
    if given.is_none() {
        println!("{password}");
    }
    std::io::stdout().flush()?;
    Ok(())
}

fn store(settings: Settings, data: &Path, arguments: &StoreArgs) -> anyhow::Result<()> {
    not_running(data)?;
    match arguments.command {
        StoreCommand::Verify => {
            let state = State::open(&compose::state_path(data))?;
            let store = Store::open(&compose::store_path(data), settings.store, &state, Arc::default())?;
            let faults = store.verify();
            for fault in &faults {
                eprintln!("{}: {}", fault.path.display(), fault.reason);
            }
            let files = store.snapshot().files.len();
            if !faults.is_empty() {
                bail!("{} of {files} files are not as the manifest says", faults.len());
            }
            println!("{files} files are as the manifest says");
            Ok(())
        }
    }
}
