//! The page and its API, over HTTPS.
//!
//! [`Web::start`] listens; it asks [`Engines`] and nobody else, and writes only
//! its own state: users, sessions, tokens. What it serves is in [`api`]; the
//! page (`ui/`, built by npm) is embedded in the binary.
//!
//! TLS 1.2 (RFC 5246) and 1.3 (RFC 8446) by rustls; HTTP/1.1 and HTTP/2
//! (RFC 9112, RFC 9113); passwords by argon2id (RFC 9106).

pub mod accounts;
mod actor;
pub mod api;
mod assets;
mod audit;
mod config;
mod error;
mod guard;
mod lockout;
mod metrics;
mod password;
pub mod status;
mod tls;
mod tokens;
mod when;

pub use accounts::{Accounts, Role};
pub use actor::{Engines, GraphAnswer, HistoryAnswer, RibAnswer, TokenAnswer, Web};
pub use config::Config;
pub use password::random_password;
pub use tokens::{TokenRequest, answer_here as answer_token_here};
