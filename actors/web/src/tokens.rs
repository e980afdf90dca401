//! Tokens for other machines, as `benocs token` makes and removes them: on the
//! machine itself, over the control socket or on a directory that nothing runs on.

use std::path::Path;

use anyhow::{Context as _, bail};
use benocs_runtime::state::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::accounts::{Accounts, Role};
use crate::audit::Audit;
use crate::when;

pub const DAYS_MAX: u32 = 3_660;
pub(crate) const DAY_MS: i64 = 86_400_000;

/// Stands in the audit log where a user's address does.
const HERE: &str = "command line";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRequest {
    /// Answered by `{"token": secret}`.
    Create {
        user: String,
        label: String,
        role: Role,
        days: u32,
    },
    /// Answered by a list of [`crate::accounts::TokenInfo`].
    List,
    Remove {
        id: String,
    },
}

/// Where no process runs on the data directory.
pub fn answer_here(state: &State, data: &Path, request: &TokenRequest) -> anyhow::Result<Value> {
    let value = answer(&Accounts::open(state)?, &Audit::open(data)?, request)?;
    state.flush()?;
    Ok(value)
}

pub(crate) fn answer(accounts: &Accounts, audit: &Audit, request: &TokenRequest) -> anyhow::Result<Value> {
    match request {
        TokenRequest::Create { user, label, role, days } => {
            if !(1..=DAYS_MAX).contains(days) {
                bail!("a token lives 1 to {DAYS_MAX} days");
            }
            let lifetime_ms = i64::from(*days) * DAY_MS;
            let secret = accounts.create_token(user, label, *role, lifetime_ms, when::now_ms())?;
            audit.write(user, HERE, "token_created", label);
            Ok(json!({ "token": secret }))
        }
        TokenRequest::List => serde_json::to_value(accounts.tokens()).context("tokens"),
        TokenRequest::Remove { id } => {
            if !accounts.remove_token(id, None)? {
                bail!("there is no token {id}: benocs token list shows them");
            }
            audit.write("", HERE, "token_removed", id);
            Ok(Value::Null)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_listed_and_removed_and_its_secret_is_nowhere() -> anyhow::Result<()> {
        let (state, data) = (State::temporary()?, tempfile::tempdir()?);
        let create = |user: &str, days| TokenRequest::Create {
            user: user.to_owned(),
            label: "grafana".to_owned(),
            role: Role::Viewer,
            days,
        };
        assert!(answer_here(&state, data.path(), &create("admin", 30)).is_err(), "there is no user yet");
        let accounts = Accounts::open(&state)?;
        accounts.first_user(None, 0)?;
        for days in [0, DAYS_MAX + 1] {
            assert!(answer_here(&state, data.path(), &create("admin", days)).is_err());
        }
        let made = answer_here(&state, data.path(), &create("admin", 30))?;
        let secret = made["token"].as_str().context("a secret")?;
        let identity = accounts.token(secret, when::now_ms())?.context("an identity")?;
        assert_eq!((identity.user.as_str(), identity.role), ("admin", Role::Viewer));
        assert!(accounts.token(secret, when::now_ms() + 31 * DAY_MS)?.is_none());
        let list = answer_here(&state, data.path(), &TokenRequest::List)?;
        assert_eq!((list[0]["label"].as_str(), list[1].is_null()), (Some("grafana"), true));
        let audit = std::fs::read_to_string(data.path().join("audit.jsonl"))?;
        assert!(audit.contains("token_created"), "{audit}");
        for text in [list.to_string(), audit] {
            assert!(!text.contains(secret.trim_start_matches("bnc_")), "{text}");
        }
        let id = list[0]["id"].as_str().context("an id")?.to_owned();
        answer_here(&state, data.path(), &TokenRequest::Remove { id: id.clone() })?;
        assert!(accounts.token(secret, when::now_ms())?.is_none());
        assert!(answer_here(&state, data.path(), &TokenRequest::Remove { id }).is_err());
        Ok(())
    }
}
