//! The product's configuration for the simulated network.

use std::fmt::Write as _;
use std::path::Path;

use super::{Config, Model};

/// TOML: own AS, exporters with their SNMP agents, and a BGP peer for each router.
pub fn print(config: &Config, model: &Model, community_file: &Path) -> anyhow::Result<String> {
    let mut out = String::new();
    writeln!(out, "# Simulated provider: seed {}, {} routers.", config.seed, model.network.routers.len())?;
    writeln!(out, "\n[bgp]\nlocal_as = {}", config.own_as)?;
    for router in &model.network.routers {
        if config.bgp.is_none() {
            break;
        }
        writeln!(out, "\n[[bgp.peer]]")?;
        writeln!(out, "address = \"{}\"", router.address)?;
        writeln!(out, "remote_as = {}", config.own_as)?;
        writeln!(out, "passive = true")?;
        writeln!(out, "name = \"{}\"", router.name)?;
    }
    for router in &model.network.routers {
        writeln!(out, "\n[[exporter]]")?;
        writeln!(out, "address = \"{}\"", router.address)?;
        writeln!(out, "name = \"{}\"", router.name)?;
        if let Some(port) = config.snmp_port {
            writeln!(out, "snmp_community_file = {}", quoted(&community_file.to_string_lossy()))?;
            writeln!(out, "snmp_port = {port}")?;
        }
    }
    Ok(out)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
