//! `benocs flows`: the exporters of the running process, drawn anew each second
//! on a terminal, once elsewhere.

use std::cmp::Reverse;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, terminal};
use serde_json::Value;

use super::ask::ask;
use super::table::{BAD, PLAIN, WARNING, cell, si};
use crate::cli::{FlowsArgs, FlowsOrder, RemoteArgs};
use crate::control::Request;
use crate::when;

const EVERY: Duration = Duration::from_secs(1);
/// Where the output is no terminal.
const WIDTH: usize = 200;
const GAP: usize = 2;
/// The causes of loss get what the other columns leave, if it is as much.
const CAUSES_WIDTH_MIN: usize = 14;
const NAME_WIDTH_MAX: usize = 24;
const KEYS: &str = "q ends  sort: r records/s  d datagrams/s  l lost  t templates  s last seen  n name  arrows scroll";

pub fn run(data: &Path, arguments: &FlowsArgs) -> anyhow::Result<()> {
    let answer = ask(data, &arguments.remote, &Request::Flows)?;
    if arguments.json {
        println!("{answer}");
        return Ok(());
    }
    let view = View { order: arguments.sort, first: 0, color: io::stdout().is_terminal() };
    if arguments.once || !view.color {
        let width = if view.color { size().0 } else { WIDTH };
        for line in view.lines(&answer, width, usize::MAX) {
            println!("{line}");
        }
        return Ok(());
    }
    live(data, &arguments.remote, answer, view)
}

/// Columns and rows of the terminal; of one that does not know, what is usual.
fn size() -> (usize, usize) {
    match terminal::size() {
        Ok((width @ 1.., height @ 1..)) => (width.into(), height.into()),
        _ => (80, 24),
    }
}

/// The terminal as it is while the view is shown; as it was when dropped.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

fn live(data: &Path, remote: &RemoteArgs, mut answer: Value, mut view: View) -> anyhow::Result<()> {
    let _screen = Screen::open()?;
    let mut failure = String::new();
    let mut asked = Instant::now();
    loop {
        let (width, height) = size();
        let mut lines = view.lines(&answer, width, height.saturating_sub(1));
        lines.push(if failure.is_empty() { cut(KEYS, width) } else { format!("{BAD}{}{PLAIN}", cut(&failure, width)) });
        let mut out = io::stdout().lock();
        execute!(out, cursor::MoveTo(0, 0))?;
        for (at, line) in lines.iter().take(height).enumerate() {
            write!(out, "{}{line}\x1b[K", if at == 0 { "" } else { "\r\n" })?;
        }
        write!(out, "\x1b[J")?;
        out.flush()?;
        drop(out);
        let left = EVERY.saturating_sub(asked.elapsed());
        if event::poll(left)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let end = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    if end || !view.key(key.code, height) {
                        return Ok(());
                    }
                }
                _ => {}
            }
            continue;
        }
        asked = Instant::now();
        // A process that is started again is shown again.
        match ask(data, remote, &Request::Flows) {
            Ok(fresh) => {
                failure.clear();
                answer = fresh;
            }
            Err(error) => failure = format!("{error:#}"),
        }
    }
}

struct View {
    order: FlowsOrder,
    /// Rows that are scrolled away.
    first: usize,
    color: bool,
}

struct Column {
    title: &'static str,
    right: bool,
    /// Those with the least go first where the terminal is narrow.
    weight: u8,
    text: fn(&Value, i64) -> String,
}

const COLUMNS: [Column; 11] = [
    Column { title: "exporter", right: false, weight: 99, text: |row, _| cut(&name(row), NAME_WIDTH_MAX) },
    Column { title: "address", right: false, weight: 3, text: address },
    Column { title: "protocol", right: false, weight: 4, text: |row, _| cell(&row["versions"]).replace(' ', ",") },
    Column { title: "records/s", right: true, weight: 90, text: |row, _| rate(&row["records_per_s"]) },
    Column { title: "datagrams/s", right: true, weight: 6, text: |row, _| rate(&row["datagrams_per_s"]) },
    Column { title: "records", right: true, weight: 5, text: |row, _| count(number(row, "records")) },
    Column { title: "lost", right: true, weight: 80, text: |row, _| count(number(&row["sequence"], "lost")) },
    Column { title: "dropped", right: true, weight: 70, text: |row, _| count(dropped(row)) },
    Column { title: "templates", right: true, weight: 7, text: |row, _| count(number(row, "templates")) },
    Column { title: "sampling", right: true, weight: 50, text: sampling },
    Column { title: "seen", right: true, weight: 60, text: seen },
];

