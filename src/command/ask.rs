//! Questions to the running process.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use benocs_model::question::dimension::{self, Dimension};
use benocs_model::question::{Answer, DimensionInfo, Order, Question};
use benocs_model::route::HistoryQuestion;
use serde_json::Value;

use super::{rib, table};
use crate::cli::{
    self, FeedArgs, GraphArgs, GraphCommand, QueryArgs, RemoteArgs, RibArgs, RibCommand, RibHistoryArgs, SqlArgs,
};
use crate::control::{self, Request};
use crate::roles::Usage;
use crate::{remote, when};

/// Asks another machine where `--url` names one, else the process of the data directory.
pub(super) fn ask(data: &Path, remote: &RemoteArgs, request: &Request) -> anyhow::Result<Value> {
    match &remote.url {
        Some(url) => remote::ask(remote, url, request),
        None => control::ask(data, request),
    }
}

pub fn query(data: &Path, arguments: &QueryArgs) -> anyhow::Result<()> {
    if arguments.dimensions {
        return dimensions(arguments.json);
    }
    let now_ms = when::now_ms();
    let question = Question {
        from_ms: moment("--from", &arguments.from, now_ms)?,
        to_ms: moment("--to", &arguments.to, now_ms)?,
        by: arguments.by.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
        filter: arguments.filter.clone(),
        limit: arguments.limit,
        resolution_ms: arguments.resolution.map_or(0, |seconds| seconds as i64 * 1000),
        order: match arguments.order {
            cli::Order::Octets => Order::Octets,
            cli::Order::Packets => Order::Packets,
            cli::Order::Flows => Order::Flows,
        },
        all_sightings: matches!(arguments.sightings, cli::Sightings::All),
        tenant_sets: None,
    };
    let value = ask(data, &arguments.remote, &Request::Query(Box::new(question)))?;
    if arguments.json {
        println!("{value}");
        return Ok(());
    }
    let answer: Answer = serde_json::from_value(value).context("the process answers in another version")?;
    let heading: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(table::cell).collect()).collect();
    table::print(&heading, &rows);
    let seconds = (answer.to_ms - answer.from_ms).max(1) as f64 / 1000.0;
    println!(
        "total {} octets ({}bit/s on average), {} packets, {} flows; other {} octets",
        answer.totals.octets,
        table::si(answer.totals.octets as f64 * 8.0 / seconds),
        answer.totals.packets,
        answer.totals.flows,
        answer.other.octets,
    );
    println!(
        "{} to {}; from {}, {} rows read in {:.0} ms",
        when::rfc3339(answer.from_ms),
        when::rfc3339(answer.to_ms),
        answer.source,
        answer.rows_read,
        answer.elapsed_ms,
    );
    for note in &answer.notes {
        println!("note: {note}");
    }
    Ok(())
}

fn moment(flag: &str, text: &str, now_ms: i64) -> anyhow::Result<i64> {
    when::parse(text, now_ms).map_err(|error| Usage(format!("{flag}: {error:#}")).into())
}

/// What a question can be by, and a filter about.
fn dimensions(json: bool) -> anyhow::Result<()> {
    let all: Vec<DimensionInfo> = dimension::all().iter().map(Dimension::info).collect();
    if json {
        println!("{}", serde_json::to_string(&all)?);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = dimension::all()
        .iter()
        .map(|one| {
            let words: Vec<&str> = one.words.iter().map(|(word, _)| *word).collect();
            vec![one.name.to_owned(), one.title.to_owned(), words.join(" ")]
        })
        .collect();
    table::print(&["name", "title", "words"], &rows);
    Ok(())
}

pub fn sql(data: &Path, arguments: &SqlArgs) -> anyhow::Result<()> {
    let value = control::ask(data, &Request::Sql(arguments.statement.clone()))?;
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(())
}

pub fn rib(data: &Path, arguments: RibArgs) -> anyhow::Result<()> {
    let (value, json) = match arguments.command {
        RibCommand::Lookup { address, router, vrf, json, remote } => {
            (ask(data, &remote, &Request::Rib { address, router, vrf })?, json)
        }
        RibCommand::History(arguments) => return rib_history(data, &arguments),
        RibCommand::Import { file, json } => return rib::import(data, &file, json),
        RibCommand::Dump { file, router, json } => return rib::dump(data, &file, router.as_deref(), json),
        RibCommand::Flowspec { json } => (control::ask(data, &Request::FlowRules)?, json),
    };
    if json {
        println!("{value}");
    } else {
        print_fields(&value, 0);
    }
    Ok(())
}

fn rib_history(data: &Path, arguments: &RibHistoryArgs) -> anyhow::Result<()> {
    let now_ms = when::now_ms();
    let question = HistoryQuestion {
        prefix: arguments.prefix.clone(),
        from_ms: moment("--from", &arguments.from, now_ms)?,
        to_ms: moment("--to", &arguments.to, now_ms)?,
        router: arguments.router.clone(),
        limit: arguments.limit,
    };
    let value = ask(data, &arguments.remote, &Request::History(question))?;
    if arguments.json {
        println!("{value}");
        return Ok(());
    }
    let events = value["events"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            let time = when::rfc3339(event["ms"].as_i64().unwrap_or(0));
            let path = &event["path"];
            let texts = [&event["event"], &event["peer"], &event["prefix"], &path["as_path"], &path["next_hop"]];
            std::iter::once(time).chain(texts.map(table::cell)).chain([table::cell(&path["communities"])]).collect()
        })
        .collect();
    table::print(&["time", "event", "session", "prefix", "AS path", "next hop", "communities"], &rows);
    if value["is_cut"] == true {
        println!("note: there is more before this: give an earlier --to, or a higher --limit");
    }
    if let Some(oldest_ms) = value["oldest_ms"].as_i64() {
        println!("the history begins at {}", when::rfc3339(oldest_ms));
    }
    Ok(())
}

