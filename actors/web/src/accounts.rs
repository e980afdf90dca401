//! Users, sessions and tokens, in the state database.
//!
//! Trees: `web_users` by name, `web_sessions` and `web_tokens` by the SHA-256 of
//! their secret: who reads the database cannot log in with what is there.

use anyhow::{Context as _, bail};
use benocs_runtime::state::{State, Tree};
use serde::{Deserialize, Serialize};

use crate::password;

/// Sessions are written again only when this much older, so that a request is no write.
const TOUCH_MS: i64 = 60_000;
const SESSIONS_PER_USER_MAX: usize = 32;
const TOKENS_MAX: usize = 1_000;
const USERS_MAX: usize = 10_000;

/// What a user may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ask questions, see the state of the feeds.
    Viewer,
    /// Also look up routes.
    Analyst,
    /// Also change what is measured.
    Operator,
    /// Also users, tokens, the audit log.
    Administrator,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Analyst => "analyst",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    verifier: String,
    role: Role,
    /// It was made by a machine, and is to be changed.
    one_time: bool,
    changed_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    user: String,
    csrf: String,
    created_ms: i64,
    seen_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    user: String,
    label: String,
    role: Role,
    created_ms: i64,
    expires_ms: i64,
}

/// A user as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct UserInfo {
    pub name: String,
    pub role: Role,
    pub one_time_password: bool,
    pub changed_ms: i64,
}

/// A token as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct TokenInfo {
    /// Begin of its digest.
    pub id: String,
    pub user: String,
    pub label: String,
    pub role: Role,
    pub created_ms: i64,
    pub expires_ms: i64,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Identity {
    pub user: String,
    pub role: Role,
    pub one_time_password: bool,
    /// Of a session; a token needs none.
    pub csrf: Option<String>,
}

/// A session that was just begun: what its cookie and its CSRF header hold.
#[derive(Clone, Debug)]
pub struct Opened {
    pub secret: String,
    pub identity: Identity,
}

/// How long sessions live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    pub idle_ms: i64,
    pub absolute_ms: i64,
}

#[derive(Clone, Debug)]
pub struct Accounts {
    users: Tree,
    sessions: Tree,
    tokens: Tree,
    /// Verified against where the user does not exist, so that it takes as long.
    nobody: String,
}

impl Accounts {
    pub fn open(state: &State) -> anyhow::Result<Self> {
        Ok(Self {
            users: state.tree("web_users")?,
            sessions: state.tree("web_sessions")?,
            tokens: state.tree("web_tokens")?,
            nobody: password::hash(&password::random_secret())?,
        })
    }

    /// Where there is no user yet: creates `admin`, with `given` or a random password, which is returned.
    pub fn first_user(&self, given: Option<&str>, now_ms: i64) -> anyhow::Result<Option<String>> {
        if !self.users.is_empty() {
            return Ok(None);
        }
        let random = password::random_password();
        let password = given.unwrap_or(&random);
        self.put_user("admin", password, Role::Administrator, given.is_none(), now_ms)?;
        self.users.flush()?;
        Ok(given.is_none().then_some(random))
    }

    fn put_user(&self, name: &str, password: &str, role: Role, one_time: bool, now_ms: i64) -> anyhow::Result<()> {
        if let Some(objection) = password::objection(name, password) {
            bail!(objection);
        }
        let user = User { verifier: password::hash(password)?, role, one_time, changed_ms: now_ms };
        self.users.put(name.as_bytes(), &user)
    }

