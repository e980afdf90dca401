//! Questions, completion, status, routes, live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use benocs_model::question::{Answer, DimensionInfo, Question, dimension, filter};
use benocs_model::route::HistoryQuestion;
use futures::future::{Either, select};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account::body;
use crate::actor::{GraphAnswer, Shared};
use crate::error::ApiError;
use crate::guard::{Caller, Octets, Place};
use crate::when;

type Reply = Result<HttpResponse, ApiError>;

/// Header in which a client names its question, to cancel it by `DELETE /query/{id}`.
const QUERY_ID: &str = "x-query-id";
const FILTER_OCTETS_MAX: usize = 8 << 10;
const DIMENSIONS_MAX: usize = 12;
/// Names of nodes have at most 255 octets (RFC 9552 5.3.1.3).
const NODE_OCTETS_MAX: usize = 255;

pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(super::OPENAPI)
}

pub async fn nothing() -> Reply {
    Err(ApiError::missing("there is no such path or method"))
}

/// The answer, and names of what is a number in it: column, value, name.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    labels: BTreeMap<&'a str, BTreeMap<String, Arc<str>>>,
}

/// A question from a body in which `from` and `to` may stand for `from_ms` and `to_ms`.
fn question(octets: &[u8], shared: &Shared) -> Result<Question, ApiError> {
    let mut value: Value = body(octets)?;
    let object = value.as_object_mut().ok_or_else(|| ApiError::wrong("the body is not an object"))?;
    let now_ms = when::now_ms();
    for (short, long) in [("from", "from_ms"), ("to", "to_ms")] {
        let given = object.remove(short).or_else(|| object.remove(long));
        let given = given.ok_or_else(|| ApiError::wrong(format!("{short} is missing")))?;
        let moment = when::parse(&given, now_ms)
            .ok_or_else(|| ApiError::wrong(format!("{short} is no time: RFC 3339, UTC milliseconds, or -10m")))?;
        object.insert(long.to_owned(), moment.into());
    }
    let question: Question =
        serde_json::from_value(value).map_err(|error| ApiError::wrong(format!("the question is wrong: {error}")))?;
    if question.from_ms >= question.to_ms {
        return Err(ApiError::wrong("the time range is empty: from is not before to"));
    }
    if question.limit > shared.config.query_limit_max {
        return Err(ApiError::wrong(format!("limit is at most {}", shared.config.query_limit_max)));
    }
    if question.by.len() > DIMENSIONS_MAX {
        return Err(ApiError::wrong(format!("at most {DIMENSIONS_MAX} dimensions")));
    }
    if question.filter.len() > FILTER_OCTETS_MAX {
        return Err(ApiError::wrong(format!("the filter has more than {FILTER_OCTETS_MAX} octets")));
    }
    Ok(question)
}

/// Forgets a question's id when it is answered, cancelled, or its reader is gone.
struct Running<'a> {
    shared: &'a Shared,
    key: (String, String),
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Stops the task with its reader.
struct Abort(tokio::task::AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub async fn query(shared: web::Data<Shared>, request: HttpRequest, caller: Caller, octets: Octets) -> Reply {
    let question = question(&octets.0, &shared)?;
    let user = caller.identity.user;
    let Some(_place) = shared.queries.take(&user) else {
        return Err(ApiError::busy("too many questions at once: wait for one to be answered", 1));
    };
    let id = request.headers().get(QUERY_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let cancelled = Arc::new(tokio::sync::Notify::new());
    let _running = (!id.is_empty() && id.len() <= 64).then(|| {
        let key = (user, id.to_owned());
        let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(key.clone(), cancelled.clone());
        Running { shared: &shared, key }
    });
    let ask = shared.engines.ask.clone();
    let mut task = shared.engines.runtime.spawn(async move { ask.ask(question).await });
    let _abort = Abort(task.abort_handle());
    let limit = Duration::from_millis(shared.config.query_ms_max.max(1));
    let cancel = std::pin::pin!(cancelled.notified());
    let answer = match tokio::time::timeout(limit, select(&mut task, cancel)).await {
        Ok(Either::Left((answer, _))) => answer,
        Ok(Either::Right(_)) => {
            return Err(ApiError::new(StatusCode::CONFLICT, "the question was cancelled"));
        }
        Err(_) => {
            let message = format!("the question took longer than {} s: ask for less", limit.as_secs_f32());
            return Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message));
        }
    };
    let answer = answer.map_err(|error| ApiError::internal(&anyhow::Error::from(error)))??;
    let labels = labels(&answer, &shared);
    Ok(HttpResponse::Ok().json(Named { answer: &answer, labels }))
}

