//! Walks of real routers, played by an agent, and held against what LibreNMS made of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use async_snmp::{Oid, Value};
use benocs_model::network::Interface;
use benocs_runtime::state::State;
use benocs_snmp::Config;
use bytes::Bytes;

use super::{Bench, LOOPBACK, agent, samples, target};

/// One line of a walk: oid|type|value; `x` after the type is hexadecimal.
fn object(line: &str) -> Option<(Oid, Value)> {
    let mut fields = line.splitn(3, '|');
    let (oid, kind, text) = (fields.next()?, fields.next()?, fields.next()?);
    let arcs = |text: &str| -> Option<Vec<u32>> {
        text.trim_start_matches('.').split('.').map(|arc| arc.parse().ok()).collect()
    };
    let octets = |text: &str| -> Option<Vec<u8>> {
        let hex = text.trim();
        (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect()
    };
    let value = match kind {
        "2" => Value::Integer(text.trim().parse().ok()?),
        "4" => Value::OctetString(Bytes::copy_from_slice(text.as_bytes())),
        "4x" => Value::OctetString(Bytes::from(octets(text)?)),
        "6" => Value::ObjectIdentifier(Oid::from_slice(&arcs(text)?)),
        "64" => Value::IpAddress(text.trim().parse::<std::net::Ipv4Addr>().ok()?.octets()),
        "64x" => Value::IpAddress(octets(text)?.try_into().ok()?),
        "65" => Value::Counter32(text.trim().parse().ok()?),
        "66" => Value::Gauge32(text.trim().parse().ok()?),
        "67" => Value::TimeTicks(text.trim().parse().ok()?),
        "70" => Value::Counter64(text.trim().parse().ok()?),
        _ => return None,
    };
    Some((Oid::from_slice(&arcs(oid)?), value))
}

fn walk(path: &Path) -> BTreeMap<Oid, Value> {
    let text = std::fs::read(path).expect("readable");
    String::from_utf8_lossy(&text).lines().filter_map(object).collect()
}

/// The interfaces that the poller makes of a walk.
async fn inventory(objects: BTreeMap<Oid, Value>) -> (Vec<Interface>, bool) {
    let port = agent::start(Arc::new(RwLock::new(objects))).await;
    let config = Config { targets: vec![target(LOOPBACK, port)], ..Config::default() };
    let state = State::temporary().expect("state");
    let mut bench = Bench::start(config, &state).expect("starts");
    bench.first_poll().await;
    let status = bench.snmp.status.get();
    let target = status.targets.first().expect("one target");
    (bench.table.rows.clone(), target.failures == 0 && target.problem.is_empty())
}

/// Values of a column as a plain reading of the file gives them.
fn column(objects: &BTreeMap<Oid, Value>, column: &[u32]) -> BTreeMap<u32, Value> {
    let of_column = objects.iter().filter_map(|(oid, value)| match oid.arcs().strip_prefix(column)? {
        [index] => Some((*index, value.clone())),
        _ => None,
    });
    of_column.collect()
}

#[test]
fn walks_of_routers_give_their_interfaces() {
    let Some(directory) = samples() else { return };
    let mut walked = 0;
    for entry in std::fs::read_dir(directory.join("snmprec")).expect("a directory").flatten() {
        let path = entry.path();
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with("librenms__") || !file.ends_with(".snmprec") {
            continue;
        }
        let objects = walk(&path);
        let expected = column(&objects, &[1, 3, 6, 1, 2, 1, 2, 2, 1, 2]);
        let names = column(&objects, &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1]);
        let high_speeds = column(&objects, &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 15]);
        let addresses = objects.keys().filter(|oid| oid.arcs().starts_with(&[1, 3, 6, 1, 2, 1, 4, 20, 1, 2])).count();
        let (rows, fine) = benocs_runtime::block_on(inventory(objects.clone()));
        assert!(fine, "{file}: the poll has a problem");
        assert!(rows.len() >= expected.len(), "{file}: {} of {}", rows.len(), expected.len());
        for row in &rows {
            let text = |value: &Value| String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).trim().to_owned();
            if let Some(name) = names.get(&row.if_index).map(text).filter(|name| !name.is_empty() && name.is_ascii()) {
                assert_eq!(row.name, name, "{file} {}", row.if_index);
            }
            if let Some(speed) = high_speeds.get(&row.if_index).and_then(Value::as_u32).filter(|speed| *speed > 0) {
                assert_eq!(row.speed, u64::from(speed) * 1_000_000, "{file} {}", row.if_index);
            }
            assert!(!row.name.is_empty() || !expected.contains_key(&row.if_index), "{file} {}", row.if_index);
        }
        let of_rows: usize = rows.iter().map(|row| row.addresses.len()).sum();
        assert!(of_rows > 0 || addresses == 0, "{file}: {addresses} addresses are lost");
        let golden = std::fs::read_to_string(path.with_extension("golden-librenms.json")).expect("a golden");
        let golden: serde_json::Value = serde_json::from_str(&golden).expect("JSON");
        let ports = golden["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        for port in ports {
            let if_index = port["ifIndex"].as_u64().expect("an index") as u32;
            if !names.contains_key(&if_index) && !expected.contains_key(&if_index) {
                // Router interfaces of TiMOS, which LibreNMS takes from its own MIB.
                assert!(file.contains("timos"), "{file}: {if_index} is in no table");
                continue;
            }
            let row = rows.iter().find(|row| row.if_index == if_index);
            let row = row.unwrap_or_else(|| panic!("{file}: LibreNMS has interface {if_index}"));
            // LibreNMS takes ifDescr, else ifName, where there is no ifAlias, as we do. An alias of two NULs, which
            // is ".." to it, is none to us.
            let alias =
                port["ifAlias"].as_str().filter(|alias| !alias.trim_matches('.').is_empty() && alias.is_ascii());
            if let Some(alias) = alias {
                // Of control characters we make spaces.
                assert_eq!(row.description.trim(), alias.replace(char::is_control, " ").trim(), "{file} {if_index}");
            }
        }
        assert!(!ports.is_empty(), "{file}");
        walked += 1;
    }
    assert!(walked >= 20, "{walked} walks");
}
