//! Settings: typed defaults, then the file, then `--set`, each over the last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use benocs_model::address::{Address, Prefix};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Every setting with its default, commented; a test holds it against [`Settings::default`].
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// The configuration is wrong: the process ends with status 78.
#[derive(Debug)]
pub struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

fn wrong(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Wrong(message.into()))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub admin: Admin,
    pub log: Log,
    pub network: Network,
    pub collector: benocs_collector::Config,
    pub sflow: Sflow,
    pub bgp: benocs_bgp::Config,
    pub engine: Engine,
    pub snmp: benocs_snmp::Config,
    pub dnstap: benocs_dnstap::Config,
    pub enricher: benocs_enricher::Config,
    pub aggregator: benocs_aggregator::Config,
    pub store: benocs_store::Config,
    pub web: benocs_web::Config,
    pub link: Link,
    pub exporter: Vec<Exporter>,
    pub interface: Vec<benocs_snmp::StaticInterface>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Addresses of /metrics, /healthz and /readyz.
    pub listen: Vec<String>,
    /// How long a drain may take, seconds.
    pub drain_s: u64,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: vec!["127.0.0.1:9100".to_owned()], drain_s: 30 }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// The network graph where no router tells it over BGP-LS, as JSON or TOML; empty is none.
    pub graph_file: PathBuf,
}

impl Engine {
    pub fn graph_file(&self) -> Option<&Path> {
        Some(self.graph_file.as_path()).filter(|path| !path.as_os_str().is_empty())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// error, warn, info, debug or trace; or per crate, as in `info,benocs_bgp=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The own AS, and further ones that count as own; without one, `bgp.local_as`.
    pub own_as: Vec<u32>,
    /// Prefixes that are the own AS whatever the routes say.
    pub own_prefixes: Vec<String>,
    /// AS names, lines of "number,name" (CSV).
    pub as_names_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sflow {
    /// Addresses for sFlow alone (it is taken on `collector.listen` too); 6343 is the usual port.
    pub listen: Vec<String>,
}

/// How roles in different processes reach each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Directory with ROLE.pem and ROLE.key of each role of this process, and ca.pem (see `benocs ca issue`).
    pub certificates: PathBuf,
    /// Address to be reached at, by role of this process; only process00, process01, storage00 and af00 are reached.
    pub listen: BTreeMap<String, String>,
    /// host:port of roles in other processes.
    pub peer: BTreeMap<String, String>,
    pub tuning: benocs_link::Config,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            certificates: PathBuf::from("/etc/benocs/link"),
            listen: BTreeMap::new(),
            peer: BTreeMap::new(),
            tuning: benocs_link::Config::default(),
        }
    }
}

/// A router that exports flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exporter {
    pub address: IpAddr,
    pub name: Option<String>,
    /// A file whose first line is the SNMP v2c community; without it the router is not polled.
    pub snmp_community_file: Option<PathBuf>,
    pub snmp_port: Option<u16>,
    /// One of so many packets is sampled, where the router does not say it.
    pub sampling: Option<u32>,
}

impl Settings {
    pub fn load(file: Option<&Path>, sets: &[String]) -> anyhow::Result<Self> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
            // Once on its own, so that an error names the file's line.
            toml::from_str::<Self>(&text).map_err(|error| wrong(located(path, &text, &error)))?;
            table = text.parse().map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        }
        for set in sets {
            apply(&mut table, set)?;
        }
        table.try_into().map_err(|error: toml::de::Error| wrong(format!("--set: {}", error.message())))
    }
}

/// "file:line: what is wrong": the parser's own words, without its drawing.
fn located(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("{}:{line}: {}", path.display(), error.message().replace('\n', " "))
}