/// What is answered already needs no cancelling: that is no error.
pub async fn cancel(shared: web::Data<Shared>, caller: Caller, id: web::Path<String>) -> Reply {
    let key = (caller.identity.user, id.into_inner());
    let running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cancelled) = running.get(&key) {
        cancelled.notify_one();
    }
    Ok(HttpResponse::NoContent().finish())
}

fn asn_dimensions(shared: &Shared) -> Vec<DimensionInfo> {
    shared.engines.ask.dimensions().into_iter().filter(|dimension| dimension.kind == "asn").collect()
}

fn labels<'a>(answer: &'a Answer, shared: &Shared) -> BTreeMap<&'a str, BTreeMap<String, Arc<str>>> {
    let names = shared.engines.tables.as_names.load();
    let asns = asn_dimensions(shared);
    let mut labels = BTreeMap::new();
    for (index, column) in answer.columns.iter().enumerate() {
        let is_asn = asns.iter().any(|dimension| dimension.name == *column);
        let words = dimension::by_name(column).filter(|dimension| !dimension.words.is_empty());
        if !is_asn && words.is_none() {
            continue;
        }
        let mut named = BTreeMap::new();
        for number in answer.rows.iter().filter_map(|row| row.get(index)?.as_u64()) {
            let asn_name = || u32::try_from(number).ok().and_then(|asn| names.get(&asn).cloned());
            let name = match words {
                Some(dimension) => dimension.word(number).map(Arc::from),
                None => asn_name(),
            };
            if let Some(name) = name {
                named.entry(number.to_string()).or_insert(name);
            }
        }
        labels.insert(column.as_str(), named);
    }
    labels
}

