//! Login, passwords, tokens, users.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::accounts::{Identity, Role};
use crate::actor::Shared;
use crate::error::ApiError;
use crate::guard::{self, COOKIE, Caller, Octets};
use crate::tokens::{DAY_MS, DAYS_MAX};
use crate::when;

type Reply = Result<HttpResponse, ApiError>;

/// A body of JSON, whatever its content type says.
pub(super) fn body<T: DeserializeOwned>(octets: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(octets).map_err(|error| ApiError::wrong(format!("the body is not as described: {error}")))
}

fn profile(identity: &Identity, shared: &Shared) -> serde_json::Value {
    json!({
        "user": identity.user,
        "role": identity.role,
        "one_time_password": identity.one_time_password,
        "csrf": identity.csrf,
        "version": env!("CARGO_PKG_VERSION"),
        "routes": shared.engines.rib.is_some(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user: String,
    password: String,
}

/// Wrong user and wrong password answer alike, and as late.
pub async fn login(shared: web::Data<Shared>, request: HttpRequest, octets: Octets) -> Reply {
    let Login { user, password } = body(&octets.0)?;
    if user.len() > 64 {
        return Err(ApiError::wrong("a user's name has at most 64 octets"));
    }
    let Some(peer) = request.peer_addr().map(|peer| peer.ip().to_canonical()) else {
        return Err(ApiError::forbidden("the client has no address"));
    };
    let address = peer.to_string();
    let wait_ms = shared.lockout.wait_ms(&user, peer, when::now_ms());
    if wait_ms > 0 {
        shared.audit.write(&user, &address, "login_locked", "");
        let seconds = u64::try_from(wait_ms).unwrap_or(0).div_ceil(1000);
        return Err(ApiError::busy(format!("too many attempts: try again in {seconds} s"), seconds));
    }
    // Counted before it is known, so that attempts side by side count too.
    shared.lockout.failed(&user, peer, when::now_ms());
    let permit = tokio::time::timeout(std::time::Duration::from_secs(5), shared.hashing.acquire()).await;
    let Ok(Ok(_permit)) = permit else {
        return Err(ApiError::busy("too many logins at once: try again", 2));
    };
    let accounts = shared.accounts.clone();
    let name = user.clone();
    let role = web::block(move || accounts.check_password(&name, &password)).await??;
    if role.is_none() {
        shared.audit.write(&user, &address, "login_failed", "");
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "user or password is wrong"));
    }
    shared.lockout.succeeded(&user, peer);
    // A session that was here before is over: its secret is not reused (session fixation).
    if let Some(cookie) = request.cookie(COOKIE) {
        shared.accounts.end_session(cookie.value())?;
    }
    let opened = shared.accounts.open_session(&user, shared.lifetime, when::now_ms())?;
    shared.audit.write(&user, &address, "login", opened.identity.role.name());
    let age_s = shared.lifetime.absolute_ms / 1000;
    Ok(HttpResponse::Ok().cookie(guard::session_cookie(opened.secret, age_s)).json(profile(&opened.identity, &shared)))
}

pub async fn logout(shared: web::Data<Shared>, request: HttpRequest, caller: Caller) -> Reply {
    if let Some(cookie) = request.cookie(COOKIE) {
        shared.accounts.end_session(cookie.value())?;
    }
    shared.audit.write(&caller.identity.user, &caller.address, "logout", "");
    Ok(HttpResponse::NoContent().cookie(guard::session_cookie(String::new(), 0)).finish())
}

pub async fn me(shared: web::Data<Shared>, caller: Caller) -> Reply {
    Ok(HttpResponse::Ok().json(profile(&caller.identity, &shared)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    old: String,
    new: String,
}

pub async fn password(shared: web::Data<Shared>, request: HttpRequest, caller: Caller, octets: Octets) -> Reply {
    let Password { old, new } = body(&octets.0)?;
    let Caller { identity: Identity { user, .. }, address } = caller;
    if let Some(objection) = crate::password::objection(&user, &new) {
        return Err(ApiError::wrong(objection));
    }
    let Some(peer) = request.peer_addr().map(|peer| peer.ip().to_canonical()) else {
        return Err(ApiError::forbidden("the client has no address"));
    };
    let wait_ms = shared.lockout.wait_ms(&user, peer, when::now_ms());
    if wait_ms > 0 {
        let seconds = u64::try_from(wait_ms).unwrap_or(0).div_ceil(1000);
        return Err(ApiError::busy(format!("too many attempts: try again in {seconds} s"), seconds));
    }
    shared.lockout.failed(&user, peer, when::now_ms());
    let Ok(_permit) = shared.hashing.acquire().await else {
        return Err(ApiError::busy("too many logins at once: try again", 2));
    };
    let keep = request.cookie(COOKIE).map(|cookie| cookie.value().to_owned());
    let accounts = shared.accounts.clone();
    let name = user.clone();
    let changed = web::block(move || -> anyhow::Result<bool> {
        if accounts.check_password(&name, &old)?.is_none() {
            return Ok(false);
        }
        accounts.set_password(&name, &new, keep.as_deref(), when::now_ms())?;
        Ok(true)
    });
    if !changed.await?? {
        shared.audit.write(&user, &address, "password_refused", "");
        return Err(ApiError::forbidden("the old password is wrong"));
    }
    shared.lockout.succeeded(&user, peer);
    shared.audit.write(&user, &address, "password_changed", "");
    Ok(HttpResponse::NoContent().finish())
}

/// One's own; of everybody for an administrator.
pub async fn tokens(shared: web::Data<Shared>, caller: Caller) -> Reply {
    let mut tokens = shared.accounts.tokens();
    tokens.retain(|token| caller.is(Role::Administrator) || token.user == caller.identity.user);
    Ok(HttpResponse::Ok().json(tokens))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    label: String,
    role: Role,
    days: u32,
}

pub async fn create_token(shared: web::Data<Shared>, caller: Caller, octets: Octets) -> Reply {
    let NewToken { label, role, days } = body(&octets.0)?;
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(ApiError::wrong(format!("a token lives 1 to {DAYS_MAX} days")));
    }
    let role_max = caller.identity.role;
    if role > role_max {
        return Err(ApiError::forbidden(format!("a token of yours may be {} at most", role_max.name())));
    }
    let user = &caller.identity.user;
    let secret = shared
        .accounts
        .create_token(user, &label, role, i64::from(days) * DAY_MS, when::now_ms())
        .map_err(|error| ApiError::wrong(error.to_string()))?;
    shared.audit.write(user, &caller.address, "token_created", &label);
    Ok(HttpResponse::Created().json(json!({ "token": secret })))
}

pub async fn remove_token(shared: web::Data<Shared>, caller: Caller, id: web::Path<String>) -> Reply {
    let owner = (!caller.is(Role::Administrator)).then_some(caller.identity.user.as_str());
    if !shared.accounts.remove_token(&id, owner)? {
        return Err(ApiError::missing("there is no such token"));
    }
    shared.audit.write(&caller.identity.user, &caller.address, "token_removed", &id);
    Ok(HttpResponse::NoContent().finish())
}

pub async fn users(shared: web::Data<Shared>, _caller: Caller) -> Reply {
    Ok(HttpResponse::Ok().json(shared.accounts.users()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    name: String,
    password: String,
    role: Role,
}

pub async fn create_user(shared: web::Data<Shared>, caller: Caller, octets: Octets) -> Reply {
    let NewUser { name, password, role } = body(&octets.0)?;
    let accounts = shared.accounts.clone();
    let new = name.clone();
    let created = web::block(move || accounts.create_user(&new, &password, role, when::now_ms())).await?;
    created.map_err(|error| ApiError::wrong(error.to_string()))?;
    shared.audit.write(&caller.identity.user, &caller.address, "user_created", &name);
    Ok(HttpResponse::Created().finish())
}

pub async fn remove_user(shared: web::Data<Shared>, caller: Caller, name: web::Path<String>) -> Reply {
    match shared.accounts.remove_user(&name) {
        Ok(true) => {
            shared.audit.write(&caller.identity.user, &caller.address, "user_removed", &name);
            Ok(HttpResponse::NoContent().finish())
        }
        Ok(false) => Err(ApiError::missing("there is no such user")),
        Err(error) => Err(ApiError::wrong(error.to_string())),
    }
}
