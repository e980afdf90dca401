//! A real snmpd, and routers that are silent, renumber, or are only in configuration.

use std::net::{IpAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, RwLock};

use async_snmp::Value;
use benocs_model::address::Address;
use benocs_model::network::{Boundary, Connectivity, Label, LabelKind, Labels};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_snmp::{Config, Secret, StaticInterface, Target};

use super::{Bench, LOOPBACK, agent, target};

struct Daemon(Child, #[expect(dead_code, reason = "it is removed with the daemon")] tempfile::TempDir);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn snmpd() -> Option<(Daemon, u16)> {
    if Command::new("snmpd").arg("-v").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "snmpd is not installed");
        println!("skipped: snmpd is not installed");
        return None;
    }
    let port = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("snmpd.conf");
    std::fs::write(&path, "rocommunity public 127.0.0.1\nsysName router-under-test\n").expect("written");
    let process = Command::new("snmpd")
        .args(["-f", "-C", "-I", "-smux", "-Ln", "-c"])
        .arg(&path)
        .arg(format!("udp:127.0.0.1:{port}"))
        .env("SNMP_PERSISTENT_DIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    Some((Daemon(process, directory), port))
}

fn fast(targets: Vec<Target>) -> Config {
    Config { interval_s: 1, timeout_ms: 300, retries: 0, targets, ..Config::default() }
}

#[test]
fn snmpd_shows_the_interfaces_that_the_kernel_has() {
    benocs_runtime::block_on(async {
        let Some((_daemon, port)) = snmpd() else { return };
        let state = State::temporary().expect("state");
        let mut bench = Bench::start(fast(vec![target(LOOPBACK, port)]), &state).expect("starts");
        bench.until("interfaces", |bench| (!bench.table.rows.is_empty()).then_some(())).await;
        for entry in std::fs::read_dir("/sys/class/net").expect("a directory").flatten() {
            let Ok(index) = std::fs::read_to_string(entry.path().join("ifindex")) else { continue };
            let index: u32 = index.trim().parse().expect("a number");
            let name = entry.file_name().to_string_lossy().into_owned();
            let row = bench.table.rows.iter().find(|row| row.if_index == index && row.valid_to.is_none());
            assert_eq!(row.map(|row| row.name.as_str()), Some(name.as_str()), "interface {index}");
        }
        let loopback = bench.table.rows.iter().find(|row| row.name == "lo").expect("there is a loopback");
        assert!(loopback.addresses.contains(&(Address::from_v4([127, 0, 0, 1]), 8)), "{:?}", loopback.addresses);
        assert_eq!(loopback.boundary, Boundary::Internal as u8);
        let rates = bench.until("rates", |bench| {
            let status = bench.snmp.status.get();
            let loopback = status.targets[0].interfaces.iter().find(|one| one.name == "lo")?;
            // Our own polls go over it; snmpd counts anew every few seconds.
            loopback.in_bits_per_s.zip(loopback.out_bits_per_s).filter(|(rate_in, _)| *rate_in > 0.0)
        });
        let (rate_in, rate_out) = rates.await;
        assert!(
            rate_in == rate_out && rate_in < 1e9,
            "what goes into a loopback comes out of it: {rate_in} {rate_out}"
        );
        let status = bench.snmp.status.get();
        let target = &status.targets[0];
        assert_eq!((target.system_name.as_str(), target.vendor.as_deref()), ("router-under-test", Some("Net-SNMP")));
        let system = bench.systems.lock().expect("not poisoned")[0].clone();
        assert_eq!((system.address, system.name.as_str()), (Address::from(LOOPBACK), "router-under-test"));
    });
}

const NAME: &str = "1.3.6.1.2.1.31.1.1.1.1.";
const ALIAS: &str = "1.3.6.1.2.1.31.1.1.1.18.";

fn router(name: &str, interfaces: &[(u32, &str, &str)]) -> std::collections::BTreeMap<async_snmp::Oid, Value> {
    let mut all =
        agent::objects(&[("1.3.6.1.2.1.1.5.0", Value::from(name)), ("1.3.6.1.2.1.1.3.0", Value::TimeTicks(1))]);
    for (index, name, alias) in interfaces {
        let (name_oid, alias_oid) = (format!("{NAME}{index}"), format!("{ALIAS}{index}"));
        all.extend(agent::objects(&[(&name_oid, Value::from(*name)), (&alias_oid, Value::from(*alias))]));
    }
    all
}

#[test]
fn a_silent_router_delays_no_other_and_a_wrong_community_is_one() {
    benocs_runtime::block_on(async {
        let quiet = UdpSocket::bind("127.0.0.2:0").expect("a port");
        let port = agent::start(Arc::new(RwLock::new(router("r1", &[(1, "ae1", "Transit: Example AS64500")])))).await;
        let wrong = Target { community: Secret::new("wrong"), ..target(LOOPBACK, port) };
        let silent = target(IpAddr::from([127, 0, 0, 2]), quiet.local_addr().expect("bound").port());
        let targets = vec![silent, wrong, target(LOOPBACK, port)];
        let state = State::temporary().expect("state");
        let config = Config { timeout_ms: 60_000, ..fast(targets) };
        let mut bench = Bench::start(config, &state).expect("starts");
        // The silent one still waits for its first answer.
        bench.until("a poll of the third", |bench| (bench.snmp.status.get().targets[2].polls >= 2).then_some(())).await;
        assert_eq!(bench.snmp.status.get().targets[0].polls, 0);
        assert_eq!(bench.snmp.status.get().targets[1].last_ms, None);
        let [row] = bench.table.rows.as_slice() else { panic!("{:?}", bench.table.rows) };
        assert_eq!((row.connectivity, row.boundary), (Connectivity::Transit as u8, Boundary::External as u8));
        assert_eq!((row.provider.as_deref(), row.remote_as), (Some("Example"), Some(64500)));
    });
}