pub async fn dimensions(shared: web::Data<Shared>, _caller: Caller) -> Reply {
    Ok(HttpResponse::Ok().json(shared.engines.ask.dimensions()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// Values of this dimension are wanted,
    dimension: Option<String>,
    #[serde(default)]
    text: String,
    /// or what fits at the end of this part of a filter.
    filter: Option<String>,
    #[serde(default = "completions")]
    limit: usize,
}

fn completions() -> usize {
    20
}

/// A value, and its name or title.
#[derive(Serialize)]
struct Candidate {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Arc<str>>,
}

pub async fn complete(shared: web::Data<Shared>, caller: Caller, asked: web::Query<Completion>) -> Reply {
    let Some(_place) = shared.queries.take(&caller.identity.user) else {
        return Err(ApiError::busy("too many questions at once: wait for one to be answered", 1));
    };
    let Completion { dimension, text, filter, limit } = asked.into_inner();
    let limit = limit.clamp(1, 200);
    let Some(filter) = filter else {
        let dimension = dimension.ok_or_else(|| ApiError::wrong("dimension or filter is missing"))?;
        return Ok(HttpResponse::Ok().json(values(&shared, dimension, text, limit).await?));
    };
    if filter.len() > FILTER_OCTETS_MAX {
        return Err(ApiError::wrong(format!("the filter has more than {FILTER_OCTETS_MAX} octets")));
    }
    let found = filter::complete(&filter);
    let (kind, candidates) = match found.wanted {
        filter::Wanted::Value(dimension) => {
            ("value", values(&shared, dimension.to_owned(), found.word.clone(), limit).await?)
        }
        filter::Wanted::Words(words) => {
            let title = |word: &str| dimension::by_name(word).map(|dimension| Arc::from(dimension.title));
            let words = words.into_iter().take(limit).map(|value| Candidate { label: title(&value), value });
            ("word", words.collect())
        }
        filter::Wanted::Nothing => ("nothing", Vec::new()),
    };
    let reply = serde_json::json!({ "at": found.at, "word": found.word, "kind": kind, "candidates": candidates });
    Ok(HttpResponse::Ok().json(reply))
}

/// Values of a dimension; AS numbers are found by name too.
async fn values(shared: &Shared, dimension: String, text: String, limit: usize) -> Result<Vec<Candidate>, ApiError> {
    let text: String = text.chars().take(200).collect();
    let is_asn = asn_dimensions(shared).iter().any(|known| known.name == dimension);
    let names = shared.engines.tables.as_names.load_full();
    if is_asn && !text.is_empty() && !text.chars().all(|c| c.is_ascii_digit()) {
        let wanted = text.to_lowercase();
        let mut hits: Vec<(bool, u32)> = names
            .iter()
            .filter_map(|(asn, name)| {
                let place = name.to_lowercase().find(&wanted)?;
                Some((place > 0, *asn))
            })
            .collect();
        hits.sort_unstable();
        hits.truncate(limit);
        let named = |asn: u32| Candidate { value: asn.to_string(), label: names.get(&asn).cloned() };
        return Ok(hits.into_iter().map(|(_, asn)| named(asn)).collect());
    }
    let ask = shared.engines.ask.clone();
    let task = shared.engines.runtime.spawn(async move { ask.complete(&dimension, &text, limit).await });
    let _abort = Abort(task.abort_handle());
    let values = tokio::time::timeout(Duration::from_secs(5), task)
        .await
        .map_err(|_| ApiError::new(StatusCode::GATEWAY_TIMEOUT, "completion took too long"))?
        .map_err(|error| ApiError::internal(&anyhow::Error::from(error)))??;
    let named = |value: String| {
        let asn = if is_asn { value.parse::<u32>().ok() } else { None };
        Candidate { label: asn.and_then(|asn| names.get(&asn).cloned()), value }
    };
    Ok(values.into_iter().take(limit).map(named).collect())
}

pub async fn status(shared: web::Data<Shared>, _caller: Caller) -> Reply {
    let status = shared.engines.status.clone();
    let value = web::block(move || status()).await?;
    Ok(HttpResponse::Ok().json(value))
}

pub async fn flows(shared: web::Data<Shared>, _caller: Caller) -> Reply {
    let Some(flows) = shared.engines.flows.clone() else {
        return Err(ApiError::missing("this process collects no flows: ask the one that runs netflow00"));
    };
    let value = web::block(move || flows()).await?;
    Ok(HttpResponse::Ok().json(value))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    address: String,
    router: Option<String>,
    vrf: Option<String>,
}

pub async fn lookup(shared: web::Data<Shared>, _caller: Caller, asked: web::Query<Lookup>) -> Reply {
    let Some(rib) = shared.engines.rib.clone() else {
        return Err(ApiError::missing("this process holds no routes: ask the one with the BGP sessions"));
    };
    let Lookup { address, router, vrf } = asked.into_inner();
    let address = address.trim().to_owned();
    let plain = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/');
    if address.is_empty() || address.len() > 64 || !address.chars().all(plain) {
        return Err(ApiError::wrong("this is neither an address nor a prefix"));
    }
    let found = web::block(move || rib(&address, router.as_deref(), vrf.as_deref())).await?;
    let found = found.map_err(|error| ApiError::wrong(format!("{error:#}")))?;
    let mut numbers = BTreeSet::new();
    path_numbers(&found, false, &mut numbers);
    let names = shared.engines.tables.as_names.load();
    let names: BTreeMap<u32, &Arc<str>> = numbers.into_iter().filter_map(|asn| Some((asn, names.get(&asn)?))).collect();
    let mut reply = match found {
        Value::Object(fields) => fields,
        routes => serde_json::Map::from_iter([("routes".to_owned(), routes)]),
    };
    reply.insert("as_names".to_owned(), serde_json::json!(names));
    Ok(HttpResponse::Ok().json(reply))
}

pub async fn history(shared: web::Data<Shared>, _caller: Caller, asked: web::Query<HistoryQuestion>) -> Reply {
    let Some(history) = shared.engines.history.clone() else {
        return Err(ApiError::missing("this process keeps no history of routes: ask the one with the BGP sessions"));
    };
    let found = web::block(move || history(&asked)).await?;
    let mut found = found.map_err(|error| ApiError::wrong(format!("{error:#}")))?;
    let mut numbers = BTreeSet::new();
    path_numbers(&found, false, &mut numbers);
    let names = shared.engines.tables.as_names.load();
    let names: BTreeMap<u32, &Arc<str>> = numbers.into_iter().filter_map(|asn| Some((asn, names.get(&asn)?))).collect();
    found["as_names"] = serde_json::json!(names);
    Ok(HttpResponse::Ok().json(found))
}

fn graph_answer(shared: &Shared) -> Result<GraphAnswer, ApiError> {
    let graph = shared.engines.graph.clone();
    graph.ok_or_else(|| ApiError::missing("this process has no network graph: ask the one with the BGP sessions"))
}

pub async fn graph(shared: web::Data<Shared>, _caller: Caller) -> Reply {
    let graph = graph_answer(&shared)?;
    let value = web::block(move || graph(None)).await?;
    Ok(HttpResponse::Ok().json(value.map_err(|error| ApiError::wrong(format!("{error:#}")))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    from: String,
    to: String,
}

pub async fn graph_path(shared: web::Data<Shared>, _caller: Caller, asked: web::Query<Ends>) -> Reply {
    let graph = graph_answer(&shared)?;
    let Ends { from, to } = asked.into_inner();
    if from.len().max(to.len()) > NODE_OCTETS_MAX {
        return Err(ApiError::wrong("this is no router's name or address"));
    }
    let value = web::block(move || graph(Some((from.trim(), to.trim())))).await?;
    Ok(HttpResponse::Ok().json(value.map_err(|error| ApiError::wrong(format!("{error:#}")))?))
}

/// AS numbers in everything that is called `as_path`.
fn path_numbers(value: &Value, within: bool, numbers: &mut BTreeSet<u32>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| path_numbers(value, name == "as_path", numbers))
        }
        Value::Array(values) => values.iter().for_each(|value| path_numbers(value, within, numbers)),
        Value::Number(number) if within => numbers.extend(number.as_u64().and_then(|asn| u32::try_from(asn).ok())),
        Value::String(path) if within => {
            numbers.extend(path.split(|c: char| !c.is_ascii_digit()).filter_map(|asn| asn.parse::<u32>().ok()));
        }
        _ => {}
    }
}

/// State of one live stream.
struct Live {
    shared: web::Data<Shared>,
    stopping: tokio::sync::watch::Receiver<bool>,
    interval: tokio::time::Interval,
    sent: Option<Option<i64>>,
    quiet: u32,
    session: Option<String>,
    _place: Place,
}

/// Server-sent events: `newest` with `{"newest_ms": ..., "now_ms": ...}` whenever there is newer data.
pub async fn live(shared: web::Data<Shared>, request: HttpRequest, caller: Caller) -> Reply {
    let Some(place) = shared.lives.take(&caller.identity.user) else {
        return Err(ApiError::busy("too many live streams at once: close a window", 10));
    };
    let mut interval = tokio::time::interval(Duration::from_millis(shared.config.live_ms.max(100)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let session = request.cookie(crate::guard::COOKIE).map(|cookie| cookie.value().to_owned());
    let stopping = shared.stopping.subscribe();
    let live = Live { stopping, interval, sent: None, quiet: 0, session, _place: place, shared: shared.clone() };
    let events = futures::stream::unfold(live, |mut live| async move {
        let event = next_event(&mut live).await?;
        Some((Ok::<_, actix_web::Error>(web::Bytes::from(event)), live))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(events))
}

/// None ends the stream: the server stops, or the session is over.
async fn next_event(live: &mut Live) -> Option<String> {
    loop {
        tokio::select! {
            _ = live.stopping.wait_for(|stopping| *stopping) => return None,
            _ = live.interval.tick() => {}
        }
        let now_ms = when::now_ms();
        if let Some(secret) = &live.session {
            let accounts = &live.shared.accounts;
            accounts.session(secret, live.shared.lifetime, now_ms, false).ok().flatten()?;
        }
        let newest = (live.shared.engines.newest)();
        live.quiet += 1;
        if live.sent != Some(newest) || live.quiet >= 8 {
            live.sent = Some(newest);
            live.quiet = 0;
            let data = serde_json::json!({ "newest_ms": newest, "now_ms": now_ms });
            return Some(format!("event: newest\ndata: {data}\n\n"));
        }
    }
}