impl View {
    /// False where the key ends the view.
    fn key(&mut self, key: KeyCode, height: usize) -> bool {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('r') => self.order = FlowsOrder::Records,
            KeyCode::Char('d') => self.order = FlowsOrder::Datagrams,
            KeyCode::Char('l') => self.order = FlowsOrder::Lost,
            KeyCode::Char('t') => self.order = FlowsOrder::Templates,
            KeyCode::Char('s') => self.order = FlowsOrder::Seen,
            KeyCode::Char('n') => self.order = FlowsOrder::Name,
            KeyCode::Down => self.first += 1,
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown => self.first += height / 2,
            KeyCode::PageUp => self.first = self.first.saturating_sub(height / 2),
            KeyCode::Home => self.first = 0,
            _ => {}
        }
        true
    }

    /// At most `height` lines of `width` characters.
    fn lines(&self, answer: &Value, width: usize, height: usize) -> Vec<String> {
        let now_ms = answer["now_ms"].as_i64().unwrap_or_default();
        let mut rows: Vec<&Value> =
            answer["exporters"].as_array().map(|rows| rows.iter().collect()).unwrap_or_default();
        self.sort(&mut rows);
        let mut lines: Vec<String> = heading(answer, &rows).iter().map(|line| cut(line, width)).collect();
        if rows.is_empty() {
            lines.push("no exporter has sent anything yet".to_owned());
            return lines;
        }
        // Heading of the table, and the last line where not all rows fit.
        let room = height.saturating_sub(lines.len() + 1).max(1);
        let first = self.first.min(rows.len().saturating_sub(room));
        let shown = &rows[first..rows.len().min(first + room)];
        let cells: Vec<Vec<String>> =
            shown.iter().map(|row| COLUMNS.iter().map(|column| (column.text)(row, now_ms)).collect()).collect();
        let widths: Vec<usize> = COLUMNS
            .iter()
            .enumerate()
            .map(|(at, column)| cells.iter().map(|row| length(&row[at])).chain([column.title.len()]).max().unwrap_or(0))
            .collect();
        let columns = fitting(&widths, width, cells.iter().all(|row| row[1].is_empty()));
        let used: usize = columns.iter().map(|&at| widths[at] + GAP).sum();
        let causes = width.saturating_sub(used);
        let causes = if causes >= CAUSES_WIDTH_MIN { causes } else { 0 };
        let line = |text: &dyn Fn(usize) -> String, last: String| {
            let mut line = String::new();
            for &at in &columns {
                let (text, width) = (text(at), widths[at]);
                line += &if COLUMNS[at].right { format!("{text:>width$}") } else { format!("{text:<width$}") };
                line += "  ";
            }
            line += &last;
            cut(line.trim_end(), width)
        };
        let title = if causes > 0 { "why" } else { "" };
        lines.push(line(&|at| COLUMNS[at].title.to_owned(), title.to_owned()));
        for (row, cells) in shown.iter().zip(&cells) {
            let text = line(&|at| cells[at].clone(), cut(&why(row), causes));
            let color = match (self.color, row["health"].as_str()) {
                (true, Some("bad")) => BAD,
                (true, Some("attention")) => WARNING,
                _ => "",
            };
            lines.push(if color.is_empty() { text } else { format!("{color}{text}{PLAIN}") });
        }
        lines
    }

    fn sort(&self, rows: &mut [&Value]) {
        let rate = |row: &Value, field: &str| Reverse((row[field].as_f64().unwrap_or(0.0) * 1000.0) as u64);
        // Those of one address are in the answer's order, which is by address.
        match self.order {
            FlowsOrder::Records => rows.sort_by_key(|row| rate(row, "records_per_s")),
            FlowsOrder::Datagrams => rows.sort_by_key(|row| rate(row, "datagrams_per_s")),
            FlowsOrder::Lost => rows.sort_by_key(|row| Reverse(number(&row["sequence"], "lost") + dropped(row))),
            FlowsOrder::Templates => rows.sort_by_key(|row| Reverse(number(row, "templates"))),
            // The longest silent first.
            FlowsOrder::Seen => rows.sort_by_key(|row| row["last_seen_ms"].as_i64().unwrap_or_default()),
            FlowsOrder::Name => rows.sort_by_key(|row| name(row)),
        }
    }
}

/// Columns that fit, in their order.
fn fitting(widths: &[usize], width: usize, no_addresses: bool) -> Vec<usize> {
    let mut columns: Vec<usize> = (0..COLUMNS.len()).filter(|at| !(no_addresses && *at == 1)).collect();
    while columns.iter().map(|&at| widths[at]).sum::<usize>() + GAP * columns.len().saturating_sub(1) > width {
        let Some(lightest) = (0..columns.len()).min_by_key(|&place| COLUMNS[columns[place]].weight) else { break };
        if columns.len() == 1 {
            break;
        }
        columns.remove(lightest);
    }
    columns
}

