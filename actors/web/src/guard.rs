//! What every request passes: counting, headers, who asks, and whether they may.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::body::MessageBody;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::{Method, header};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, ResponseError as _, web};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use subtle::ConstantTimeEq as _;

use crate::accounts::{Identity, Role};
use crate::actor::Shared;
use crate::api;
use crate::error::ApiError;
use crate::when;

/// The prefix makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis 4.1.3.2).
pub const COOKIE: &str = "__Host-benocs";
pub const CSRF: &str = "x-csrf-token";

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const HEADERS: &[(&str, &str)] = &[
    ("strict-transport-security", "max-age=31536000"),
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// Who asks, from where: what handlers take as an argument.
#[derive(Clone, Debug)]
pub struct Caller {
    pub identity: Identity,
    pub address: String,
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(ApiError::unauthorized))
    }
}

impl Caller {
    pub fn is(&self, role: Role) -> bool {
        self.identity.role >= role
    }
}

/// A request's body, of at most [`crate::Config::body_octets_max`].
#[derive(Debug)]
pub struct Octets(pub web::Bytes);

impl FromRequest for Octets {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let octets = web::Bytes::from_request(request, payload);
        octets
            .map(|read| {
                read.map(Self).map_err(|error| ApiError::new(error.error_response().status(), error.to_string()))
            })
            .boxed_local()
    }
}

/// What the client calls this server: the Host header, or HTTP/2's authority. No proxy's word.
pub fn host(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    header.or_else(|| request.uri().authority().map(|authority| authority.as_str())).map(str::to_owned)
}

pub fn address(request: &HttpRequest) -> String {
    request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default()
}

pub fn session_cookie(secret: String, age_s: i64) -> Cookie<'static> {
    Cookie::build(COOKIE, secret)
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .max_age(actix_web::cookie::time::Duration::seconds(age_s))
        .finish()
}

/// Around everything: counts, refuses while stopping, adds the headers.
pub async fn outer(
    shared: web::Data<Shared>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let _busy = Busy::enter(&shared.in_flight);
    let is_api = request.path().starts_with("/api/");
    let mut response = if shared.is_stopping() {
        let refusal = ApiError::new(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
        request.into_response(refusal.error_response()).map_into_right_body()
    } else {
        next.call(request).await?.map_into_left_body()
    };
    shared.metrics.answered(response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(header::HeaderName::from_static(name), header::HeaderValue::from_static(value));
    }
    if is_api {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    }
    if shared.is_stopping() {
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
    Ok(response)
}

/// Around the API: nothing passes that [`api::ROUTES`] does not open to the caller.
pub async fn inner(
    shared: web::Data<Shared>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    match admit(&shared, &request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            Ok(next.call(request).await?.map_into_left_body())
        }
        Err(error) => Ok(request.into_response(error.error_response()).map_into_right_body()),
    }
}

fn admit(shared: &Shared, request: &ServiceRequest) -> Result<Option<Caller>, ApiError> {
    let pattern = request.match_pattern().unwrap_or_default();
    let pattern = pattern.strip_prefix(api::PREFIX).unwrap_or(&pattern);
    let route = api::ROUTES.iter().find(|route| route.path == pattern && route.method == request.method().as_str());
    let Some(route) = route else {
        return Ok(None);
    };
    same_origin(request)?;
    let Some(role) = route.role else { return Ok(None) };
    let identity = identify(shared, request)?;
    if identity.role < role {
        let address = address(request.request());
        shared.audit.write(&identity.user, &address, "refused", route.path);
        return Err(ApiError::forbidden(format!("this needs the role {}", role.name())));
    }
    Ok(Some(Caller { identity, address: address(request.request()) }))
}

/// What a browser says of a request's origin must be this server, or nothing.
fn same_origin(request: &ServiceRequest) -> Result<(), ApiError> {
    if request.method() == Method::GET {
        return Ok(());
    }
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return Err(ApiError::forbidden("requests from other sites are refused"));
    }
    let Some(origin) = text("origin") else { return Ok(()) };
    let host = host(request.request());
    match (origin.strip_prefix("https://"), host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(&host) => Ok(()),
        _ => Err(ApiError::forbidden("requests from other sites are refused")),
    }
}

fn identify(shared: &Shared, request: &ServiceRequest) -> Result<Identity, ApiError> {
    let now_ms = when::now_ms();
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(authorization) = authorization {
        let secret = authorization.strip_prefix("Bearer ").ok_or_else(ApiError::unauthorized)?;
        return shared.accounts.token(secret.trim(), now_ms)?.ok_or_else(ApiError::unauthorized);
    }
    let cookie = request.cookie(COOKIE).ok_or_else(ApiError::unauthorized)?;
    let identity = shared.accounts.session(cookie.value(), shared.lifetime, now_ms, true)?;
    let identity = identity.ok_or_else(ApiError::unauthorized)?;
    if request.method() != Method::GET {
        let sent = request.headers().get(CSRF).map(|value| value.as_bytes()).unwrap_or_default();
        let known = identity.csrf.as_deref().unwrap_or_default().as_bytes();
        if known.is_empty() || !bool::from(known.ct_eq(sent)) {
            shared.audit.write(&identity.user, &address(request.request()), "csrf_refused", request.path());
            return Err(ApiError::forbidden("the header x-csrf-token is missing or wrong"));
        }
    }
    Ok(identity)
}

/// A request that is being answered.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Places that users share: so many each, so many in all.
#[derive(Debug)]
pub struct Places {
    each: usize,
    all: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// One of them, until dropped.
#[derive(Debug)]
pub struct Place {
    user: String,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

impl Places {
    pub fn new(each: usize, all: usize) -> Self {
        Self { each: each.max(1), all: all.max(1), taken: Arc::default() }
    }

    pub fn take(&self, user: &str) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(user).copied().unwrap_or(0);
        if own >= self.each || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(user.to_owned(), own + 1);
        Some(Place { user: user.to_owned(), taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.user) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let places = Places::new(2, 3);
        let first = places.take("ann");
        let second = places.take("ann");
        assert!(first.is_some() && second.is_some());
        assert!(places.take("ann").is_none());
        let third = places.take("bob");
        assert!(third.is_some());
        assert!(places.take("cid").is_none());
        drop(first);
        assert!(places.take("cid").is_some());
        assert!(places.take("ann").is_some());
    }
}