    /// A new user; its password is to be changed at the first login.
    pub fn create_user(&self, name: &str, password: &str, role: Role, now_ms: i64) -> anyhow::Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            bail!("a user's name has 1 to 64 letters, digits, or . - _ @");
        }
        if self.users.get::<User>(name.as_bytes())?.is_some() {
            bail!("there is a user {name} already");
        }
        if self.users.len() >= USERS_MAX {
            bail!("there are {USERS_MAX} users already");
        }
        self.put_user(name, password, role, true, now_ms)?;
        self.users.flush()
    }

    /// Also ends the user's sessions and tokens.
    pub fn remove_user(&self, name: &str) -> anyhow::Result<bool> {
        let Some(user) = self.users.get::<User>(name.as_bytes())? else { return Ok(false) };
        let administrators = self.users.entries::<User>().filter(|(_, user)| user.role == Role::Administrator).count();
        if user.role == Role::Administrator && administrators == 1 {
            bail!("{name} is the last administrator");
        }
        self.users.remove(name.as_bytes())?;
        self.end_sessions(name, None)?;
        let tokens: Vec<_> = self.tokens.entries::<Token>().filter(|(_, token)| token.user == name).collect();
        for (key, _) in tokens {
            self.tokens.remove(&key)?;
        }
        self.users.flush()?;
        Ok(true)
    }

    pub fn users(&self) -> Vec<UserInfo> {
        let users = self.users.entries::<User>();
        users
            .map(|(key, user)| UserInfo {
                name: String::from_utf8_lossy(&key).into_owned(),
                role: user.role,
                one_time_password: user.one_time,
                changed_ms: user.changed_ms,
            })
            .collect()
    }

    /// Sets a password and ends the user's sessions (but `keep`, the secret of one of them).
    /// `benocs passwd` and the page call this; the user must exist.
    pub fn set_password(&self, name: &str, password: &str, keep: Option<&str>, now_ms: i64) -> anyhow::Result<()> {
        let user = self.users.get::<User>(name.as_bytes())?.with_context(|| format!("there is no user {name}"))?;
        self.put_user(name, password, user.role, false, now_ms)?;
        self.end_sessions(name, keep)?;
        self.users.flush()
    }

    /// Slow on purpose; not for a thread that serves others.
    pub fn check_password(&self, name: &str, password: &str) -> anyhow::Result<Option<Role>> {
        let user = self.users.get::<User>(name.as_bytes())?;
        let verifier = user.as_ref().map_or(&self.nobody, |user| &user.verifier);
        let right = password::verify(password, verifier);
        Ok(user.filter(|_| right).map(|user| user.role))
    }

    pub fn open_session(&self, name: &str, lifetime: Lifetime, now_ms: i64) -> anyhow::Result<Opened> {
        let user = self.users.get::<User>(name.as_bytes())?.context("the user is gone")?;
        let mut own = Vec::new();
        let sessions: Vec<_> = self.sessions.entries::<Session>().collect();
        for (key, session) in sessions {
            if ended(&session, lifetime, now_ms) {
                self.sessions.remove(&key)?;
            } else if session.user == name {
                own.push((session.seen_ms, key));
            }
        }
        own.sort_unstable();
        for (_, key) in own.iter().take((own.len() + 1).saturating_sub(SESSIONS_PER_USER_MAX)) {
            self.sessions.remove(key)?;
        }
        let secret = password::random_secret();
        let csrf = password::random_secret();
        let session = Session { user: name.to_owned(), csrf: csrf.clone(), created_ms: now_ms, seen_ms: now_ms };
        self.sessions.put(&password::digest(&secret), &session)?;
        let identity =
            Identity { user: name.to_owned(), role: user.role, one_time_password: user.one_time, csrf: Some(csrf) };
        Ok(Opened { secret, identity })
    }

    /// Whose session it is, if it still is one. Where `used`, somebody is there: it is not idle.
    pub fn session(
        &self,
        secret: &str,
        lifetime: Lifetime,
        now_ms: i64,
        used: bool,
    ) -> anyhow::Result<Option<Identity>> {
        let key = password::digest(secret);
        let Some(mut session) = self.sessions.get::<Session>(&key)? else { return Ok(None) };
        let user = self.users.get::<User>(session.user.as_bytes())?;
        let Some(user) = user.filter(|_| !ended(&session, lifetime, now_ms)) else {
            self.sessions.remove(&key)?;
            return Ok(None);
        };
        if used && now_ms - session.seen_ms >= TOUCH_MS {
            session.seen_ms = now_ms;
            self.sessions.put(&key, &session)?;
        }
        Ok(Some(Identity {
            user: session.user,
            role: user.role,
            one_time_password: user.one_time,
            csrf: Some(session.csrf),
        }))
    }

    pub fn end_session(&self, secret: &str) -> anyhow::Result<()> {
        self.sessions.remove(&password::digest(secret))
    }

    fn end_sessions(&self, name: &str, keep: Option<&str>) -> anyhow::Result<()> {
        let keep = keep.map(|secret| password::digest(secret).to_vec());
        let sessions: Vec<_> = self.sessions.entries::<Session>().collect();
        for (key, session) in sessions {
            if session.user == name && Some(&key) != keep.as_ref() {
                self.sessions.remove(&key)?;
            }
        }
        Ok(())
    }

    /// The secret of a new token; it is shown once.
    pub fn create_token(
        &self,
        user: &str,
        label: &str,
        role: Role,
        lifetime_ms: i64,
        now_ms: i64,
    ) -> anyhow::Result<String> {
        let owner = self.users.get::<User>(user.as_bytes())?.with_context(|| format!("there is no user {user}"))?;
        if role > owner.role {
            bail!("a token may do no more than its user, who is {}", owner.role.name());
        }
        if label.len() > 100 {
            bail!("a label has at most 100 octets");
        }
        if self.tokens.len() >= TOKENS_MAX {
            bail!("there are {TOKENS_MAX} tokens already");
        }
        let secret = format!("bnc_{}", password::random_secret());
        let token = Token {
            user: user.to_owned(),
            label: label.to_owned(),
            role,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(lifetime_ms),
        };
        self.tokens.put(&password::digest(&secret), &token)?;
        self.tokens.flush()?;
        Ok(secret)
    }

    pub fn token(&self, secret: &str, now_ms: i64) -> anyhow::Result<Option<Identity>> {
        let Some(token) = self.tokens.get::<Token>(&password::digest(secret))? else { return Ok(None) };
        if token.expires_ms <= now_ms {
            return Ok(None);
        }
        let Some(user) = self.users.get::<User>(token.user.as_bytes())? else { return Ok(None) };
        let role = token.role.min(user.role);
        Ok(Some(Identity { user: token.user, role, one_time_password: false, csrf: None }))
    }

    pub fn tokens(&self) -> Vec<TokenInfo> {
        let tokens = self.tokens.entries::<Token>();
        tokens
            .map(|(key, token)| TokenInfo {
                id: token_id(&key),
                user: token.user,
                label: token.label,
                role: token.role,
                created_ms: token.created_ms,
                expires_ms: token.expires_ms,
            })
            .collect()
    }

    /// True where there was one that `user` may remove: its own, or any where `user` is `None`.
    pub fn remove_token(&self, id: &str, user: Option<&str>) -> anyhow::Result<bool> {
        let found = self
            .tokens
            .entries::<Token>()
            .find(|(key, token)| token_id(key) == id && user.is_none_or(|user| user == token.user));
        let Some((key, _)) = found else { return Ok(false) };
        self.tokens.remove(&key)?;
        self.tokens.flush()?;
        Ok(true)
    }
}