/// What is true of all exporters together.
fn heading(answer: &Value, rows: &[&Value]) -> Vec<String> {
    let sum = |field: &str| rows.iter().filter_map(|row| row[field].as_f64()).sum::<f64>();
    let silent = rows.iter().filter(|row| row["silent"].as_bool() == Some(true)).count();
    let mut lines = vec![format!(
        "{}  {} exporters, {silent} silent  {} records/s  {} datagrams/s",
        when::rfc3339(answer["now_ms"].as_i64().unwrap_or_default() / 1000 * 1000),
        rows.len(),
        si(sum("records_per_s")),
        si(sum("datagrams_per_s")),
    )];
    let totals = &answer["totals"];
    let causes = [
        ("kernel", "dropped_kernel"),
        ("denied", "dropped_denied"),
        ("rate limited", "dropped_rate_limited"),
        ("log busy", "dropped_mailbox"),
        ("log full", "dropped_log_full"),
        ("sessions refused", "dropped_sessions"),
        ("sessions broken", "dropped_framing"),
    ];
    let mut lost: Vec<String> = causes
        .iter()
        .filter(|(_, field)| number(totals, field) > 0)
        .map(|(text, field)| format!("{text} {}", count(number(totals, field))))
        .collect();
    if number(&answer["fan_out"], "dropped") > 0 {
        lost.push(format!("not sent on {}", count(number(&answer["fan_out"], "dropped"))));
    }
    if !lost.is_empty() {
        lines.push(format!("lost here: {}", lost.join(", ")));
    }
    let denied = answer["denied"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !denied.is_empty() {
        let of = |one: &Value| format!("{} {}", cell(&one["address"]), count(number(one, "datagrams")));
        lines.push(format!("not in collector.allow: {}", denied.iter().map(of).collect::<Vec<_>>().join(", ")));
    }
    if let Some(refused) = answer["refused"].as_object().filter(|refused| !refused.is_empty()) {
        let of = |(cause, number): (&String, &Value)| format!("{cause} {}", cell(number));
        lines.push(format!("of no known exporter: {}", refused.iter().map(of).collect::<Vec<_>>().join(", ")));
    }
    let sessions = answer["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !sessions.is_empty() {
        let tls = sessions.iter().filter(|session| session["tls"].as_bool() == Some(true)).count();
        lines.push(format!("{} IPFIX sessions, {tls} over TLS", sessions.len()));
    }
    for target in answer["fan_out"]["targets"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let failed = number(target, "failed") + number(target, "too_long") + number(target, "other_family");
        let sent = count(number(target, "sent"));
        lines.push(format!("sent on to {}: {sent} datagrams, {} failed", cell(&target["to"]), count(failed)));
    }
    lines
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}

/// Exact while it is short.
fn count(count: u64) -> String {
    if count < 1_000_000 { count.to_string() } else { si(count as f64) }
}

fn rate(value: &Value) -> String {
    value.as_f64().map(si).unwrap_or_default()
}

fn name(row: &Value) -> String {
    row["name"].as_str().map_or_else(|| cell(&row["address"]), str::to_owned)
}

/// Where there is a name before it.
fn address(row: &Value, _: i64) -> String {
    if row["name"].is_string() { cell(&row["address"]) } else { String::new() }
}

fn sampling(row: &Value, _: i64) -> String {
    let (num, den) = (number(&row["sampling"], "num"), number(&row["sampling"], "den"));
    match (row["sampling"]["source"].as_str(), num) {
        (None | Some("unknown"), _) | (_, 0) => "unknown".to_owned(),
        _ => format!("1:{}", (den as f64 / num as f64).round()),
    }
}

fn seen(row: &Value, now_ms: i64) -> String {
    let Some(last_ms) = row["last_seen_ms"].as_i64() else { return "never".to_owned() };
    match (now_ms - last_ms).max(0) / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// What came and is no row, and is a loss: not what carries no traffic.
fn dropped(row: &Value) -> u64 {
    const NO_LOSS: [&str; 4] = ["empty", "not_a_flow", "sample_drop", "sample_unknown"];
    let errors = row["errors"].as_object();
    errors.map_or(0, |errors| {
        let lost = errors.iter().filter(|(cause, _)| !NO_LOSS.contains(&cause.as_str()));
        lost.filter_map(|(_, count)| count.as_u64()).sum()
    })
}

/// The problem, then losses by cause.
fn why(row: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(row["problem"].as_str().filter(|problem| !problem.is_empty()).map(str::to_owned));
    for cause in ["gaps", "reordered", "restarts"] {
        let times = number(&row["sequence"], cause);
        parts.extend((times > 0).then(|| format!("{cause} {}", count(times))));
    }
    if let Some(errors) = row["errors"].as_object() {
        parts.extend(errors.iter().map(|(cause, number)| format!("{cause} {}", cell(number))));
    }
    let pending = number(row, "pending");
    parts.extend((pending > 0).then(|| format!("waiting for templates {pending}")));
    parts.join(", ")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// So many characters; what is longer ends with a dot of three.
fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        let exporter = |address: &str, name: Option<&str>, records_per_s: f64, last: i64, lost: u64| {
            json!({
                "address": address, "name": name, "versions": ["netflow9", "ipfix"], "records": 12_345_678,
                "records_per_s": records_per_s, "datagrams_per_s": records_per_s / 20.0, "templates": 20,
                "sampling": { "num": 1, "den": 1000, "source": "options" }, "last_seen_ms": 1_000_000 - last,
                "silent": last > 100_000, "health": if last > 100_000 { "bad" } else { "good" },
                "problem": if last > 100_000 { "silent for 5 min" } else { "" },
                "sequence": { "gaps": 1, "lost": lost, "reordered": 0, "restarts": 0 },
                "errors": { "rate_limited": 7, "not_a_flow": 3 }, "pending": 0,
            })
        };
        json!({
            "now_ms": 1_000_000,
            "totals": { "dropped_kernel": 5, "dropped_mailbox": 0 },
            "denied": [{ "address": "192.0.2.9", "datagrams": 4 }],
            "refused": { "unknown_protocol": 2 },
            "sessions": [{ "tls": true }],
            "fan_out": { "dropped": 0, "targets": [{ "to": "192.0.2.20:2055", "sent": 9, "failed": 1 }] },
            "exporters": [
                exporter("192.0.2.1", Some("r1.fra"), 20.0, 1000, 100),
                exporter("2001:db8:1234:5678:9abc:def0:1234:5678", None, 2000.0, 300_000, 12),
            ],
        })
    }

    fn lines(order: FlowsOrder, width: usize) -> Vec<String> {
        View { order, first: 0, color: false }.lines(&answer(), width, 50)
    }

    #[test]
    fn every_width_is_kept_and_the_weightiest_columns_stay() {
        for width in 20..260 {
            for line in lines(FlowsOrder::Records, width) {
                assert!(length(&line) <= width, "{width}: {line}");
            }
        }
        let text = |width| lines(FlowsOrder::Records, width).join("\n");
        for word in ["r1.fra", "records/s", "lost", "dropped", "seen", "5 min"] {
            assert!(text(80).contains(word), "{word} in\n{}", text(80));
        }
        for word in ["address", "protocol", "netflow9,ipfix", "datagrams/s", "1:1000", "why", "rate_limited 7"] {
            assert!(text(200).contains(word), "{word} in\n{}", text(200));
        }
    }

    #[test]
    fn what_is_lost_by_nobody_in_particular_is_above() {
        let lines = lines(FlowsOrder::Records, 200);
        assert_eq!(lines[0], "1970-01-01T00:16:40Z  2 exporters, 1 silent  2.02 k records/s  101 datagrams/s");
        assert_eq!(lines[1], "lost here: kernel 5");
        assert_eq!(lines[2], "not in collector.allow: 192.0.2.9 4");
        assert_eq!(lines[3], "of no known exporter: unknown_protocol 2");
        assert_eq!(lines[4..6], ["1 IPFIX sessions, 1 over TLS", "sent on to 192.0.2.20:2055: 9 datagrams, 1 failed"]);
    }

    #[test]
    fn keys_sort_scroll_and_end() {
        let place = |order| lines(order, 200).iter().position(|line| line.starts_with("r1.fra")).unwrap();
        let places = [FlowsOrder::Lost, FlowsOrder::Records, FlowsOrder::Datagrams, FlowsOrder::Seen, FlowsOrder::Name];
        assert_eq!(places.map(place), [7, 8, 8, 8, 8]);
        let mut view = View { order: FlowsOrder::Records, first: 0, color: true };
        assert!(view.key(KeyCode::Char('n'), 10) && view.key(KeyCode::Down, 10));
        assert_eq!((view.order, view.first), (FlowsOrder::Name, 1));
        let shown = view.lines(&answer(), 200, 8);
        assert_eq!((shown.len(), shown[7].starts_with("r1.fra")), (8, true), "{shown:#?}");
        assert!(!view.key(KeyCode::Char('q'), 10) && !view.key(KeyCode::Esc, 10));
    }

    #[test]
    fn the_silent_are_red_on_a_terminal_alone() {
        let view = View { order: FlowsOrder::Seen, first: 0, color: true };
        let lines = view.lines(&answer(), 200, 50);
        assert!(lines[7].starts_with(BAD) && lines[7].ends_with(PLAIN), "{lines:#?}");
        assert!(lines[7].contains("silent for 5 min"));
        assert!(!lines[8].contains('\x1b'));
    }
}