/// Puts "file:line: " before an error that begins with a setting of the file, as in `bgp.peer[1].address: ...`.
pub fn locate(error: anyhow::Error, file: Option<&Path>, sets: &[String]) -> anyhow::Error {
    let (Some(Wrong(message)), Some(path)) = (error.downcast_ref::<Wrong>(), file) else { return error };
    let part_of_setting = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    let setting = message.split(|c| !part_of_setting(c)).next().unwrap_or_default();
    // What --set gave is not in the file.
    let section = setting.split(['.', '[']).next().unwrap_or_default();
    let given = |set: &String| {
        let key = set.split('=').next().unwrap_or_default().trim();
        key == section || setting.starts_with(key)
    };
    if sets.iter().any(given) {
        return error;
    }
    match std::fs::read_to_string(path).ok().and_then(|text| line_of(&text, setting)) {
        Some(line) => wrong(format!("{}:{line}: {message}", path.display())),
        None => error,
    }
}

/// Line of the setting, or of the table that would have it.
fn line_of(text: &str, setting: &str) -> Option<usize> {
    let root = toml::de::DeTable::parse(text).ok()?;
    let (mut table, mut found) = (root.get_ref(), None);
    for part in setting.split('.') {
        let (name, number) = match part.split_once('[') {
            Some((name, number)) => (name, number.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
        let (mut value, mut at) = (value, key.span().start);
        if let (Some(number), Some(all)) = (number, value.get_ref().as_array()) {
            let Some(one) = all.get(number) else { break };
            (value, at) = (one, one.span().start);
        }
        found = Some(at);
        match value.get_ref().as_table() {
            Some(inner) => table = inner,
            None => break,
        }
    }
    Some(text[..found?.min(text.len())].matches('\n').count() + 1)
}

/// Sets `a.b.c=value`; what is not a TOML value is a string.
fn apply(table: &mut toml::Table, set: &str) -> anyhow::Result<()> {
    let (key, value) = set
        .split_once('=')
        .ok_or_else(|| wrong(format!("--set {set}: write key=value, for example bgp.local_as=64500")))?;
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value").unwrap_or_else(|| toml::Value::String(value.to_owned())),
        Err(_) => toml::Value::String(value.to_owned()),
    };
    let (parents, last) = match key.trim().rsplit_once('.') {
        Some((parents, last)) => (parents.split('.').collect(), last),
        None => (Vec::new(), key.trim()),
    };
    let mut inner = table;
    for parent in parents {
        let entry = inner.entry(parent).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        inner = entry
            .as_table_mut()
            .ok_or_else(|| wrong(format!("--set {key}: {parent} is not a section of the configuration")))?;
    }
    inner.insert(last.to_owned(), value);
    Ok(())
}

/// Addresses to listen on, as settings write them.
pub fn addresses(setting: &str, listen: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    listen
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|_| wrong(format!("{setting}: {text:?} is not an address with a port, as in 127.0.0.1:2055")))
        })
        .collect()
}

