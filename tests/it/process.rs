//! The binary as a user runs it: started on free loopback ports and a directory
//! of its own, asked over its control socket and endpoints, killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

pub const BENOCS: &str = env!("CARGO_BIN_EXE_benocs");
/// Longest wait for a condition; a loaded machine of two cores is slow.
pub const PATIENCE: Duration = Duration::from_secs(90);
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Waits for a condition; fails with what it was.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn free_tcp() -> SocketAddr {
    reserve(|address| TcpListener::bind(address).is_ok())
}

pub fn free_udp() -> SocketAddr {
    reserve(|address| UdpSocket::bind(address).is_ok())
}

/// A port that stays ours until the tests end, though nothing listens on it: below those that the kernel gives to
/// outgoing connections, and locked against other tests.
fn reserve(free: impl Fn(SocketAddr) -> bool) -> SocketAddr {
    static LOCKS: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());
    let directory = std::env::temp_dir().join("benocs-test-ports");
    std::fs::create_dir_all(&directory).expect("a directory for locks");
    let mut locks = LOCKS.lock().expect("no test panics here");
    let first = PORTS.start + std::process::id() as u16 % (PORTS.end - PORTS.start);
    for port in (first..PORTS.end).chain(PORTS.start..first) {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if !locks.contains_key(&port)
            && let Ok(lock) = File::create(directory.join(port.to_string()))
            && lock.try_lock().is_ok()
            && free(address)
        {
            locks.insert(port, lock);
            return address;
        }
    }
    panic!("no free port");
}

/// Where a process listens.
#[derive(Clone, Debug)]
pub struct Ports {
    pub collector: SocketAddr,
    pub sflow: SocketAddr,
    pub bgp: SocketAddr,
    pub dnstap: SocketAddr,
    pub web: SocketAddr,
    pub redirect: SocketAddr,
    pub admin: SocketAddr,
}

impl Ports {
    pub fn free() -> Self {
        Self {
            collector: free_udp(),
            sflow: free_udp(),
            bgp: free_tcp(),
            dnstap: free_tcp(),
            web: free_tcp(),
            redirect: free_tcp(),
            admin: free_tcp(),
        }
    }

    pub fn sets(&self) -> Vec<String> {
        [
            ("collector.listen", self.collector),
            ("sflow.listen", self.sflow),
            ("bgp.listen", self.bgp),
            ("dnstap.listen", self.dnstap),
            ("web.listen", self.web),
            ("web.redirect_listen", self.redirect),
            ("admin.listen", self.admin),
        ]
        .iter()
        .map(|(key, address)| format!("{key}=[\"{address}\"]"))
        .collect()
    }
}

/// A running `benocs`; killed when dropped.
pub struct Process {
    pub ports: Ports,
    pub data: PathBuf,
    child: Child,
}

impl Process {
    pub fn start(role: &str, data: &Path, ports: &Ports, config: Option<&Path>, sets: &[&str]) -> Self {
        std::fs::create_dir_all(data).expect("data directory");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(data.join("process.log")).expect("log file");
        let mut command = Command::new(BENOCS);
        command.args(["--role", role, "--data"]).arg(data);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        for set in ports.sets().iter().map(String::as_str).chain(sets.iter().copied()) {
            command.args(["--set", set]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("benocs starts");
        let mut process = Self { ports: ports.clone(), data: data.to_owned(), child };
        let log = process.data.join("process.log");
        eventually("the process is ready", || {
            if let Some(status) = process.child.try_wait().expect("child is waited for") {
                panic!("benocs ended with {status}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            (http_get(ports.admin, "/readyz").0 == 200).then_some(())
        });
        process
    }

    /// SIGKILL, and the end of it.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM; true where it ended with status 0.
    pub fn terminate(mut self) -> bool {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
        let mut ended = None;
        eventually("the process ends after SIGTERM", || {
            ended = self.child.try_wait().expect("child is waited for");
            ended.map(drop)
        });
        ended.is_some_and(|status| status.success())
    }

    pub fn metric(&self, name: &str) -> f64 {
        metric(self.ports.admin, name)
    }

    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BENOCS).args(arguments).arg("--data").arg(&self.data).output().expect("benocs runs")
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("the command prints JSON")
    }

    /// `query --json` over everything, whatever its time.
    pub fn query(&self, by: &str, filter: &str) -> Value {
        self.json(&[
            "query",
            "--from",
            "2000-01-01T00:00:00Z",
            "--to",
            "2100-01-01T00:00:00Z",
            "--by",
            by,
            "--filter",
            filter,
            "--limit",
            "100000",
            "--json",
        ])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sum over all label sets of a metric; 0 where it is not there.
pub fn metric(admin: SocketAddr, name: &str) -> f64 {
    let (status, body) = http_get(admin, "/metrics");
    assert_eq!(status, 200);
    body.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Status and body; status 0 where nothing answers.
pub fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let Ok(answer) = exchange() else { return (0, String::new()) };
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// `benocs generate --json`, to its end.
pub fn generate(to: SocketAddr, arguments: &[&str]) -> Value {
    let output = Command::new(BENOCS)
        .args(["generate", "--json", "--to", &to.to_string()])
        .args(arguments)
        .output()
        .expect("benocs runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("generate prints JSON")
}

/// True where the machine has the program; in CI it must.
pub fn have(program: &str) -> bool {
    let path = format!("{}:/usr/sbin:/sbin:/usr/lib/frr", std::env::var("PATH").unwrap_or_default());
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing: run scripts/deps test");
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}
