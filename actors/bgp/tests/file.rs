//! MRT files into the table and out of it, against what bgpdump and GoBGP read of them.
//!
//! Where a program is not installed the test says so and passes, except under CI.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use benocs_bgp::{Board, Config, ImportSummary, Speaker, SpeakerMessage, dump_mrt, import_mrt};
use benocs_model::network::Network;
use benocs_model::route::RouteView;
use benocs_runtime::{Handle, Restart, Settings, fatal_channel, spawn};
use serde_json::Value;

const BGPDUMP: &str = "/usr/bin/bgpdump";
const GOBGPD: &str = "/usr/bin/gobgpd";
const GOBGP: &str = "/usr/bin/gobgp";
const LIMIT: Duration = Duration::from_secs(60);

fn samples() -> Option<PathBuf> {
    let root = std::env::var_os("BENOCS_SAMPLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"), PathBuf::from);
    if root.join("INDEX.tsv").exists() {
        return Some(root.join("mrt"));
    }
    assert!(std::env::var_os("CI").is_none(), "no samples in {}", root.display());
    eprintln!("skipped: no samples in {}", root.display());
    None
}

fn installed(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !Path::new(program).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {missing:?}");
    eprintln!("skipped: not installed: {missing:?}");
    false
}

struct Lab {
    board: Board,
    handle: Handle<SpeakerMessage>,
}

impl Lab {
    fn start(routes_max: u32) -> Self {
        let config = Config { listen: Vec::new(), publish_ms: 20, routes_max, ..Config::default() };
        let board = Board::new();
        let (fatal, _) = fatal_channel();
        let settings = Settings { name: "bgp", capacity: 16, tick: Duration::from_millis(50), restart: Restart::Never };
        let handle = spawn(settings, fatal, {
            let board = board.clone();
            move || Speaker::new(config.clone(), Vec::new(), board.clone())
        });
        Self { board, handle }
    }

    fn view(&self) -> RouteView {
        self.board.table_reader().view()
    }

    /// In pieces that end anywhere.
    fn import(&self, name: &str, octets: &[u8]) -> anyhow::Result<ImportSummary> {
        let mut pieces = octets.chunks(4093).map(<[u8]>::to_vec);
        import_mrt(name, &self.handle.outbox, || Ok(pieces.next()))
    }

    /// "peer | prefix | path identifier | AS path | next hop | origin | LOCAL_PREF | MED | communities".
    fn lines(&self) -> BTreeSet<String> {
        let view = self.view();
        let peers: Vec<_> = view.peers().map(|routes| routes.peer.clone()).collect();
        let lines = peers.iter().flat_map(|peer| {
            view.routes_of(peer.id).map(move |(id, prefix, path, _)| {
                let communities: Vec<String> =
                    path.communities.iter().map(|one| format!("{}:{}", one >> 16, one & 0xffff)).collect();
                let (preference, med) = (path.local_pref.unwrap_or(0), path.med.unwrap_or(0));
                let origin = ["IGP", "EGP", "INCOMPLETE"][usize::from(path.origin)];
                format!(
                    "{} {} | {prefix} | {id} | {} | {} | {origin} | {preference} | {med} | {}",
                    peer.address,
                    peer.remote_as,
                    path.as_path_text(),
                    path.next_hop,
                    communities.join(" ")
                )
            })
        });
        lines.collect()
    }
}

/// What bgpdump says of a table, in the same words. Communities are a set, in order.
fn bgpdump(path: &Path) -> BTreeSet<String> {
    let output = Command::new(BGPDUMP).args(["-q", "-m"]).arg(path).output().unwrap();
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split('|').collect();
        let id = if fields[0].ends_with("_AP") { fields.remove(6) } else { "0" };
        let number = |text: &str| match text {
            "no-export" => (65_535, 65_281),
            "no-advertise" => (65_535, 65_282),
            "local-AS" => (65_535, 65_283),
            text => {
                let (high, low) = text.split_once(':').unwrap();
                (high.parse::<u32>().unwrap(), low.parse::<u32>().unwrap())
            }
        };
        let communities: BTreeSet<(u32, u32)> = fields[11].split_whitespace().map(number).collect();
        let communities: Vec<String> = communities.iter().map(|(high, low)| format!("{high}:{low}")).collect();
        let prefix = fields[5]
            .split_once('/')
            .map(|(address, len)| format!("{}/{len}", address.parse::<std::net::IpAddr>().unwrap()));
        format!(
            "{} {} | {} | {id} | {} | {} | {} | {} | {} | {}",
            fields[3].parse::<std::net::IpAddr>().unwrap(),
            fields[4],
            prefix.unwrap(),
            fields[6],
            fields[8].parse::<std::net::IpAddr>().unwrap().to_canonical(),
            fields[7],
            fields[9],
            fields[10],
            communities.join(" ")
        )
    };
    String::from_utf8_lossy(&output.stdout).lines().map(line).filter(|line| !line.contains("255.255.255.255")).collect()
}

