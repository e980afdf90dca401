//! Services, the names that clients ask for, and the addresses that answer.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Context as _;

use super::network::{GroupId, GroupKind, Network, host};
use crate::encode::{dns, dnstap};

const EMBEDDED: &str = include_str!("../../data/services.tsv");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Quic,
    /// Games and calls: small packets, high ports.
    Udp,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub asked: Vec<String>,
    pub aliases: Vec<String>,
    /// Where it is served from: groups, of which a client gets the same each time.
    pub groups: Vec<GroupId>,
    /// Its place among the services of the same groups.
    place: usize,
    pub weight: f64,
    pub transport: Transport,
}

#[derive(Clone, Debug)]
pub struct Services {
    pub rows: Vec<Service>,
    /// Addresses that the services of one network share.
    pool: usize,
}

/// A server as a client found it.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub service: u16,
    pub asked: u16,
    pub group: GroupId,
    pub address: IpAddr,
}

impl Services {
    pub fn build(network: &Network) -> anyhow::Result<Self> {
        let mut rows: Vec<Service> = Vec::new();
        let mut places: HashMap<Vec<GroupId>, usize> = HashMap::new();
        for line in EMBEDDED.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, _, asked, aliases, served_by, weight, transport] = columns[..] else {
                anyhow::bail!("a column is missing in {line}");
            };
            let served = |group: &super::network::Group| match served_by {
                "cache" => matches!(group.kind, GroupKind::Cache(_)),
                asn => asn.parse() == Ok(group.asn) && group.kind.own_interface().is_none(),
            };
            let groups: Vec<GroupId> = (0..network.groups.len()).filter(|id| served(&network.groups[*id])).collect();
            if groups.is_empty() {
                continue;
            }
            let place = places.entry(groups.clone()).or_default();
            let list = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            rows.push(Service {
                name: name.to_owned(),
                asked: list(asked),
                aliases: list(aliases),
                groups,
                place: *place,
                weight: weight.parse().with_context(|| format!("no weight in {line}"))?,
                transport: match transport {
                    "quic" => Transport::Quic,
                    "udp" => Transport::Udp,
                    _ => Transport::Tcp,
                },
            });
            *place += 1;
        }
        let pool = places.values().copied().max().unwrap_or(1).next_power_of_two() * 2;
        Ok(Self { rows, pool })
    }

    /// Last two labels of the name that was asked for.
    pub fn domain(&self, service: u16, asked: u16) -> &str {
        let name = &self.rows[usize::from(service)].asked[usize::from(asked)];
        match name.rmatch_indices('.').nth(1) {
            Some((at, _)) => &name[at + 1..],
            None => name,
        }
    }

    /// The server that `client` is told of. Services share the addresses of their network, but the
    /// clients of one prefix never get the same address for two of them.
    pub fn server(&self, network: &Network, service: u16, asked: u16, client: IpAddr) -> Server {
        let row = &self.rows[usize::from(service)];
        let prefix = match client {
            IpAddr::V4(v4) => u64::from(u32::from(v4) >> 8),
            IpAddr::V6(v6) => (u128::from(v6) >> 80) as u64,
        };
        let spread = (prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        let group = row.groups[spread % row.groups.len()];
        let slot = (row.place + spread / 7) % self.pool;
        let v6 = client.is_ipv6();
        // The same slot is the same address, whoever asks.
        let bits =
            (slot as u128 + 1).wrapping_mul(0x0000_0001_9e37_79b9_0000_0000_0000_0b05) & !0xff | (slot as u128 + 16);
        Server { service, asked, group, address: host(&network.groups[group], v6, bits) }
    }

    /// The answer that makes `client` talk to `server`, as a frame of the resolver.
    pub fn answer(
        &self,
        server: &Server,
        client: IpAddr,
        resolver: (&str, IpAddr),
        at_ms: i64,
        port: u16,
        ttl_s: u32,
    ) -> Vec<u8> {
        let row = &self.rows[usize::from(server.service)];
        let aliases: Vec<&str> = row.aliases.iter().map(String::as_str).collect();
        let asked = &row.asked[usize::from(server.asked)];
        let response = dns::answer(port, asked, &aliases, &[server.address], ttl_s);
        dnstap::client_response(&dnstap::ClientResponse {
            identity: resolver.0,
            client,
            client_port: port,
            resolver: resolver.1,
            query_ms: at_ms - 3,
            response_ms: at_ms,
            response: &response,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::as_table::AsTable;
    use crate::simulate::Scale;
    use std::collections::HashMap;

    #[test]
    fn addresses_are_shared_but_not_within_a_prefix() {
        let network = Network::build(1, Scale::Small, 64_500, &AsTable::embedded().unwrap());
        let services = Services::build(&network).unwrap();
        assert!(services.rows.len() > 35);
        let mut of_prefix: HashMap<(IpAddr, u8), usize> = HashMap::new();
        let mut of_all: HashMap<IpAddr, std::collections::BTreeSet<usize>> = HashMap::new();
        for service in 0..services.rows.len() {
            for third in 0..8u8 {
                let client = IpAddr::from([198, 18, third, 9]);
                let server = services.server(&network, service as u16, 0, client);
                let before = of_prefix.insert((server.address, third), service);
                assert_eq!(before, None, "{} and {before:?}", services.rows[service].name);
                of_all.entry(server.address).or_default().insert(service);
            }
        }
        assert!(of_all.values().any(|services| services.len() > 1));
        assert_eq!(services.domain(1, 0), "nflxvideo.net");
    }
}
