//! Settings of the engine, from `[network]` and the tables of routers.

use std::path::PathBuf;

use benocs_model::address::{Address, Prefix};

#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The own AS, and further ones that count as own.
    pub own_as: Vec<u32>,
    pub own_prefixes: Vec<Prefix>,
    /// Routers that configuration names (exporters, BGP peers).
    pub known: Vec<Known>,
    /// The network graph where no router tells it; TOML where its name ends so, else JSON.
    pub graph_file: Option<PathBuf>,
}

/// A router that configuration names, by one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub address: Address,
    pub name: Option<String>,
}
