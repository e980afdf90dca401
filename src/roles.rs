//! The inventory: which machines there are, what runs on each, who may talk to whom.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// The inventory that is built in.
const ROLES: &str = include_str!("../roles.toml");

/// The command line is wrong: the process ends with status 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Every role in one process.
pub const ALL: &str = "all";

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    pub network: BTreeMap<String, Network>,
    pub role: BTreeMap<String, Role>,
    pub flow: Vec<Flow>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub title: String,
    /// Prefix length.
    pub size: u8,
    pub purpose: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub title: String,
    /// Number of the machine in ids that are kept for ever.
    pub node: u16,
    pub networks: Vec<String>,
    pub actors: Vec<String>,
}

/// A numbered row of the security concept, or an extension of ours.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    pub number: String,
    pub name: String,
    pub source: String,
    pub destination: String,
    pub ports: Vec<u16>,
    pub transport: Vec<String>,
    pub protocol: String,
    pub encryption: String,
    pub network: String,
    /// Only during installation.
    #[serde(default)]
    pub temporary: bool,
    /// Not of the document; off by default.
    #[serde(default)]
    pub extension: bool,
}

impl Inventory {
    pub fn built_in() -> anyhow::Result<Self> {
        let inventory: Self = toml::from_str(ROLES).context("roles.toml")?;
        inventory.check()?;
        Ok(inventory)
    }

    /// Contradictions: a network or node that is not there, or there twice.
    fn check(&self) -> anyhow::Result<()> {
        let mut nodes = BTreeMap::new();
        for (name, role) in &self.role {
            if let Some(other) = nodes.insert(role.node, name) {
                bail!("roles.toml: node {} is given to {other} and to {name}", role.node);
            }
            for network in &role.networks {
                if !self.network.contains_key(network) {
                    bail!("roles.toml: {name} is in network {network}, which is not described");
                }
            }
        }
        let mut numbers = std::collections::BTreeSet::new();
        for flow in &self.flow {
            if !numbers.insert(&flow.number) {
                bail!("roles.toml: flow {} is there twice", flow.number);
            }
            if !self.network.contains_key(&flow.network) {
                bail!("roles.toml: flow {} is in network {}, which is not described", flow.number, flow.network);
            }
        }
        Ok(())
    }

    /// Roles named on the command line: one, several with commas, or `all`.
    pub fn select(&self, text: &str) -> anyhow::Result<Vec<&str>> {
        if text == ALL {
            return Ok(self.role.keys().map(String::as_str).collect());
        }
        text.split(',')
            .map(|name| match self.role.get_key_value(name.trim()) {
                Some((name, _)) => Ok(name.as_str()),
                None => {
                    let known: Vec<&str> = self.role.keys().map(String::as_str).collect();
                    let message =
                        format!("role {:?} does not exist: choose one of {}, or all", name.trim(), known.join(", "));
                    Err(anyhow::Error::new(Usage(message)))
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_holds_the_eight_machines_and_every_row() -> anyhow::Result<()> {
        let inventory = Inventory::built_in()?;
        assert_eq!(inventory.role.len(), 8);
        assert_eq!(
            (inventory.network["internal"].size, inventory.network["backbone"].size, inventory.network["web"].size),
            (28, 29, 30)
        );
        let rows: Vec<&str> =
            inventory.flow.iter().filter(|flow| !flow.extension).map(|flow| flow.number.as_str()).collect();
        let document = [
            "1", "2", "3", "4", "5", "6", "7", "8a", "8b", "9", "10", "11", "12", "13b", "13c", "14", "15c", "15d",
            "15e", "15f", "17", "18a", "18b", "19", "20",
        ];
        assert_eq!(rows, document);
        Ok(())
    }

    #[test]
    fn an_unknown_role_names_the_known_ones() -> anyhow::Result<()> {
        let inventory = Inventory::built_in()?;
        let error = inventory.select("netflow07").unwrap_err().to_string();
        assert!(error.contains("netflow07") && error.contains("netflow00"), "{error}");
        assert_eq!(inventory.select("netflow00,process00")?, ["netflow00", "process00"]);
        assert_eq!(inventory.select("all")?.len(), 8);
        Ok(())
    }
}