pub fn graph(data: &Path, arguments: GraphArgs) -> anyhow::Result<()> {
    let (path, feed) = match arguments.command {
        Some(GraphCommand::Path { from, to, feed }) => (Some((from, to)), feed),
        None => (None, arguments.feed),
    };
    let is_path = path.is_some();
    let value = ask(data, &feed.remote, &Request::Graph { path })?;
    if feed.json {
        println!("{value}");
        return Ok(());
    }
    let list = |name: &str| value[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let cells = |row: &Value, names: &[&str]| names.iter().map(|name| table::cell(&row[*name])).collect::<Vec<_>>();
    if is_path {
        let heading = ["router", "id", "cost", "metric", "local", "remote"];
        table::print(&heading, &list("path").iter().map(|row| cells(row, &heading)).collect::<Vec<_>>());
        println!(
            "cost {}, {} hops, {} paths of equal cost, next hops {}",
            table::cell(&value["cost"]),
            table::cell(&value["hops"]),
            table::cell(&value["equal_cost_paths"]),
            table::cell(&value["next_hops"]),
        );
        return Ok(());
    }
    let heading = ["name", "id", "igp", "asn", "areas", "router_ids"];
    table::print(&heading, &list("nodes").iter().map(|row| cells(row, &heading)).collect::<Vec<_>>());
    println!();
    let name = |row: &Value, end: &str| {
        let place = row[end].as_u64().unwrap_or(u64::MAX) as usize;
        list("nodes").get(place).map(|node| table::cell(&node["name"])).unwrap_or_default()
    };
    let rows = list("links").iter().map(|row| {
        let rest = cells(row, &["metric", "local", "remote", "bandwidth_bits_per_s", "used"]);
        [vec![name(row, "from"), name(row, "to")], rest].concat()
    });
    table::print(&["from", "to", "metric", "local", "remote", "bit/s", "used"], &rows.collect::<Vec<_>>());
    println!(
        "{} nodes, {} links, {} prefixes",
        list("nodes").len(),
        list("links").len(),
        table::cell(&value["prefixes"])
    );
    Ok(())
}

pub fn status(data: &Path, arguments: &FeedArgs) -> anyhow::Result<()> {
    let value = ask(data, &arguments.remote, &Request::Status)?;
    if arguments.json {
        println!("{value}");
    } else {
        print_fields(&value, 0);
    }
    Ok(())
}

/// An answer of any shape, as indented names and values.
fn print_fields(value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            let (color, plain) = match fields.get("health").and_then(Value::as_str) {
                Some("bad") if std::io::stdout().is_terminal() => (table::BAD, table::PLAIN),
                Some("attention") if std::io::stdout().is_terminal() => (table::WARNING, table::PLAIN),
                _ => ("", ""),
            };
            for (name, value) in fields {
                match value {
                    Value::Object(_) => {
                        println!("{indent}{name}");
                        print_fields(value, depth + 1);
                    }
                    Value::Array(items) if items.iter().any(Value::is_object) => {
                        println!("{indent}{name}");
                        items.iter().for_each(|item| print_fields(item, depth + 1));
                    }
                    other if name == "health" || name == "problem" => {
                        println!("{indent}{name:<18} {color}{}{plain}", table::cell(other));
                    }
                    other => println!("{indent}{name:<18} {}", table::cell(other)),
                }
            }
            if depth > 0 {
                println!();
            }
        }
        Value::Array(items) => items.iter().for_each(|item| print_fields(item, depth)),
        other => println!("{indent}{}", table::cell(other)),
    }
}