/// The file as octets, through bgpdump's own decompressor's like.
fn octets(path: &Path) -> Vec<u8> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => "zcat",
        Some("bz2") => "bzcat",
        _ => "cat",
    };
    Command::new(program).arg(path).stderr(Stdio::null()).output().unwrap().stdout
}

fn dump(lab: &Lab, router: Option<&str>, path: &Path) -> benocs_bgp::DumpSummary {
    let mut out = Vec::new();
    let summary = dump_mrt(&lab.view(), &Network::default(), router, [10, 255, 0, 1], 1_700_000_000, |octets| {
        out.extend(octets);
        Ok(())
    });
    let summary = summary.unwrap();
    assert_eq!(out.len() as u64, summary.octets);
    fs::write(path, out).unwrap();
    summary
}

#[test]
fn a_file_is_in_the_table_as_bgpdump_reads_it_and_so_is_what_is_written_of_it() {
    let Some(root) = samples() else { return };
    if !installed(&[BGPDUMP]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    benocs_runtime::block_on(async {
        for name in [
            "bgpdump__bview.64k_stream_overflow.gz",
            "bgpdump__bview.ipv4_unicast_add_path.gz",
            "mrtparse__openbgpd_rib_table-v2.mrt",
            "mrtparse__openbgpd_rib_table.mrt",
            "pyasn__rib.20140523.0600.cut.mrt.bz2",
            "ryu__rib.20161101.0000_pick.bz2",
        ] {
            let lab = Lab::start(1_000_000);
            let path = root.join(name);
            let file = octets(&path);
            let summary = lab.import(name, &file).unwrap();
            assert_eq!((summary.octets, summary.unread), (file.len() as u64, 0), "{name}: {summary:?}");
            let theirs = bgpdump(&path);
            let ours = lab.lines();
            let differ = ours.symmetric_difference(&theirs).take(4).collect::<Vec<_>>();
            assert!(differ.is_empty() && !ours.is_empty(), "{name}: {differ:#?}");
            assert!(lab.view().peers().all(|routes| routes.peer.name.starts_with(&format!("{name} "))));

            // Written, and read by bgpdump and here again.
            let written = directory.path().join("table.mrt");
            let dumped = dump(&lab, None, &written);
            assert_eq!((dumped.routes, dumped.left_out), (ours.len() as u64, 0), "{name}");
            let differ = ours.symmetric_difference(&bgpdump(&written)).take(4).cloned().collect::<Vec<_>>();
            assert!(differ.is_empty(), "{name}: {differ:#?}");
            let other = Lab::start(1_000_000);
            other.import("again", &fs::read(&written).unwrap()).unwrap();
            assert_eq!(other.lines(), ours, "{name}");

            // One router's.
            let peer = lab.view().peers().max_by_key(|routes| routes.v4 + routes.v6).unwrap().peer.clone();
            let one = dump(&lab, Some(&peer.address.to_string()), &written);
            let own = ours.iter().filter(|line| line.starts_with(&format!("{} ", peer.address))).count();
            assert_eq!((one.peers, one.routes), (1, own as u64), "{name}");
            assert!(lab.handle.drain(Duration::from_secs(5)).await && other.handle.drain(Duration::from_secs(5)).await);
        }
    });
}

#[test]
fn updates_are_applied_in_order_and_a_file_takes_the_place_of_its_like() {
    let Some(root) = samples() else { return };
    benocs_runtime::block_on(async {
        let lab = Lab::start(1_000_000);
        let file = octets(&root.join("bgpdump__updates.20160811.1600.gz"));
        let summary = lab.import("updates", &file).unwrap();
        assert_eq!((summary.announced, summary.withdrawn, summary.unread), (39_256, 1_956, 0), "{summary:?}");
        let first = lab.lines();
        assert!(first.len() > 5_000, "{}", first.len());
        let peers = lab.view().peers().count();
        // The same again, and another one beside it.
        lab.import("updates", &file).unwrap();
        assert_eq!((lab.lines(), lab.view().peers().count()), (first, peers));
        lab.import("more", &octets(&root.join("ryu__rib.20161101.0000_pick.bz2"))).unwrap();
        assert_eq!(lab.view().peers().filter(|routes| routes.peer.name.starts_with("more ")).count(), 2);
        let shown = lab.board.peers();
        assert!(shown.iter().any(|peer| peer.source == "file" && peer.name.starts_with("updates ")));

        // What is damaged says where; what came before it stays.
        let whole = lab.lines();
        let error = |octets: &[u8]| lab.import("damaged", octets).unwrap_err().to_string();
        assert_eq!(error(b""), "the file is empty");
        assert_eq!(error(b"not a file of routes"), "octet 4: no MRT file begins with a record of type 24864");
        assert_eq!(lab.lines(), whole);
        let mut table = octets(&root.join("bgpdump__bview.ipv4_unicast_add_path.gz"));
        let error = lab.import("damaged", &table[..table.len() - 5]).unwrap_err().to_string();
        assert!(error.starts_with("octet 4") && error.contains(": the file ends within a record, "), "{error}");
        assert!(lab.lines().len() > whole.len());
        let at = table.len();
        table.extend([0, 0, 0, 0, 0, 13, 0, 2, 0xff, 0, 0, 0]);
        let error = lab.import("damaged", &table).unwrap_err().to_string();
        assert_eq!(error, format!("octet {}: record length: length 4278190080 is impossible", at + 8));
        // A route that is none is left out, and said.
        table.truncate(at);
        table.extend([0, 0, 0, 0, 0, 13, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 33]);
        let summary = lab.import("damaged", &table).unwrap();
        assert_eq!(summary.unread, 1);
        let expected = format!("octet {}: prefix: input ends, 0 octets left", at + 17);
        assert_eq!(summary.first_error, Some(expected));
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}

#[test]
fn a_file_with_too_many_routes_is_refused() {
    let Some(root) = samples() else { return };
    benocs_runtime::block_on(async {
        let lab = Lab::start(10);
        let error = lab.import("big", &octets(&root.join("bgpdump__updates.long_withdrawal.gz")));
        assert!(error.is_ok(), "nothing is announced: {error:?}");
        let error = lab.import("big", &octets(&root.join("bgpdump__bview.ipv4_unicast_add_path.gz"))).unwrap_err();
        assert_eq!(error.to_string(), "big 10.0.15.1 has more routes than bgp.routes_max");
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn gobgp_reads_what_is_written() {
    let Some(root) = samples() else { return };
    if !installed(&[GOBGPD, GOBGP]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("table.mrt");
    benocs_runtime::block_on(async {
        let lab = Lab::start(1_000_000);
        lab.import("v2", &octets(&root.join("mrtparse__openbgpd_rib_table-v2.mrt"))).unwrap();
        dump(&lab, None, &written);
        let configuration = directory.path().join("gobgpd.conf");
        fs::write(&configuration, "[global.config]\n  as = 65030\n  router-id = \"10.0.0.64\"\n  port = -1\n").unwrap();
        let child = Command::new(GOBGPD)
            .arg("-f")
            .arg(&configuration)
            .args(["--api-hosts", "127.0.0.1:50164", "--pprof-disable"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _daemon = Daemon(child.unwrap());
        let gobgp = |arguments: &[&str]| Command::new(GOBGP).args(["-p", "50164"]).args(arguments).output().unwrap();
        let started = Instant::now();
        while !gobgp(&["global"]).status.success() {
            assert!(started.elapsed() < LIMIT, "gobgpd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let view = lab.view();
        let peers: Vec<_> = view.peers().map(|routes| routes.peer.id).collect();
        let ours = peers.iter().flat_map(|id| view.routes_of(*id).map(|(_, prefix, path, _)| (prefix, path.clone())));
        let ours: BTreeSet<String> = ours
            .filter(|(prefix, _)| prefix.address.is_v4())
            .map(|(prefix, path)| format!("{prefix} | {} | {}", path.as_path_text(), path.next_hop))
            .collect();
        assert!(ours.len() > 10);
        let mut theirs = BTreeSet::new();
        while theirs != ours {
            assert!(started.elapsed() < LIMIT, "{theirs:#?} {ours:#?}");
            // GoBGP 3 takes the next hops of IPv6 as an UPDATE has them, not as RFC 6396 4.3.4 does; and its client may end
            // before everything is sent.
            let output = gobgp(&["mrt", "inject", "global", "--no-ipv6", &written.display().to_string()]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            let output = gobgp(&["-j", "global", "rib", "-a", "ipv4"]);
            let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let line = |(prefix, paths): (&String, &Value)| {
                let attributes = paths[0]["attrs"].as_array()?;
                let of = |kind: u64| attributes.iter().find(|attribute| attribute["type"] == kind);
                let asns: Vec<String> = of(2)?["as_paths"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .flat_map(|segment| segment["asns"].as_array().into_iter().flatten())
                    .map(Value::to_string)
                    .collect();
                Some(format!("{prefix} | {} | {}", asns.join(" "), of(3)?["nexthop"].as_str()?))
            };
            theirs = json.as_object().into_iter().flatten().filter_map(line).collect();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}
