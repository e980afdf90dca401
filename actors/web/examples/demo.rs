//! The page over generated traffic, for work on the page:
//! `cargo run --release -p benocs-web --example demo -- 127.0.0.1:8443`

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use benocs_runtime::state::State;
use benocs_web::{Config, Engines, Web};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8443".to_owned());
    let data = tempfile::tempdir()?;
    let config = Config { listen: vec![listen], redirect_listen: Vec::new(), ..Config::default() };
    let engines = Engines {
        ask: Arc::new(support::Demo::new(support::now_ms)),
        tables: support::tables(),
        status: Arc::new(support::status),
        rib: Some(Arc::new(support::routes)),
        history: Some(Arc::new(support::history)),
        graph: Some(Arc::new(support::graph)),
        flows: Some(Arc::new(|| support::status()["exporters"].take())),
        newest: Arc::new(|| Some(support::now_ms() / 300_000 * 300_000)),
        runtime: tokio::runtime::Handle::current(),
    };
    let (fatal, mut failed) = benocs_runtime::fatal_channel();
    let web = Web::start(config, data.path(), engines, &State::temporary()?, fatal)?;
    if let Ok(password) = std::env::var("DEMO_PASSWORD") {
        web.accounts().set_password("admin", &password, None, support::now_ms())?;
    } else if let Some(password) = web.first_password() {
        println!("https://{}  admin  {password}", web.addresses()[0]);
    }
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        Some(fatal) = failed.recv() => println!("{}: {}", fatal.actor, fatal.reason),
    }
    web.stop(Duration::from_secs(5)).await;
    Ok(())
}
