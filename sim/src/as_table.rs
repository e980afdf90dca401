//! Who originates which addresses: a small table of real autonomous systems that
//! is built in, or a large one from files.
//!
//! Files are those of `@ip-location-db/asn`: `first,last,number,"name"` a line,
//! first and last address of a range, inclusive; ranges do not overlap.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

const EMBEDDED: &str = include_str!("../data/as.tsv");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Transit,
    Content,
    Eyeball,
    Business,
}

#[derive(Clone, Debug)]
pub struct As {
    pub number: u32,
    pub name: String,
    pub kind: Kind,
    pub v4: Vec<Ipv4Net>,
    pub v6: Vec<Ipv6Net>,
}

/// Ascending by number; prefixes do not overlap.
#[derive(Clone, Debug)]
pub struct AsTable {
    pub rows: Vec<As>,
}

impl AsTable {
    pub fn embedded() -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        for line in EMBEDDED.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let mut columns = line.split('\t');
            let mut column = || columns.next().with_context(|| format!("a column is missing in {line}"));
            let number = column()?.parse()?;
            let kind = match column()? {
                "transit" => Kind::Transit,
                "content" => Kind::Content,
                "eyeball" => Kind::Eyeball,
                _ => Kind::Business,
            };
            let name = column()?.to_owned();
            let mut row = As { number, name, kind, v4: Vec::new(), v6: Vec::new() };
            for prefix in column()?.split(',') {
                match prefix.parse()? {
                    IpNet::V4(net) => row.v4.push(net),
                    IpNet::V6(net) => row.v6.push(net),
                }
            }
            rows.push(row);
        }
        rows.sort_by_key(|row| row.number);
        Ok(Self { rows })
    }

    /// `path` is asn-ipv4.csv or asn-ipv6.csv (the other one is read where it lies beside it), or
    /// their folder. At most about `prefixes_max` prefixes, those of well-known systems first.
    pub fn read(path: &Path, prefixes_max: usize) -> anyhow::Result<Self> {
        let known: BTreeMap<u32, As> = Self::embedded()?.rows.into_iter().map(|row| (row.number, row)).collect();
        let mut rows: BTreeMap<u32, As> = BTreeMap::new();
        for file in files(path)? {
            let input = BufReader::new(
                std::fs::File::open(&file).with_context(|| format!("cannot open AS table {}", file.display()))?,
            );
            for (number, line) in input.lines().enumerate() {
                let line = line.with_context(|| format!("cannot read {}", file.display()))?;
                add(&mut rows, &known, &line)
                    .with_context(|| format!("{}:{}: not first,last,number,name", file.display(), number + 1))?;
            }
        }
        anyhow::ensure!(!rows.is_empty(), "AS table {} is empty", path.display());
        let mut chosen: Vec<As> = rows.into_values().collect();
        // Well-known ones, then the rest in an order that is the same each time and has nothing to do with age.
        chosen.sort_by_key(|row| (!known.contains_key(&row.number), row.number.wrapping_mul(0x9e37_79b1)));
        let mut prefixes = 0;
        // Most of the traffic is well-known ones': every one of them has a place, however small the provider.
        let of_known = (prefixes_max * 3 / 4 / known.len().max(1)).max(1);
        chosen.retain_mut(|row| {
            let room = prefixes_max.saturating_sub(prefixes);
            let fair = if known.contains_key(&row.number) { of_known } else { (prefixes_max / 64).max(8) };
            let share = fair.min(room);
            row.v4.truncate(share);
            row.v6.truncate((share / 3).max(1));
            let keep = share > 0 && !row.v4.is_empty();
            prefixes += if keep { row.v4.len() + row.v6.len() } else { 0 };
            keep
        });
        chosen.sort_by_key(|row| row.number);
        Ok(Self { rows: chosen })
    }
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let candidates = if path.is_dir() {
        vec![path.join("asn-ipv4.csv"), path.join("asn-ipv6.csv")]
    } else if name.contains("ipv4") {
        vec![path.to_owned(), path.with_file_name(name.replace("ipv4", "ipv6"))]
    } else if name.contains("ipv6") {
        vec![path.with_file_name(name.replace("ipv6", "ipv4")), path.to_owned()]
    } else {
        vec![path.to_owned()]
    };
    let found: Vec<PathBuf> = candidates.into_iter().filter(|file| file.is_file()).collect();
    anyhow::ensure!(!found.is_empty(), "AS table {} does not exist", path.display());
    Ok(found)
}