impl Settings {
    /// What the types cannot hold: addresses, duplicates, files that are missing.
    pub fn check(&self) -> anyhow::Result<()> {
        for (setting, listen) in [
            ("admin.listen", &self.admin.listen),
            ("collector.listen", &self.collector.listen),
            ("collector.ipfix_tcp_listen", &self.collector.ipfix_tcp_listen),
            ("collector.ipfix_tls_listen", &self.collector.ipfix_tls_listen),
            ("sflow.listen", &self.sflow.listen),
            ("bgp.listen", &self.bgp.listen),
            ("bgp.bmp.listen", &self.bgp.bmp.listen),
            ("dnstap.listen", &self.dnstap.listen),
            ("web.listen", &self.web.listen),
            ("web.redirect_listen", &self.web.redirect_listen),
        ] {
            addresses(setting, listen)?;
        }
        let mut seen = BTreeSet::new();
        for (number, exporter) in self.exporter.iter().enumerate() {
            let setting = |field: &str| format!("exporter[{number}].{field}");
            if !seen.insert(exporter.address) {
                return Err(wrong(format!("{}: {} is there twice: keep one", setting("address"), exporter.address)));
            }
            if let Some(file) = &exporter.snmp_community_file {
                readable(file, &setting("snmp_community_file"))?;
            }
            if exporter.sampling == Some(0) {
                return Err(wrong(format!("{}: 0 is no rate: 1 is unsampled", setting("sampling"))));
            }
        }
        if let Some(interface) = self.interface.iter().find(|interface| interface.sampling == Some(0)) {
            let (exporter, if_index) = (interface.exporter, interface.if_index);
            return Err(wrong(format!("interface {exporter} {if_index}: sampling 0 is no rate: 1 is unsampled")));
        }
        self.collector.decode.check().map_err(wrong)?;
        let mut peers = BTreeSet::new();
        for (number, peer) in self.bgp.peer.iter().enumerate() {
            if !peers.insert((&peer.address, &peer.local_address)) {
                return Err(wrong(format!("bgp.peer[{number}].address: {} is there twice: keep one", peer.address)));
            }
        }
        self.collector().check().map_err(|error| wrong(error.to_string()))?;
        self.bgp.check().map_err(|error| wrong(error.to_string()))?;
        if let Some(file) = self.engine.graph_file() {
            benocs_engine::check_file(file).map_err(|error| wrong(format!("engine.graph_file: {error:#}")))?;
        }
        self.own_prefixes()?;
        EnvFilter::try_new(&self.log.level)
            .map_err(|error| wrong(format!("log.level {:?} is not a level: {error}", self.log.level)))?;
        self.dnstap.check().map_err(|error| wrong(error.to_string()))?;
        let snmp = benocs_snmp::Config { interfaces: self.interface.clone(), ..self.snmp.clone() };
        snmp.check().map_err(|error| wrong(error.to_string()))?;
        if self.web.certificate_file.is_some() != self.web.key_file.is_some() {
            return Err(wrong("web.certificate_file and web.key_file go together: give both or none"));
        }
        Ok(())
    }

    /// Files that the roles of a machine read; others need not have them.
    pub fn check_files(&self, runs: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let web = [
            ("web.certificate_file", &self.web.certificate_file),
            ("web.key_file", &self.web.key_file),
            ("web.admin_password_file", &self.web.admin_password_file),
        ];
        let web = if runs("af00") { &web[..] } else { &[] };
        for (setting, file) in [("network.as_names_file", &self.network.as_names_file)].iter().chain(web) {
            if let Some(file) = file {
                readable(file, setting)?;
            }
        }
        if runs("dns00") {
            self.dnstap.service_rules().map_err(|error| wrong(error.to_string().replace('\n', " ")))?;
        }
        Ok(())
    }

    /// What configuration says of the collector and of exporters, in its words.
    pub fn collector(&self) -> benocs_collector::Config {
        let mut config = self.collector.clone();
        config.sflow.listen = self.sflow.listen.clone();
        config.decode.exporters.extend(self.exporter.iter().map(|exporter| benocs_collector::decode::ExporterConfig {
            address: exporter.address,
            name: exporter.name.clone(),
            sampling: exporter.sampling,
        }));
        config.decode.interfaces.extend(self.interface.iter().filter_map(|interface| {
            Some(benocs_collector::decode::InterfaceConfig {
                exporter: interface.exporter,
                if_index: interface.if_index,
                sampling: interface.sampling?,
            })
        }));
        config
    }

    pub fn own_prefixes(&self) -> anyhow::Result<Vec<Prefix>> {
        let parse = |text: &String| {
            let wrong = || wrong(format!("network.own_prefixes: {text:?} is not a prefix, as in 192.0.2.0/24"));
            let (address, len) = text.split_once('/').ok_or_else(wrong)?;
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let len: u8 = len.parse().map_err(|_| wrong())?;
            if len > if address.is_ipv4() { 32 } else { 128 } {
                return Err(wrong());
            }
            Ok(Prefix::new(Address::from(address), len))
        };
        self.network.own_prefixes.iter().map(parse).collect()
    }

    /// The own AS numbers: as configured, else the BGP speaker's.
    pub fn own_as(&self) -> Vec<u32> {
        match (&self.network.own_as[..], self.bgp.local_as) {
            ([], 0) => Vec::new(),
            ([], local) => vec![local],
            (own, _) => own.to_vec(),
        }
    }
}