#[test]
fn time_outs_are_said() {
    benocs_runtime::block_on(async {
        let quiet = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let state = State::temporary().expect("state");
        let config = fast(vec![target(LOOPBACK, quiet.local_addr().expect("bound").port())]);
        let mut bench = Bench::start(config, &state).expect("starts");
        let problem = bench.until("failures", |bench| {
            let status = bench.snmp.status.get();
            (status.targets[0].failures >= 2).then(|| status.targets[0].problem.clone())
        });
        assert!(problem.await.starts_with("no answer"));
    });
}

#[test]
fn renumbered_interfaces_get_new_ids_and_keep_the_old_ones_validity() {
    benocs_runtime::block_on(async {
        let objects = Arc::new(RwLock::new(router("r1", &[(1, "ae1", "Core: r2"), (2, "ae2", "Cust: Shop")])));
        let port = agent::start(objects.clone()).await;
        let state = State::temporary().expect("state");
        let mut bench = Bench::start(fast(vec![target(LOOPBACK, port)]), &state).expect("starts");
        bench.until("two interfaces", |bench| (bench.table.rows.len() == 2).then_some(())).await;
        *objects.write().expect("not poisoned") = router("r1", &[(1, "ae2", "Cust: Shop"), (2, "ae1", "Core: r2")]);
        bench.until("new versions", |bench| (bench.table.rows.len() == 4).then_some(())).await;
        let now = |index| {
            let mut open = bench.table.rows.iter().filter(move |row| row.valid_to.is_none() && row.if_index == index);
            (open.next().expect("one is valid").clone(), open.count())
        };
        let ((first, 0), (second, 0)) = (now(1), now(2)) else { panic!("{:?}", bench.table.rows) };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("ae2", "ae1"));
        for old in bench.table.rows.iter().filter(|row| row.id <= 2) {
            assert_eq!(old.valid_to, Some(first.valid_from), "one ends where the other begins");
        }
        assert!(first.id > 2 && second.id > 2);
        // After a restart of the poller the ids are the same.
        let before = bench.table.rows.clone();
        drop(bench);
        let mut again = Bench::start(fast(vec![target(LOOPBACK, port)]), &state).expect("starts");
        again.until("the table", |bench| (bench.table.rows == before).then_some(())).await;
    });
}

#[test]
fn configuration_stands_in_for_snmp_and_over_it() {
    benocs_runtime::block_on(async {
        let objects = Arc::new(RwLock::new(router("r1", &[(1, "ae1", "something"), (2, "ae2", "Core: r2")])));
        let port = agent::start(objects).await;
        let fixed = |exporter, if_index| StaticInterface {
            exporter,
            if_index,
            name: None,
            description: None,
            speed: Some(10_000_000_000),
            boundary: Some("external".to_owned()),
            connectivity: Some("transit".to_owned()),
            provider: Some("Example".to_owned()),
            remote_as: Some(64500),
            sampling: None,
        };
        let other = IpAddr::from([192, 0, 2, 9]);
        let named = StaticInterface { name: Some("xe-0/0/0".to_owned()), ..fixed(other, 7) };
        let config = Config { interfaces: vec![fixed(LOOPBACK, 1), named], ..fast(vec![target(LOOPBACK, port)]) };
        let state = State::temporary().expect("state");
        let mut bench = Bench::start(config.clone(), &state).expect("starts");
        bench.until("three interfaces", |bench| (bench.table.rows.len() == 3).then_some(())).await;
        let row = |exporter: IpAddr, index| {
            let found =
                bench.table.rows.iter().find(|row| row.exporter == Address::from(exporter) && row.if_index == index);
            found.expect("it is there").clone()
        };
        let (over, polled, alone) = (row(LOOPBACK, 1), row(LOOPBACK, 2), row(other, 7));
        assert_eq!((over.name.as_str(), over.connectivity), ("ae1", Connectivity::Transit as u8));
        assert_eq!((over.speed, over.remote_as), (10_000_000_000, Some(64500)));
        assert_eq!(polled.connectivity, Connectivity::Core as u8);
        assert_eq!((alone.name.as_str(), alone.boundary), ("xe-0/0/0", Boundary::External as u8));
        // What an exporter says names what nobody else does: one that is configured without a name keeps the id.
        let label = |exporter: IpAddr, number, name: &str, description: &str| Label {
            exporter: exporter.into(),
            kind: LabelKind::Interface as u8,
            number,
            name: name.to_owned(),
            description: description.to_owned(),
        };
        let third = IpAddr::from([192, 0, 2, 10]);
        let rows = vec![
            label(LOOPBACK, 2, "no", ""),
            label(other, 7, "no", ""),
            label(third, 3, "Gi0/3", "Transit: Example AS64496"),
        ];
        let labels = TableUpdate::Labels(Arc::new(Labels { generation: 1, rows }));
        bench.snmp.handle.outbox.offer(benocs_snmp::Message::Table(Arc::new(labels))).expect("room");
        let told = bench
            .until("the third router", |bench| {
                bench.table.rows.iter().find(|row| row.exporter == Address::from(third)).cloned()
            })
            .await;
        assert_eq!((told.name.as_str(), told.connectivity), ("Gi0/3", Connectivity::Transit as u8));
        assert_eq!((told.if_index, told.remote_as), (3, Some(64496)));
        assert!(bench.table.rows.iter().all(|row| row.name != "no"), "{:?}", bench.table.rows);
        let wrong = StaticInterface { boundary: Some("outside".to_owned()), ..fixed(other, 7) };
        assert!(Bench::start(Config { interfaces: vec![wrong], ..config }, &state).is_err());
    });
}
