//! Settings of the web server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses of the page and the API, over TLS. Empty: neither is served.
    pub listen: Vec<String>,
    /// Addresses of plain HTTP that redirect to the first address of `listen`. Empty: no redirect.
    pub redirect_listen: Vec<String>,
    /// Certificate chain, PEM. Without it, a self-signed one is made in the data directory.
    pub certificate_file: Option<PathBuf>,
    /// Its private key, PEM, readable by nobody else.
    pub key_file: Option<PathBuf>,
    /// Host names and addresses of the self-signed certificate, beside this machine's own.
    pub names: Vec<String>,
    /// Password of `admin` at the first start, from a file instead of a random one.
    pub admin_password_file: Option<PathBuf>,
    /// Threads that serve requests.
    pub workers: usize,
    /// Connections at once, per thread; more wait in the kernel.
    pub connections_max: usize,
    /// Largest body of a request, octets.
    pub body_octets_max: usize,
    /// Questions of one user at once; more are answered 429.
    pub queries_per_user_max: usize,
    /// Questions of everybody at once.
    pub queries_max: usize,
    /// A question that takes longer is given up, milliseconds.
    pub query_ms_max: u64,
    /// Largest N that may be asked for.
    pub query_limit_max: usize,
    /// A session that nobody uses ends, seconds.
    pub session_idle_s: u64,
    /// A session ends, seconds after its login.
    pub session_s_max: u64,
    /// Live streams of one user at once.
    pub live_per_user_max: usize,
    /// How often a live stream looks for newer data, milliseconds.
    pub live_ms: u64,
    /// A connection that sends nothing is closed, seconds.
    pub keep_alive_s: u64,
    /// How long a client may take to send the head of a request, milliseconds.
    pub request_head_ms_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:443".to_owned()],
            redirect_listen: vec!["0.0.0.0:80".to_owned()],
            certificate_file: None,
            key_file: None,
            names: Vec::new(),
            admin_password_file: None,
            workers: 2,
            connections_max: 10_000,
            body_octets_max: 64 << 10,
            queries_per_user_max: 6,
            queries_max: 24,
            query_ms_max: 60_000,
            query_limit_max: 10_000,
            session_idle_s: 12 * 3600,
            session_s_max: 7 * 24 * 3600,
            live_per_user_max: 16,
            live_ms: 2_000,
            keep_alive_s: 60,
            request_head_ms_max: 5_000,
        }
    }
}
