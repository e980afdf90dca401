//! The product's configuration for the simulated network.

use std::fmt::Write as _;
use std::path::Path;

use super::{Config, Model};
use crate::source;

/// TOML: where the feeds go, own AS, exporters with their SNMP agents, and a BGP peer for each router.
pub fn print(config: &Config, model: &Model, community_file: &Path) -> anyhow::Result<String> {
    let mut out = String::new();
    writeln!(out, "# Simulated provider: seed {}, {} routers.", config.seed, model.network.routers.len())?;
    let collector = config.collector.as_deref().map(source::resolve).transpose()?;
    let sflow = config.sflow.as_deref().map(source::resolve).transpose()?;
    let dnstap = config.dnstap.as_deref().map(source::resolve).transpose()?;
    for (section, address) in
        [("collector", collector), ("sflow", sflow.filter(|_| sflow != collector)), ("dnstap", dnstap)]
    {
        if let Some(address) = address {
            writeln!(out, "\n[{section}]\nlisten = [\"{address}\"]")?;
        }
    }
    writeln!(out, "\n[bgp]\nlocal_as = {}", config.own_as)?;
    if let Some(bgp) = &config.bgp {
        writeln!(out, "listen = [\"{}\"]", source::resolve(bgp)?)?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_listens_where_the_feeds_go() -> anyhow::Result<()> {
        let config = Config {
            collector: Some("127.0.0.1:2055".to_owned()),
            sflow: Some("127.0.0.1:6343".to_owned()),
            bgp: Some("127.0.0.1:1179".to_owned()),
            dnstap: Some("127.0.0.1:5453".to_owned()),
            ..Config::default()
        };
        let model = Model::build(&config)?;
        let text = print(&config, &model, Path::new("community"))?;
        for lines in [
            "[collector]\nlisten = [\"127.0.0.1:2055\"]\n",
            "[sflow]\nlisten = [\"127.0.0.1:6343\"]\n",
            "[bgp]\nlocal_as = 64500\nlisten = [\"127.0.0.1:1179\"]\n",
            "[dnstap]\nlisten = [\"127.0.0.1:5453\"]\n",
        ] {
            assert!(text.contains(lines), "{lines} is not in {text}");
        }
        assert_eq!(text.matches("[[exporter]]").count(), model.network.routers.len());
        let shared = Config { sflow: config.collector.clone(), ..config };
        assert!(!print(&shared, &model, Path::new("community"))?.contains("[sflow]"));
        Ok(())
    }
}
