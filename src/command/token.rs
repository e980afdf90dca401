//! Tokens with which other machines ask over HTTPS.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use benocs_runtime::state::State;
use benocs_web::{Role, TokenRequest};
use serde_json::Value;

use super::table;
use crate::cli::{TokenArgs, TokenCommand, TokenRole};
use crate::control::{self, Request};
use crate::{compose, when};

pub fn run(data: &Path, arguments: TokenArgs) -> anyhow::Result<()> {
    match arguments.command {
        TokenCommand::Create { label, role, user, days, out } => {
            // Opened first: a token that nobody gets to see must not be left behind.
            let file = out.as_deref().map(private).transpose()?;
            let role = match role {
                TokenRole::Viewer => Role::Viewer,
                TokenRole::Analyst => Role::Analyst,
                TokenRole::Operator => Role::Operator,
                TokenRole::Administrator => Role::Administrator,
            };
            let made = ask(data, TokenRequest::Create { user, label, role, days });
            if let (Err(_), Some(path)) = (&made, &out) {
                std::fs::remove_file(path)?;
            }
            let made = made?;
            let secret = made["token"].as_str().context("the process answers in another version")?;
            match file {
                Some(mut file) => {
                    writeln!(file, "{secret}")?;
                    file.sync_all()?;
                }
                None => println!("{secret}"),
            }
            Ok(())
        }
        TokenCommand::List { json } => {
            let list = ask(data, TokenRequest::List)?;
            if json {
                println!("{list}");
                return Ok(());
            }
            let time = |value: &Value| value.as_i64().map(when::rfc3339).unwrap_or_default();
            let rows = list.as_array().into_iter().flatten().map(|token| {
                let mut row: Vec<String> =
                    ["id", "user", "role", "label"].iter().map(|name| table::cell(&token[*name])).collect();
                row.extend([time(&token["created_ms"]), time(&token["expires_ms"])]);
                row
            });
            table::print(&["id", "user", "role", "label", "created", "expires"], &rows.collect::<Vec<_>>());
            Ok(())
        }
        TokenCommand::Remove { id } => ask(data, TokenRequest::Remove { id }).map(drop),
    }
}

/// The process where one runs, else its state.
fn ask(data: &Path, request: TokenRequest) -> anyhow::Result<Value> {
    if control::is_answered(data) {
        return control::ask(data, &Request::Token(request));
    }
    let path = compose::state_path(data);
    anyhow::ensure!(path.exists(), "{} is no data directory of benocs: give the one with --data", data.display());
    benocs_web::answer_token_here(&State::open(&path)?, data, &request)
}

/// A new file that nobody else can read.
fn private(path: &Path) -> anyhow::Result<std::fs::File> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot make {}", path.display()))
}
