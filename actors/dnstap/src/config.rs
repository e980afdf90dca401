//! Settings of the dnstap receiver.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use benocs_model::names::service::RuleFile;
use benocs_model::names::suffix::SuffixList;
use benocs_model::names::{ClientPrefix, Rule, ServiceRules, Settings};
use benocs_wire::dnstap::MessageType;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

const SERVICES: &str = include_str!("../services.toml");

/// Kinds of messages that answers are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    ClientResponse,
    ResolverResponse,
    ForwarderResponse,
    AuthResponse,
}

impl MessageKind {
    pub(crate) fn code(self) -> MessageType {
        match self {
            Self::ClientResponse => MessageType::CLIENT_RESPONSE,
            Self::ResolverResponse => MessageType::RESOLVER_RESPONSE,
            Self::ForwarderResponse => MessageType::FORWARDER_RESPONSE,
            Self::AuthResponse => MessageType::AUTH_RESPONSE,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// TCP addresses that resolvers connect to.
    pub listen: Vec<String>,
    /// Messages that answers are taken from: client_response, resolver_response, forwarder_response, auth_response.
    pub messages: Vec<MessageKind>,
    /// Resolvers' connections at a time; further ones are refused.
    pub connections_max: usize,
    /// Longest frame; a longer one ends its connection.
    pub frame_octets_max: usize,
    /// Answers of one batch.
    pub batch_answers: usize,
    /// A batch waits no longer than this, milliseconds.
    pub flush_ms: u64,
    /// Bits that are kept of a client's IPv4 address.
    pub client_prefix_v4: u8,
    /// Bits that are kept of a client's IPv6 address.
    pub client_prefix_v6: u8,
    /// Rules (domains -> service, provider, category) beside the built-in ones, TOML; theirs win.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services_file: Option<PathBuf>,
    /// The public suffix list; where there is no such file, a short built-in one is used.
    pub public_suffix_file: PathBuf,
    /// Services that get an id; the domains that come later stay unnamed, and are counted.
    pub services_max: usize,
    /// Bounds and times of the name table.
    pub names: Settings,
}

impl Default for Config {
    fn default() -> Self {
        let ClientPrefix { v4, v6 } = ClientPrefix::default();
        Self {
            listen: vec!["0.0.0.0:5453".to_owned()],
            messages: vec![MessageKind::ClientResponse, MessageKind::ResolverResponse],
            connections_max: 256,
            frame_octets_max: 128 << 10,
            batch_answers: 4096,
            flush_ms: 100,
            client_prefix_v4: v4,
            client_prefix_v6: v6,
            services_file: None,
            public_suffix_file: PathBuf::from("/usr/share/publicsuffix/public_suffix_list.dat"),
            services_max: 2_000_000,
            names: Settings::default(),
        }
    }
}

impl Config {
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let parse = |text: &String| text.parse().map_err(|_| ConfigError::Listen(text.clone()));
        self.listen.iter().map(parse).collect()
    }

    pub(crate) fn client_prefix(&self) -> Result<ClientPrefix, ConfigError> {
        let prefix = ClientPrefix { v4: self.client_prefix_v4, v6: self.client_prefix_v6 };
        if prefix.v4 <= 32 && prefix.v6 <= 128 { Ok(prefix) } else { Err(ConfigError::ClientPrefix) }
    }

    /// Finds what is wrong without opening a file.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.addresses()?;
        self.client_prefix().map(drop)
    }

    /// Rules as they hold now; read again to have changes take effect.
    pub fn service_rules(&self) -> Result<ServiceRules, ConfigError> {
        let mut rules = default_services()?;
        if let Some(path) = &self.services_file {
            rules.extend(parse(&read(path)?, &path.display().to_string())?);
        }
        let suffixes = if self.public_suffix_file.is_file() {
            SuffixList::parse(&read(&self.public_suffix_file)?)
        } else {
            SuffixList::default()
        };
        let path = self.services_file.as_deref().unwrap_or(Path::new("the built-in list")).display().to_string();
        ServiceRules::new(rules, suffixes).map_err(|source| ConfigError::Domain { path, source })
    }
}

/// The built-in rules.
pub fn default_services() -> Result<Vec<Rule>, ConfigError> {
    parse(SERVICES, "the built-in list")
}

fn parse(text: &str, path: &str) -> Result<Vec<Rule>, ConfigError> {
    let file: RuleFile = toml::from_str(text).map_err(|source| ConfigError::Rules { path: path.to_owned(), source })?;
    Ok(file.rules)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use benocs_model::names::service::{Belongs, wire_of};

    use super::*;

    #[test]
    fn built_in_rules_are_sound() {
        let rules = default_services().expect("the list parses");
        assert!(rules.len() >= 100, "{}", rules.len());
        let mut domains: Vec<_> = rules.iter().flat_map(|rule| &rule.domains).collect();
        let number = domains.len();
        domains.sort_unstable();
        domains.dedup();
        assert_eq!(domains.len(), number, "a domain is in the list twice");
        let mut names: Vec<_> = rules.iter().map(|rule| &rule.service).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rules.len(), "a service is in the list twice");
        assert!(rules.iter().all(|rule| rule.provider.is_some() && rule.category.is_some()));
    }

    #[test]
    fn a_file_adds_to_the_built_in_rules_and_wins() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[[service]]\nservice = \"Own\"\ndomains = [\"netflix.com\", \"example.org\"]\n";
        std::fs::write(file.path(), text).expect("written");
        let config = Config { services_file: Some(file.path().to_owned()), ..Config::default() };
        let rules = config.service_rules().expect("rules");
        let service = |name: &str| match rules.belongs(&wire_of(name).expect("a name")) {
            Some(Belongs::Rule(rule)) => rule.service.clone(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(service("www.netflix.com"), "Own");
        assert_eq!(service("x.example.org"), "Own");
        assert_eq!(service("x.nflxvideo.net"), "Netflix");
        std::fs::write(file.path(), "[[service]]\nname = 1\n").expect("written");
        let error = config.service_rules().expect_err("a wrong key").to_string();
        assert!(error.contains("service rules in"), "{error}");
    }

    #[test]
    fn settings_survive_toml() {
        let text = toml::to_string(&Config::default()).expect("serializes");
        let config: Config = toml::from_str(&text).expect("parses");
        assert_eq!(config.listen, ["0.0.0.0:5453"]);
        assert!(toml::from_str::<Config>("listn = []").is_err());
        assert!(Config { client_prefix_v4: 33, ..Config::default() }.client_prefix().is_err());
    }
}