fn token_id(key: &[u8]) -> String {
    key.iter().take(8).map(|octet| format!("{octet:02x}")).collect()
}

fn ended(session: &Session, lifetime: Lifetime, now_ms: i64) -> bool {
    now_ms - session.seen_ms >= lifetime.idle_ms || now_ms - session.created_ms >= lifetime.absolute_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime = Lifetime { idle_ms: 600_000, absolute_ms: 3_600_000 };

    fn accounts() -> anyhow::Result<(Accounts, String)> {
        let accounts = Accounts::open(&State::temporary()?)?;
        let password = accounts.first_user(None, 0)?.context("no first user")?;
        Ok((accounts, password))
    }

    #[test]
    fn the_first_user_is_made_once_and_its_password_is_nowhere() -> anyhow::Result<()> {
        let (accounts, password) = accounts()?;
        assert_eq!(accounts.first_user(None, 0)?, None);
        assert_eq!(accounts.check_password("admin", &password)?, Some(Role::Administrator));
        assert_eq!(accounts.check_password("admin", "wrong password")?, None);
        assert_eq!(accounts.check_password("nobody", &password)?, None);
        assert!(accounts.users()[0].one_time_password);
        accounts.set_password("admin", "another password", None, 1)?;
        assert!(!accounts.users()[0].one_time_password);
        assert_eq!(accounts.check_password("admin", &password)?, None);
        Ok(())
    }

    #[test]
    fn a_session_ends_when_idle_when_old_and_with_the_password() -> anyhow::Result<()> {
        let (accounts, _) = accounts()?;
        let secret = accounts.open_session("admin", LIFETIME, 0)?.secret;
        assert!(accounts.session(&secret, LIFETIME, 599_999, true)?.is_some());
        assert!(accounts.session(&secret, LIFETIME, 1_199_998, true)?.is_some());
        assert!(accounts.session(&secret, LIFETIME, 1_800_000, true)?.is_none());
        let secret = accounts.open_session("admin", LIFETIME, 0)?.secret;
        for now_ms in (0..3_600_000).step_by(300_000) {
            assert!(accounts.session(&secret, LIFETIME, now_ms, true)?.is_some());
        }
        assert!(accounts.session(&secret, LIFETIME, 3_600_000, true)?.is_none());
        let kept = accounts.open_session("admin", LIFETIME, 0)?.secret;
        let ended = accounts.open_session("admin", LIFETIME, 0)?.secret;
        accounts.set_password("admin", "another password", Some(&kept), 1)?;
        assert!(accounts.session(&kept, LIFETIME, 1, true)?.is_some());
        assert!(accounts.session(&ended, LIFETIME, 1, true)?.is_none());
        Ok(())
    }

    #[test]
    fn a_look_at_a_session_does_not_prolong_it() -> anyhow::Result<()> {
        let (accounts, _) = accounts()?;
        let secret = accounts.open_session("admin", LIFETIME, 0)?.secret;
        assert!(accounts.session(&secret, LIFETIME, 500_000, false)?.is_some());
        assert!(accounts.session(&secret, LIFETIME, 600_000, false)?.is_none());
        Ok(())
    }

    #[test]
    fn sessions_of_a_user_are_bounded() -> anyhow::Result<()> {
        let (accounts, _) = accounts()?;
        for now_ms in 0..40 {
            accounts.open_session("admin", LIFETIME, now_ms)?;
        }
        assert_eq!(accounts.sessions.len(), SESSIONS_PER_USER_MAX);
        Ok(())
    }

    #[test]
    fn a_token_expires_and_may_do_no_more_than_its_user() -> anyhow::Result<()> {
        let (accounts, _) = accounts()?;
        accounts.create_user("ann", "a long password", Role::Viewer, 0)?;
        assert!(accounts.create_user("ann", "a long password", Role::Viewer, 0).is_err());
        assert!(accounts.create_token("ann", "x", Role::Operator, 1000, 0).is_err());
        let secret = accounts.create_token("ann", "x", Role::Viewer, 1000, 0)?;
        assert_eq!(accounts.token(&secret, 999)?.map(|identity| identity.role), Some(Role::Viewer));
        assert!(accounts.token(&secret, 1000)?.is_none());
        let id = accounts.tokens()[0].id.clone();
        assert!(!accounts.remove_token(&id, Some("admin"))?);
        assert!(accounts.remove_token(&id, Some("ann"))?);
        assert!(accounts.token(&secret, 0)?.is_none());
        assert!(accounts.remove_user("admin").is_err());
        assert!(accounts.remove_user("ann")?);
        Ok(())
    }
}
