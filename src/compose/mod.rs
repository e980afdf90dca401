//! Composition: which actors the chosen roles have, joined; started downstream
//! first, drained upstream first.

mod board;
mod hub;
mod links;
mod stages;
mod status;

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use benocs_runtime::admin::{self, Ready};
use benocs_runtime::state::State;
use benocs_runtime::{Fatal, fatal_channel};
use tracing_subscriber::EnvFilter;

use crate::control;
use crate::roles::{Inventory, Usage};
use crate::settings::{Settings, addresses};
use board::Board;
use stages::{Base, Site};

/// Small state of the process (sled).
pub fn state_path(data: &Path) -> PathBuf {
    data.join("state")
}

/// Data files and their manifest.
pub fn store_path(data: &Path) -> PathBuf {
    data.join("store")
}

/// Name and one-time password of the first administrator, until it is deleted.
const FIRST_LOGIN: &str = "first-login";

/// Runs the roles until SIGTERM or SIGINT, then drains.
pub fn run(inventory: &Inventory, roles: &[&str], mut settings: Settings, data: &Path) -> anyhow::Result<()> {
    settings.check()?;
    settings.check_files(|role| roles.contains(&role))?;
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let name = if roles.len() == inventory.role.len() { crate::roles::ALL.to_owned() } else { roles.join(",") };
    start_logging(&settings.log.level)?;
    unprivileged_ports(&mut settings);
    std::fs::create_dir_all(data).map_err(|error| {
        anyhow::Error::new(Usage(format!("cannot make {}: {error}: choose another --data directory", data.display())))
    })?;
    std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
    let recorder = admin::install_recorder(env!("CARGO_PKG_VERSION"), &name)?;
    let ready = Ready::default();
    admin::serve(&addresses("admin.listen", &settings.admin.listen)?, recorder.clone(), ready.clone())?;
    let state = State::open(&state_path(data))?;
    let node = roles.first().and_then(|first| inventory.role.get(first)).map_or(0, |role| role.node);

    benocs_runtime::block_on(async move {
        let (fatal, mut failures) = fatal_channel();
        let board = Board::new(&name, recorder);
        let base = Base { roles: &roles, settings: &settings, data, node, state: &state, board: &board, fatal };
        let site = tokio::select! {
            site = Site::start(base) => site?,
            // Not yet running: a machine that waits for another one.
            ended = crate::command::ended_by_signal() => return ended,
        };
        control::serve(data, site.answers())?;
        if let Some(password) = site.first_password() {
            write_first_login(data, password)?;
        }
        ready.set(true);
        tracing::info!(role = %name, data = %data.display(), version = env!("CARGO_PKG_VERSION"), "ready");

        let failure = tokio::select! {
            failure = failures.recv() => failure,
            ended = crate::command::ended_by_signal() => {
                ended?;
                None
            }
        };
        ready.set(false);
        if let Some(Fatal { actor, reason }) = failure {
            // Not drained: what is acknowledged is in the log, and is replayed.
            bail!("{actor}: {reason}");
        }
        tracing::info!("draining");
        let drained = site.drain(Duration::from_secs(settings.admin.drain_s)).await;
        state.flush()?;
        let _ = std::fs::remove_file(control::socket_path(data));
        if let Some(late) = drained {
            bail!("{late} did not drain within {} s: what it held is in the log", settings.admin.drain_s);
        }
        tracing::info!("drained");
        Ok(())
    })
}

fn start_logging(level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("log.level {level:?} is not a level"))?;
    let interactive = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(interactive).init();
    Ok(())
}

/// Where not root, defaults below 1024 move: 443 to 8443, 80 to 8080, 179 to 1179.
fn unprivileged_ports(settings: &mut Settings) {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if root {
        return;
    }
    let defaults = Settings::default();
    let moves = [
        (&mut settings.web.listen, &defaults.web.listen, ":443", ":8443"),
        (&mut settings.web.redirect_listen, &defaults.web.redirect_listen, ":80", ":8080"),
        (&mut settings.bgp.listen, &defaults.bgp.listen, ":179", ":1179"),
    ];
    for (listen, default, from, to) in moves {
        if listen == default {
            listen.iter_mut().for_each(|address| *address = address.replace(from, to));
            tracing::info!(?listen, "not root: an unprivileged port instead of the default");
        }
    }
}

fn write_first_login(data: &Path, password: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let path = data.join(FIRST_LOGIN);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .context("first login")?;
    writeln!(file, "admin {password}")?;
    tracing::info!(file = %path.display(), "first start: the administrator's one-time password is in this file");
    Ok(())
}
