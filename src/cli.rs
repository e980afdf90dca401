//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where data is kept unless `--data` says otherwise.
pub const DATA: &str = "/var/lib/benocs";

/// Network traffic analytics for internet providers.
///
/// With --role, runs that machine's part of the system until SIGTERM or SIGINT,
/// then drains. With a command, does that and ends. Exit status: 0 done,
/// 1 failed, 2 wrong usage, 78 wrong configuration.
#[derive(Debug, Parser)]
#[command(
    name = "benocs",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = false
)]
pub struct Cli {
    /// Role of this process: af00, ce00, dns00, netflow00, process00, process01, storage00, step00, several with commas, or all.
    #[arg(long)]
    pub role: Option<String>,

    /// Configuration file (TOML); without one, the defaults hold.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Data directory of the process.
    #[arg(long, global = true, value_name = "DIR", default_value = DATA)]
    pub data: PathBuf,

    /// One setting, over the file: `--set collector.listen='["127.0.0.1:2055"]'`. May be given often.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration and say what is wrong, with file, line and remedy.
    Check,
    /// Print settings.
    Config(ConfigArgs),
    /// The inventory: machines, networks, and the numbered flows between them.
    Roles(JsonArgs),
    /// Send the UDP packets of a capture again.
    Replay(ReplayArgs),
    /// Put captures and files of nfdump into the running process, with the files' own times.
    ///
    /// Ends when everything is on the disk, in the process's flow log; nothing is dropped: where the process is busy,
    /// or half of its log (collector.log_octets_max) is taken, the import waits. What arrives meanwhile over the
    /// network is stored behind it. A file that is imported twice is stored, and counts, twice. Templates in a file
    /// do not change what the process knows of the exporters; [[exporter]] sampling and names hold. Flows older than
    /// store.retention_flows_s go with the others of their age, which is said; their sums of one and five minutes stay.
    Import(ImportArgs),
    /// Send flow records at a given rate.
    Generate(GenerateArgs),
    /// Be an internet provider: routers, resolvers and SNMP agents on loopback addresses.
    Simulate(SimulateArgs),
    /// Ask the running process about traffic.
    Query(QueryArgs),
    /// Ask the running process in SQL (read only; tables flows, rollup_1m, rollup_5m).
    Sql(SqlArgs),
    /// Routes of the running process.
    Rib(RibArgs),
    /// The network graph of the running process: nodes, links, and paths between routers.
    Graph(GraphArgs),
    /// Feeds and losses of the running process.
    Status(FeedArgs),
    /// Exporters of the running process: rate, loss by cause, templates, sampling, last seen; drawn anew each second.
    Flows(FlowsArgs),
    /// Set a user's password for the page (the process must not be running).
    Passwd(PasswdArgs),
    /// Tokens with which other machines ask over HTTPS.
    Token(TokenArgs),
    /// The store of a process that is not running.
    Store(StoreArgs),
    /// Certificates for the links between machines.
    Ca(CaArgs),
    /// The collector and its log alone, for measurements.
    BenchCollector(BenchCollectorArgs),
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Every setting with its default, commented.
    #[arg(long, conflicts_with = "effective")]
    pub defaults: bool,
    /// What holds after file and --set; secrets are left out.
    #[arg(long)]
    pub effective: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// pcap, pcapng, IPFIX file, file of nfdump 1.6 or 1.7 (its flows are sent as IPFIX), or one UDP payload (.dat,
    /// .bin); also compressed (gzip, bzip2, zstd).
    #[arg(required = true)]
    pub capture: Vec<PathBuf>,
    /// Where to send to.
    #[arg(long, value_name = "HOST:PORT")]
    pub to: String,
    /// Times the capture's own pace; 0 is as fast as possible.
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Only packets to this UDP port of the capture.
    #[arg(long)]
    pub port: Option<u16>,
    /// Send this often; 0 is until stopped.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Send from the capture's own source addresses, which this machine must have; without it, an exporter becomes
    /// an address 127.x.y.z towards loopback.
    #[arg(long)]
    pub keep_source: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// pcap, pcapng, IPFIX file (RFC 5655), file of nfdump 1.6 or 1.7 in any compression, or one UDP payload (.dat,
    /// .bin); also compressed (gzip, bzip2, zstd). In order, the oldest first: templates are found in earlier files.
    #[arg(required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Only packets to this UDP port of a capture.
    #[arg(long)]
    pub port: Option<u16>,
    /// Exporter of files that do not say it: IPFIX files and payloads; 127.0.0.2 without it.
    #[arg(long, value_name = "ADDRESS")]
    pub exporter: Option<std::net::IpAddr>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FlowProtocol {
    V5,
    V9,
    Ipfix,
    Sflow,
}

#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2055")]
    pub to: String,
    /// Records a second, all exporters together; 0 is as fast as the machine can.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Exactly so many records, whatever the time.
    #[arg(long)]
    pub count: Option<u64>,
    /// Source addresses, one an exporter.
    #[arg(long, default_value_t = 4)]
    pub exporters: u32,
    /// The first of these addresses, which this machine must have; without it, 127.17.0.1 towards loopback.
    #[arg(long, value_name = "ADDRESS")]
    pub first_source: Option<std::net::Ipv4Addr>,
    /// 0 is as many as fit.
    #[arg(long, default_value_t = 19)]
    pub records_per_packet: usize,
    #[arg(long, value_enum, default_value_t = FlowProtocol::Ipfix)]
    pub protocol: FlowProtocol,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Every record differs from all others in (src_addr, src_port, dst_port).
    #[arg(long)]
    pub unique_key: bool,
    /// First of those keys, so that runs one after the other stay distinct.
    #[arg(long, default_value_t = 0)]
    pub first_key: u64,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scale {
    Small,
    Medium,
    Large,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[arg(long, value_enum, default_value_t = Scale::Small)]
    pub scale: Scale,
    /// Write what really flowed, per 5 minutes and dimension, as JSON lines.
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Write the graph of the provider's IS-IS, as BGP-LS tells it and with all distances, as JSON.
    #[arg(long, value_name = "FILE")]
    pub graph: Option<PathBuf>,
    /// So many further routers are in the IS-IS, behind the provider's own; they neither export nor speak.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=20_000))]
    pub igp_nodes: u32,
    /// Break one thing at a known time: sampling, loss, flap, silent or ifindex, as in loss@60 or silent@60:r1.
    #[arg(long, value_name = "FAULT@SECONDS[:ROUTER]")]
    pub fault: Vec<String>,
    /// One of so many packets is sampled; 1 is all.
    #[arg(long, default_value_t = 1)]
    pub sampling: u32,
    /// How long to run; until SIGINT without it.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Conversations a second at the day's peak; by scale without it.
    #[arg(long)]
    pub conversations: Option<f64>,
    /// Write the resolvers' dnstap frames to this file too.
    #[arg(long, value_name = "FILE")]
    pub dnstap_file: Option<PathBuf>,
    /// Flows of the past, sent first and fast: 30m.
    #[arg(long, value_name = "DURATION")]
    pub backfill: Option<String>,
    /// Print the configuration for `benocs --role all` that fits this provider, and end.
    #[arg(long)]
    pub print_config: bool,
    /// Where NetFlow and IPFIX go.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2055")]
    pub collector: String,
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6343")]
    pub sflow: String,
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1179")]
    pub bgp: String,
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5453")]
    pub dnstap: String,
    /// UDP port of the SNMP agents, one on each router's address.
    #[arg(long, default_value_t = 1161)]
    pub snmp_port: u16,
    /// Directory for what the printed configuration refers to (community files).
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
    /// Address-to-AS table (folder or CSV file of @ip-location-db/asn); without it, a small built-in one.
    #[arg(long, value_name = "PATH")]
    pub as_table: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Sightings {
    Counted,
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Order {
    Octets,
    Packets,
    Flows,
}

#[derive(Debug, Args)]
pub struct QueryArgs {
    /// List the dimensions and end.
    #[arg(long)]
    pub dimensions: bool,
    /// RFC 3339, -10m, or now.
    #[arg(long, default_value = "-1h", allow_hyphen_values = true)]
    pub from: String,
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub to: String,
    /// Dimensions with commas: src_as,dst_as; `time` for a series.
    #[arg(long, value_delimiter = ',')]
    pub by: Vec<String>,
    /// For example: src_as = AS15169 AND in_if_boundary = external
    #[arg(long, default_value = "")]
    pub filter: String,
    /// The largest so many rows; the rest is summed in `other`.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Width of a time bucket in seconds; without it, about 200 buckets.
    #[arg(long, value_name = "SECONDS")]
    pub resolution: Option<u64>,
    #[arg(long, value_enum, default_value_t = Order::Octets)]
    pub order: Order,
    /// `all` shows also the sightings on other routers that are not counted.
    #[arg(long, value_enum, default_value_t = Sightings::Counted)]
    pub sightings: Sightings,
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

// Asks another machine instead of the process of `--data`. No doc comment: clap would take it for the command's own.
#[derive(Debug, Args)]
pub struct RemoteArgs {
    /// Ask another machine, over HTTPS and with a token: https://HOST[:PORT].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A file whose first line is the token (see `benocs token create`); without it, $BENOCS_TOKEN.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// Trust this certificate, or this authority's (PEM), instead of the system's authorities.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SqlArgs {
    pub statement: String,
}

#[derive(Debug, Args)]
pub struct RibArgs {
    #[command(subcommand)]
    pub command: RibCommand,
}

#[derive(Debug, Subcommand)]
pub enum RibCommand {
    /// What a router does with an address: prefix, path, next hop, and whose table said so.
    Lookup {
        address: String,
        /// Name or address of the router; every peer without it.
        #[arg(long)]
        router: Option<String>,
        /// Name of a VRF, as [[bgp.vrf]] gives it; the global table without it.
        #[arg(long)]
        vrf: Option<String>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// What happened to a prefix: announced, withdrawn, by whom, when; sessions that came and went.
    History(RibHistoryArgs),
    /// Put the routes of MRT files (RFC 6396) into the running process's table.
    ///
    /// The peers in a file are peers of the table, named after the file and their address: they answer after routers'
    /// own sessions, and as a fallback like these. A file of the same name takes the place of the one before; routes of
    /// files go when the process ends. Tables (TABLE_DUMP, TABLE_DUMP_V2) and updates (BGP4MP) of IPv4 and IPv6 unicast
    /// are read, with path identifiers.
    Import {
        /// In order; also compressed (gzip, bzip2, zstd).
        #[arg(required = true, value_name = "FILE")]
        file: Vec<PathBuf>,
        #[arg(long)]
        json: bool,
    },
    /// Write the running process's table to a file, as TABLE_DUMP_V2 of MRT (RFC 6396).
    ///
    /// IPv4 and IPv6 unicast of all peers that name flows, the global table's. When a route came is not kept: the time of
    /// each is the dump's.
    Dump {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only this router's, by name or address.
        #[arg(long)]
        router: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// FlowSpec rules that routers announce; they are shown, not applied.
    Flowspec {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct RibHistoryArgs {
    /// A prefix, or an address: every prefix that covers it.
    pub prefix: String,
    /// RFC 3339, -10m, or now.
    #[arg(long, default_value = "-1h", allow_hyphen_values = true)]
    pub from: String,
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub to: String,
    /// Name or address of the session; every one without it.
    #[arg(long)]
    pub router: Option<String>,
    /// Of more events, the newest.
    #[arg(long, default_value_t = 1000)]
    pub limit: usize,
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GraphArgs {
    #[command(subcommand)]
    pub command: Option<GraphCommand>,
    #[command(flatten)]
    pub feed: FeedArgs,
}

#[derive(Debug, Subcommand)]
pub enum GraphCommand {
    /// The shortest path between two routers: hop by hop with its cost, and how many cost the same.
    Path {
        /// Name, address or system id of a router.
        from: String,
        to: String,
        #[command(flatten)]
        feed: FeedArgs,
    },
}

#[derive(Debug, Args)]
pub struct JsonArgs {
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FlowsOrder {
    /// Records a second.
    #[default]
    Records,
    /// Datagrams a second.
    Datagrams,
    Lost,
    Templates,
    /// The longest silent first.
    Seen,
    Name,
}

#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// One JSON document with everything that is known.
    #[arg(long)]
    pub json: bool,
    /// Print once and end, as where the output is no terminal.
    #[arg(long)]
    pub once: bool,
    #[arg(long, value_enum, default_value_t)]
    pub sort: FlowsOrder,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub struct FeedArgs {
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once, only its hash is kept.
    Create {
        /// What it is for.
        #[arg(long)]
        label: String,
        /// What it may do: a viewer asks and sees the feeds, an analyst looks up routes too.
        #[arg(long, value_enum, default_value_t = TokenRole::Viewer)]
        role: TokenRole,
        /// Whose it is; it ends with the user and may do no more.
        #[arg(long, default_value = "admin")]
        user: String,
        /// How long it lives.
        #[arg(long, default_value_t = 365)]
        days: u32,
        /// Write it to this new file (0600) instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Tokens, without their secrets.
    List {
        #[arg(long)]
        json: bool,
    },
    /// Remove a token, by its id in the list.
    Remove { id: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TokenRole {
    Viewer,
    Analyst,
    Operator,
    Administrator,
}

#[derive(Debug, Args)]
pub struct PasswdArgs {
    #[arg(default_value = "admin")]
    pub user: String,
    /// Read the password from standard input; without it, a random one is printed.
    #[arg(long)]
    pub stdin: bool,
}

#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read every file and compare it with the manifest.
    Verify,
}

#[derive(Debug, Args)]
pub struct CaArgs {
    /// Directory of the certificate authority; made where it is missing.
    #[arg(long, value_name = "DIR")]
    pub ca: PathBuf,
    #[command(subcommand)]
    pub command: CaCommand,
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Issue certificate and key of a role into a directory.
    Issue {
        role: String,
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct BenchCollectorArgs {
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: std::net::SocketAddr,
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: std::net::SocketAddr,
}
