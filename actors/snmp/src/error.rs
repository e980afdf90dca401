//! What a person has to mend.

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("snmp.classify: regex {regex:?}: {source}")]
    Regex { regex: String, source: Box<regex::Error> },
    #[error("{setting}: {value:?} is not known: one of {allowed}")]
    Unknown { setting: String, value: String, allowed: String },
}