fn readable(file: &Path, setting: &str) -> anyhow::Result<()> {
    let opened = std::fs::File::open(file).and_then(|opened| opened.metadata());
    match opened {
        Ok(metadata) if metadata.is_dir() => Err(wrong(format!("{setting}: {} is a directory", file.display()))),
        Ok(_) => Ok(()),
        Err(error) => Err(wrong(format!("{setting}: cannot read {}: {error}", file.display()))),
    }
}

/// First line of a secret's file.
pub fn secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_defaults_are_the_defaults_and_all_of_them() {
        let printed: toml::Table = DEFAULTS.parse().expect("defaults.toml is TOML");
        let actual = toml::Table::try_from(Settings::default()).expect("settings serialize");
        for (section, values) in &actual {
            let Some(values) = values.as_table() else { continue };
            let shown = printed.get(section).and_then(toml::Value::as_table);
            for (key, value) in values {
                let shown = shown.and_then(|section| section.get(key));
                assert_eq!(shown, Some(value), "{section}.{key} in defaults.toml");
            }
        }
        let parsed: Settings = toml::from_str(DEFAULTS).expect("defaults.toml holds settings and nothing else");
        assert_eq!(toml::Table::try_from(parsed).expect("settings serialize"), actual);
        for optional in [
            "certificate_file",
            "ipfix_tls_key_file",
            "ipfix_tls_client_ca_file",
            "fan_out]]",
            "as_names_file",
            "snmp_community_file",
            "services_file",
            "remote_as",
        ] {
            assert!(DEFAULTS.contains(optional), "{optional} is shown, commented out");
        }
    }

    #[test]
    fn a_wrong_file_is_located() -> anyhow::Result<()> {
        let directory = std::env::temp_dir().join(format!("benocs-settings-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let file = directory.join("wrong.toml");
        std::fs::write(&file, "[bgp]\nlocal_as = 64500\n\n[collector]\nlisten_on = []\n")?;
        let error = Settings::load(Some(&file), &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("wrong.toml:5:") && text.contains("listen_on"), "{text}");
        assert!(error.downcast_ref::<Wrong>().is_some());
        std::fs::remove_dir_all(&directory)?;
        Ok(())
    }

    #[test]
    fn what_types_cannot_hold_is_located_too() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("wrong.toml");
        let text = "[collector]\nnap_ms = 1\nlisten = [\"2055\"]\n\n[[bgp.peer]]\naddress = \"192.0.2.1\"\nremote_as = 1\n\n\
                    [[bgp.peer]]\nremote_as = 1\naddress = \"192.0.2.1\"\n\n[log]\nlevel = \"a=b=c\"\n";
        std::fs::write(&file, text)?;
        let check = |sets: &[&str]| -> anyhow::Result<String> {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            let error = Settings::load(Some(&file), &sets)?.check().unwrap_err();
            let error = locate(error, Some(&file), &sets);
            assert!(error.downcast_ref::<Wrong>().is_some());
            Ok(error.to_string())
        };
        let error = check(&[])?;
        assert!(error.contains("wrong.toml:3: collector.listen"), "{error}");
        let error = check(&["collector.listen=[]"])?;
        assert!(error.contains("wrong.toml:11: bgp.peer[1].address"), "{error}");
        let error = check(&["collector.listen=[]", "bgp.peer=[]"])?;
        assert!(error.contains("wrong.toml:14: log.level"), "{error}");
        let error = check(&["collector.listen=[\"x\"]"])?;
        assert!(error.starts_with("collector.listen"), "{error}");
        assert_eq!(line_of(text, "bgp.peer[1].password_file"), Some(9), "the table that would have it");
        Ok(())
    }

    #[test]
    fn every_setting_can_be_set() -> anyhow::Result<()> {
        let settings = Settings::load(
            None,
            &[
                "collector.listen=[\"127.0.0.1:9\"]".to_owned(),
                "bgp.local_as=64500".to_owned(),
                "bgp.router_id=192.0.2.10".to_owned(),
                "log.level=debug".to_owned(),
                "exporter=[{address=\"192.0.2.1\", sampling=100}]".to_owned(),
                "collector.decode.map=[{element=\"64512/7\", column=\"application_id\"}]".to_owned(),
            ],
        )?;
        assert_eq!(settings.collector.listen, ["127.0.0.1:9"]);
        assert_eq!((settings.own_as(), settings.log.level.as_str()), (vec![64500], "debug"));
        assert_eq!(settings.exporter[0].sampling, Some(100));
        for bad in ["no-equals", "bgp.local_as=many", "bgp.nothing=1", "log.level.deeper=1"] {
            let error = Settings::load(None, &[bad.to_owned()]).unwrap_err();
            assert!(error.downcast_ref::<Wrong>().is_some(), "{bad}: {error:#}");
        }
        Ok(())
    }

    #[test]
    fn contradictions_are_found() -> anyhow::Result<()> {
        for (set, word) in [
            ("collector.listen=[\"2055\"]", "collector.listen"),
            ("collector.ipfix_tcp_listen=[\"4739\"]", "collector.ipfix_tcp_listen"),
            ("collector.ipfix_tls_listen=[\"127.0.0.1:4740\"]", "ipfix_tls_certificate_file"),
            ("collector.fan_out=[{to=[\"127.0.0.1:2055\"]}]", "this collector itself"),
            ("collector.fan_out=[{to=[]}]", "nobody"),
            ("exporter=[{address=\"192.0.2.1\"},{address=\"192.0.2.1\"}]", "twice"),
            ("exporter=[{address=\"192.0.2.1\",sampling=0}]", "sampling"),
            ("interface=[{exporter=\"192.0.2.1\",if_index=7,sampling=0}]", "interface 192.0.2.1 7: sampling"),
            ("collector.decode.map=[{element=\"95\",column=\"src_addr\"}]", "octetArray"),
            ("collector.decode.map=[{element=\"9/12232\",column=\"application_id\"}]", "applicationCategoryName"),
            ("collector.decode.map=[{element=\"64512/7\",column=\"application\"}]", "no column \"application\""),
            ("network.own_prefixes=[\"10.0.0.0/33\"]", "own_prefixes"),
            ("exporter=[{address=\"192.0.2.1\",snmp_community_file=\"/nonexistent/c\"}]", "snmp_community_file"),
            ("log.level=loud=very", "log.level"),
            ("web.certificate_file=/dev/null", "go together"),
            ("snmp.classify=[{field=\"name\",regex=\"(\"}]", "snmp.classify"),
            ("interface=[{exporter=\"192.0.2.1\",if_index=7,boundary=\"outside\"}]", "external, internal"),
            ("dnstap.client_prefix_v4=33", "client_prefix_v4"),
        ] {
            let error = Settings::load(None, &[set.to_owned()])?.check().unwrap_err().to_string();
            assert!(error.contains(word), "{set}: {error}");
        }
        Settings::default().check()
    }

    #[test]
    fn files_are_looked_for_where_they_are_read() -> anyhow::Result<()> {
        for (set, role, word) in [
            ("network.as_names_file=/nonexistent/names", "ce00", "as_names_file"),
            ("web.key_file=/tmp", "af00", "directory"),
            ("web.admin_password_file=/nonexistent/password", "af00", "admin_password_file"),
            ("dnstap.services_file=/nonexistent/rules", "dns00", "/nonexistent/rules"),
        ] {
            let settings = Settings::load(None, &[set.to_owned()])?;
            let error = settings.check_files(|runs| runs == role).unwrap_err();
            assert!(error.to_string().contains(word) && error.downcast_ref::<Wrong>().is_some(), "{set}: {error}");
        }
        let settings = Settings::load(None, &["web.key_file=/nonexistent/key".to_owned()])?;
        settings.check_files(|role| role != "af00")
    }
}