fn add(rows: &mut BTreeMap<u32, As>, known: &BTreeMap<u32, As>, line: &str) -> anyhow::Result<()> {
    let mut columns = line.splitn(4, ',');
    let mut column = || columns.next().context("a column is missing");
    let (first, last): (IpAddr, IpAddr) = (column()?.parse()?, column()?.parse()?);
    let number: u32 = column()?.parse()?;
    let name = column()?.trim_matches('"');
    let row = rows.entry(number).or_insert_with(|| match known.get(&number) {
        Some(row) => As { v4: Vec::new(), v6: Vec::new(), ..row.clone() },
        None => As { number, name: name.to_owned(), kind: Kind::Business, v4: Vec::new(), v6: Vec::new() },
    });
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            row.v4.extend(Ipv4Subnets::new(first, last, 0).filter(|net| net.prefix_len() >= 8));
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            row.v6.extend(Ipv6Subnets::new(first, last, 0).filter(|net| (16..=64).contains(&net.prefix_len())));
        }
        _ => anyhow::bail!("a range of two families"),
    }
    // Those with much address space serve people.
    if row.kind == Kind::Business && row.v4.iter().any(|net| net.prefix_len() <= 14) {
        row.kind = Kind::Eyeball;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_sound() {
        let table = AsTable::embedded().unwrap();
        assert!(table.rows.len() > 200);
        assert!(table.rows.is_sorted_by(|a, b| a.number < b.number));
        let mut nets: Vec<(Ipv4Net, u32)> =
            table.rows.iter().flat_map(|row| row.v4.iter().map(|net| (*net, row.number))).collect();
        nets.sort();
        for pair in nets.windows(2) {
            assert!(pair[0].0.broadcast() < pair[1].0.network(), "{pair:?} overlap");
        }
        for kind in [Kind::Transit, Kind::Content, Kind::Eyeball, Kind::Business] {
            assert!(table.rows.iter().filter(|row| row.kind == kind).count() > 15, "{kind:?}");
        }
    }

    #[test]
    fn every_well_known_system_has_a_place_in_a_small_table() {
        let folder = tempfile::tempdir().unwrap();
        let known = AsTable::embedded().unwrap();
        let many = (0..64u32).map(|n| format!("77.{n}.0.0,77.{n}.0.255,70001,\"Many\"\n"));
        let lines = known.rows.iter().zip(0u32..).flat_map(|(row, at)| {
            (0..20u32).map(move |n| {
                let net = format!("{}.{}.{n}", 100 + at / 256, at % 256);
                format!("{net}.0,{net}.255,{},\"{}\"\n", row.number, row.number)
            })
        });
        let text: String = lines.chain(many).collect();
        std::fs::write(folder.path().join("asn-ipv4.csv"), text).unwrap();
        let prefixes_max = known.rows.len() * 2;
        let table = AsTable::read(folder.path(), prefixes_max).unwrap();
        for row in &known.rows {
            assert!(table.rows.iter().any(|kept| kept.number == row.number), "{} is missing", row.name);
        }
        assert!(table.rows.iter().map(|row| row.v4.len()).sum::<usize>() <= prefixes_max);
    }

    #[test]
    fn ranges_become_prefixes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("asn-ipv4.csv"),
            "1.0.0.0,1.0.2.255,64500,\"A, B\"\n8.8.8.0,8.8.8.255,15169,G\n",
        )
        .unwrap();
        std::fs::write(
            folder.path().join("asn-ipv6.csv"),
            "2001:4:112::,2001:4:112:ffff:ffff:ffff:ffff:ffff,64500,A\n",
        )
        .unwrap();
        let table = AsTable::read(&folder.path().join("asn-ipv4.csv"), 100).unwrap();
        let row = table.rows.iter().find(|row| row.number == 64500).unwrap();
        assert_eq!(row.name, "A, B");
        assert_eq!(row.v4, ["1.0.0.0/23".parse().unwrap(), "1.0.2.0/24".parse().unwrap()]);
        assert_eq!(row.v6, ["2001:4:112::/48".parse().unwrap()]);
        assert_eq!(table.rows.iter().find(|row| row.number == 15169).unwrap().name, "Google");
        assert!(AsTable::read(&folder.path().join("none.csv"), 100).is_err());
    }
}
