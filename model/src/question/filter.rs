//! The filter language: text to a typed condition over dimensions.
//!
//!   filter := and (OR and)*          and := not (AND not)*
//!   not    := NOT not | ( filter ) | test
//!   test   := dimension operator value | dimension IN ( value, ... )
//!
//! Operators are `=` `!=` `<` `<=` `>` `>=` `IN` `NOTIN` `LIKE` `UNLIKE` `ILIKE`
//! `IUNLIKE` `<<` `!<<` `~` `!~`; keywords are taken in any case; comments are
//! `-- to the end of the line` and `/* between */`. Values are numbers, `AS15169`,
//! addresses, prefixes, words of an enumeration, quoted or bare text, and `null`.
//! A value that is absent equals only `null`: it is unequal to everything else,
//! below and above nothing. Errors name the offset of the character.

use std::net::IpAddr;

use regex::{Regex, RegexBuilder};

use crate::address::{Address, Prefix};
use crate::question::AskError;
use crate::question::dimension::{self, Dimension, Kind, Source};

/// Longest filter, in octets.
pub const LENGTH_MAX: usize = 65_536;
/// Deepest nesting of parentheses and NOT.
pub const DEPTH_MAX: usize = 64;
/// Largest compiled pattern, in octets.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// A typed condition.
#[derive(Clone, Debug)]
pub enum Filter {
    /// Everything.
    All,
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Test(Test),
}

/// One dimension held against values.
#[derive(Clone, Debug)]
pub struct Test {
    pub dimension: &'static Dimension,
    pub negated: bool,
    pub predicate: Predicate,
}

#[derive(Clone, Debug)]
pub enum Predicate {
    AnyOf(Vec<Literal>),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// An address in, or a prefix equal to or more specific than, one of these.
    Within(Vec<Prefix>),
    Pattern(Regex),
    /// Any of these bits is set; of zero, no bit is.
    Bits(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Number(u64),
    Address(Address),
    Prefix(Prefix),
    Text(String),
}

/// A row's value of a dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Datum<'a> {
    Null,
    Number(u64),
    Address(Address),
    Prefix(Prefix),
    Text(&'a str),
}

impl Test {
    pub fn matches(&self, datum: Datum<'_>) -> bool {
        self.negated ^ self.holds(datum)
    }

    fn holds(&self, datum: Datum<'_>) -> bool {
        match (&self.predicate, datum) {
            (Predicate::AnyOf(literals), datum) => literals.iter().any(|literal| self.equals(literal, datum)),
            (Predicate::Less(limit), Datum::Number(number)) => number < *limit,
            (Predicate::LessOrEqual(limit), Datum::Number(number)) => number <= *limit,
            (Predicate::Greater(limit), Datum::Number(number)) => number > *limit,
            (Predicate::GreaterOrEqual(limit), Datum::Number(number)) => number >= *limit,
            (Predicate::Within(prefixes), Datum::Address(address)) => {
                prefixes.iter().any(|prefix| prefix.contains(address))
            }
            (Predicate::Within(prefixes), Datum::Prefix(inner)) => {
                prefixes.iter().any(|prefix| inner.len >= prefix.len && prefix.contains(inner.address))
            }
            (Predicate::Pattern(pattern), Datum::Text(text)) => pattern.is_match(text),
            (Predicate::Bits(0), Datum::Number(number)) => number == 0,
            (Predicate::Bits(bits), Datum::Number(number)) => number & bits != 0,
            _ => false,
        }
    }

    fn equals(&self, literal: &Literal, datum: Datum<'_>) -> bool {
        match (literal, datum) {
            (Literal::Null, Datum::Null) => true,
            (Literal::Number(a), Datum::Number(b)) => *a == b,
            (Literal::Address(a), Datum::Address(b)) => *a == b,
            (Literal::Prefix(a), Datum::Prefix(b)) => *a == b,
            // A list of communities has each of them.
            (Literal::Text(a), Datum::Text(b)) if self.dimension.source == Source::Communities => {
                a == b || b.split(' ').any(|word| word == a)
            }
            (Literal::Text(a), Datum::Text(b)) => a == b,
            _ => false,
        }
    }
}

impl Filter {
    /// Parses; empty text is [`Filter::All`].
    pub fn parse(text: &str) -> Result<Self, AskError> {
        if text.len() > LENGTH_MAX {
            return Err(wrong(text, 0, format!("the filter is longer than {LENGTH_MAX} octets: shorten it")));
        }
        let tokens = lex(text)?;
        if tokens.is_empty() {
            return Ok(Filter::All);
        }
        let mut parser = Parser { text, tokens: &tokens, position: 0, depth: 0 };
        let filter = parser.any()?;
        match parser.peek() {
            None => Ok(filter),
            Some(token) => {
                let message = format!("expected AND, OR or the end, found {}", token.shown(text));
                Err(wrong(text, token.at, message))
            }
        }
    }

    /// Calls `each` for every test in it.
    pub fn tests<'a>(&'a self, each: &mut dyn FnMut(&'a Test)) {
        match self {
            Filter::All => {}
            Filter::And(parts) | Filter::Or(parts) => parts.iter().for_each(|part| part.tests(each)),
            Filter::Not(part) => part.tests(each),
            Filter::Test(test) => each(test),
        }
    }

    /// Whether a row matches, given its values.
    pub fn matches<'a>(&self, value: &mut dyn FnMut(&'static Dimension) -> Datum<'a>) -> bool {
        match self {
            Filter::All => true,
            Filter::And(parts) => parts.iter().all(|part| part.matches(value)),
            Filter::Or(parts) => parts.iter().any(|part| part.matches(value)),
            Filter::Not(part) => !part.matches(value),
            Filter::Test(test) => test.matches(value(test.dimension)),
        }
    }
}

/// What may stand at the end of an unfinished filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Offset of the character where the unfinished word begins.
    pub at: usize,
    /// The unfinished word.
    pub word: String,
    pub wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// One of these words.
    Words(Vec<String>),
    /// A value of this dimension.
    Value(&'static str),
    Nothing,
}

const OPERATORS: &[&str] =
    &["=", "!=", "<", "<=", ">", ">=", "IN", "NOTIN", "LIKE", "UNLIKE", "ILIKE", "IUNLIKE", "<<", "!<<", "~", "!~"];

/// Operators that a dimension of this kind takes.
fn operators_of(kind: Kind) -> Vec<&'static str> {
    let takes = |operator: &&&str| match kind {
        Kind::Number | Kind::Asn => matches!(**operator, "=" | "!=" | "<" | "<=" | ">" | ">=" | "IN" | "NOTIN"),
        Kind::Address | Kind::Prefix => matches!(**operator, "=" | "!=" | "IN" | "NOTIN" | "<<" | "!<<"),
        Kind::Enum => matches!(**operator, "=" | "!=" | "IN" | "NOTIN"),
        Kind::Text => !matches!(**operator, "<" | "<=" | ">" | ">=" | "<<" | "!<<"),
        Kind::Time => false,
    };
    OPERATORS.iter().filter(takes).copied().collect()
}

/// What fits after `text`, the part of a filter before the cursor.
pub fn complete(text: &str) -> Completion {
    let end = text.chars().count();
    let nothing = Completion { at: end, word: String::new(), wanted: Wanted::Nothing };
    let Ok(mut tokens) = lex_unfinished(text) else { return nothing };
    // A word that touches the cursor is still being typed.
    let mut typed = (end, String::new());
    if let Some(last) = tokens.last()
        && last.end == text.len()
        && matches!(last.kind, TokenKind::Word | TokenKind::Text(_) | TokenKind::Operator)
    {
        let word = match &last.kind {
            TokenKind::Text(inner) => inner.clone(),
            _ => text[last.at..last.end].to_owned(),
        };
        typed = (text[..last.at].chars().count(), word);
        tokens.pop();
    }
    let mut wanted = Wanted::Words(expression_words());
    let mut subject: Option<&'static Dimension> = None;
    let mut state = State::Expression;
    for token in &tokens {
        let word = &text[token.at..token.end];
        state = match (state, &token.kind) {
            (State::Expression, TokenKind::Word) if is_keyword(word, "NOT") => State::Expression,
            (State::Expression, TokenKind::Open) => State::Expression,
            (State::Expression, TokenKind::Word) => match dimension::by_name(&word.to_ascii_lowercase()) {
                Some(dimension) => {
                    subject = Some(dimension);
                    State::Operator
                }
                None => return nothing,
            },
            (State::Operator, TokenKind::Word | TokenKind::Operator) => State::Value { list: false },
            (State::Value { .. }, TokenKind::Open) => State::Value { list: true },
            (State::Value { list }, TokenKind::Word | TokenKind::Text(_)) => State::After { list },
            (State::After { list: true }, TokenKind::Comma) => State::Value { list: true },
            (State::After { list: true }, TokenKind::Close) => State::After { list: false },
            (State::After { list: false }, TokenKind::Close) => State::After { list: false },
            (State::After { list: false }, TokenKind::Word) => State::Expression,
            _ => return nothing,
        };
    }
    match (state, subject) {
        (State::Expression, _) => {}
        (State::Operator, Some(dimension)) => {
            wanted = Wanted::Words(operators_of(dimension.kind).into_iter().map(str::to_owned).collect());
        }
        (State::Value { .. }, Some(dimension)) => wanted = Wanted::Value(dimension.name),
        (State::After { list: true }, _) => wanted = Wanted::Words(vec![",".to_owned(), ")".to_owned()]),
        _ => wanted = Wanted::Words(vec!["AND".to_owned(), "OR".to_owned()]),
    }
    if let Wanted::Words(words) = &mut wanted {
        let lower = typed.1.to_ascii_lowercase();
        words.retain(|word| word.to_ascii_lowercase().starts_with(&lower));
    }
    Completion { at: typed.0, word: typed.1, wanted }
}

fn expression_words() -> Vec<String> {
    let names = dimension::all().iter().filter(|dimension| dimension.kind != Kind::Time).map(|d| d.name.to_owned());
    names.chain(["NOT".to_owned(), "(".to_owned()]).collect()
}

#[derive(Clone, Copy)]
enum State {
    Expression,
    Operator,
    Value { list: bool },
    After { list: bool },
}

#[derive(Clone, Debug, PartialEq)]
enum TokenKind {
    /// Bare: dimension, keyword, number, address, prefix, text.
    Word,
    /// Quoted, without its quotes.
    Text(String),
    Operator,
    Open,
    Close,
    Comma,
}

/// Offsets are of octets here, of characters in errors.
#[derive(Clone, Debug)]
struct Token {
    kind: TokenKind,
    at: usize,
    end: usize,
}

impl Token {
    fn shown(&self, text: &str) -> String {
        format!("`{}`", &text[self.at..self.end])
    }
}

fn wrong(text: &str, at: usize, message: impl Into<String>) -> AskError {
    let at = text.get(..at).map_or(0, |before| before.chars().count());
    AskError::Wrong { message: format!("filter, character {}: {}", at + 1, message.into()), at: Some(at) }
}

fn is_keyword(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

fn lex(text: &str) -> Result<Vec<Token>, AskError> {
    lex_with(text, false)
}

/// An open quote or comment at the end is taken as it is.
fn lex_unfinished(text: &str) -> Result<Vec<Token>, AskError> {
    lex_with(text, true)
}

fn lex_with(text: &str, unfinished: bool) -> Result<Vec<Token>, AskError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if rest.starts_with("/*") {
            match rest.find("*/") {
                Some(end) => at += end + 2,
                None if unfinished => at = text.len(),
                None => return Err(wrong(text, at, "the comment has no end: add */")),
            }
            continue;
        }
        let single = match c {
            '(' => Some(TokenKind::Open),
            ')' => Some(TokenKind::Close),
            ',' => Some(TokenKind::Comma),
            _ => None,
        };
        if let Some(kind) = single {
            tokens.push(Token { kind, at, end: at + 1 });
            at += 1;
            continue;
        }
        if c == '"' || c == '\'' {
            let (inner, end) = quoted(text, at, c, unfinished)?;
            tokens.push(Token { kind: TokenKind::Text(inner), at, end });
            at = end;
            continue;
        }
        let operators = ["!<<", "<<", "<=", ">=", "!=", "!~", "==", "<>", "=", "<", ">", "~"];
        if let Some(operator) = operators.into_iter().find(|operator| rest.starts_with(operator)) {
            tokens.push(Token { kind: TokenKind::Operator, at, end: at + operator.len() });
            at += operator.len();
            continue;
        }
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '/' | '-' | '%' | '*' | '+' | '@');
        let end = at + rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if end == at {
            return Err(wrong(text, at, format!("`{c}` means nothing here: put text into quotes")));
        }
        tokens.push(Token { kind: TokenKind::Word, at, end });
        at = end;
    }
    Ok(tokens)
}

/// The text between quotes; a backslash keeps a quote or a backslash after it.
fn quoted(text: &str, at: usize, quote: char, unfinished: bool) -> Result<(String, usize), AskError> {
    let mut inner = String::new();
    let mut characters = text[at + 1..].char_indices().peekable();
    while let Some((offset, c)) = characters.next() {
        if c == quote {
            return Ok((inner, at + 1 + offset + 1));
        }
        match characters.peek() {
            Some((_, next)) if c == '\\' && (*next == quote || *next == '\\') => {
                inner.push(*next);
                characters.next();
            }
            _ => inner.push(c),
        }
    }
    if unfinished {
        return Ok((inner, text.len()));
    }
    Err(wrong(text, at, format!("the quote has no end: add {quote}")))
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    position: usize,
    depth: usize,
}

/// A comparison as written.
#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Like { any_case: bool },
    Within,
    Pattern,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.position)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.position);
        self.position += 1;
        token
    }

    fn word(&self, token: &Token) -> &'a str {
        &self.text[token.at..token.end]
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let found =
            self.peek().is_some_and(|token| token.kind == TokenKind::Word && is_keyword(self.word(token), keyword));
        self.position += usize::from(found);
        found
    }

    fn error(&self, at: usize, message: impl Into<String>) -> AskError {
        wrong(self.text, at, message)
    }

    fn ended(&self, expected: &str) -> AskError {
        self.error(self.text.len(), format!("the filter ends where {expected} is expected"))
    }

    fn any(&mut self) -> Result<Filter, AskError> {
        let mut parts = vec![self.every()?];
        while self.takes_keyword("OR") {
            parts.push(self.every()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::Or(parts) })
    }

    fn every(&mut self) -> Result<Filter, AskError> {
        let mut parts = vec![self.one()?];
        while self.takes_keyword("AND") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::And(parts) })
    }

    fn one(&mut self) -> Result<Filter, AskError> {
        let at = self.peek().map_or(self.text.len(), |token| token.at);
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(at, format!("nested deeper than {DEPTH_MAX} levels: take some parentheses away")));
        }
        let filter = if self.takes_keyword("NOT") {
            Filter::Not(Box::new(self.one()?))
        } else if self.peek().is_some_and(|token| token.kind == TokenKind::Open) {
            self.position += 1;
            let inner = self.any()?;
            match self.next() {
                Some(token) if token.kind == TokenKind::Close => inner,
                Some(token) => {
                    return Err(self.error(token.at, format!("expected `)`, found {}", token.shown(self.text))));
                }
                None => return Err(self.ended("`)`")),
            }
        } else {
            Filter::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn test(&mut self) -> Result<Test, AskError> {
        let dimension = self.dimension()?;
        let (comparison, negated) = self.comparison(dimension)?;
        let predicate = match comparison {
            Comparison::In => self.list(dimension)?,
            Comparison::Equal => {
                let (literal, _) = self.literal(dimension)?;
                any_of(dimension, vec![literal])
            }
            Comparison::Less => Predicate::Less(self.number(dimension)?),
            Comparison::LessOrEqual => Predicate::LessOrEqual(self.number(dimension)?),
            Comparison::Greater => Predicate::Greater(self.number(dimension)?),
            Comparison::GreaterOrEqual => Predicate::GreaterOrEqual(self.number(dimension)?),
            Comparison::Within => self.within()?,
            Comparison::Like { any_case } => {
                let (text, at) = self.plain()?;
                Predicate::Pattern(self.compile(&like_pattern(&text), any_case, at)?)
            }
            Comparison::Pattern => {
                let (text, at) = self.plain()?;
                // In an AS path, `_` is any boundary between two numbers.
                let path = dimension.source == Source::AsPath;
                let text = if path { text.replace('_', "(?:^|[ {}(),]|$)") } else { text };
                Predicate::Pattern(self.compile(&text, false, at)?)
            }
        };
        Ok(Test { dimension, negated, predicate })
    }

    fn dimension(&mut self) -> Result<&'static Dimension, AskError> {
        let Some(token) = self.next() else { return Err(self.ended("a dimension")) };
        if token.kind != TokenKind::Word {
            return Err(self.error(token.at, format!("expected a dimension, found {}", token.shown(self.text))));
        }
        let name = self.word(token);
        let Some(dimension) = dimension::by_name(&name.to_ascii_lowercase()) else {
            let hint = match dimension::nearest(name) {
                Some(near) => format!("did you mean `{}`?", near.name),
                None => "list them with `benocs query --dimensions`".to_owned(),
            };
            return Err(self.error(token.at, format!("there is no dimension `{name}`: {hint}")));
        };
        if dimension.kind == Kind::Time {
            return Err(self.error(token.at, "time is given by the question's range, not by the filter"));
        }
        Ok(dimension)
    }

    fn comparison(&mut self, dimension: &Dimension) -> Result<(Comparison, bool), AskError> {
        let allowed = operators_of(dimension.kind).join(" ");
        let Some(token) = self.next() else { return Err(self.ended(&format!("one of {allowed}"))) };
        let word = self.word(token);
        let upper = word.to_ascii_uppercase();
        let found = match (&token.kind, upper.as_str()) {
            (TokenKind::Operator, "=" | "==") => Some((Comparison::Equal, false, "=")),
            (TokenKind::Operator, "!=" | "<>") => Some((Comparison::Equal, true, "!=")),
            (TokenKind::Operator, "<") => Some((Comparison::Less, false, "<")),
            (TokenKind::Operator, "<=") => Some((Comparison::LessOrEqual, false, "<=")),
            (TokenKind::Operator, ">") => Some((Comparison::Greater, false, ">")),
            (TokenKind::Operator, ">=") => Some((Comparison::GreaterOrEqual, false, ">=")),
            (TokenKind::Operator, "<<") => Some((Comparison::Within, false, "<<")),
            (TokenKind::Operator, "!<<") => Some((Comparison::Within, true, "!<<")),
            (TokenKind::Operator, "~") => Some((Comparison::Pattern, false, "~")),
            (TokenKind::Operator, "!~") => Some((Comparison::Pattern, true, "!~")),
            (TokenKind::Word, "IN") => Some((Comparison::In, false, "IN")),
            (TokenKind::Word, "NOTIN") => Some((Comparison::In, true, "NOTIN")),
            (TokenKind::Word, "LIKE") => Some((Comparison::Like { any_case: false }, false, "LIKE")),
            (TokenKind::Word, "UNLIKE") => Some((Comparison::Like { any_case: false }, true, "UNLIKE")),
            (TokenKind::Word, "ILIKE") => Some((Comparison::Like { any_case: true }, false, "ILIKE")),
            (TokenKind::Word, "IUNLIKE") => Some((Comparison::Like { any_case: true }, true, "IUNLIKE")),
            // NOT IN and NOT LIKE, as SQL has them.
            (TokenKind::Word, "NOT") => {
                let after = if self.takes_keyword("IN") {
                    Some((Comparison::In, true, "NOTIN"))
                } else if self.takes_keyword("LIKE") {
                    Some((Comparison::Like { any_case: false }, true, "UNLIKE"))
                } else if self.takes_keyword("ILIKE") {
                    Some((Comparison::Like { any_case: true }, true, "IUNLIKE"))
                } else {
                    None
                };
                if after.is_none() {
                    return Err(self.error(token.at, "NOT stands before a test, or before IN, LIKE and ILIKE"));
                }
                after
            }
            _ => None,
        };
        let Some((comparison, negated, name)) = found else {
            let message = format!("expected one of {allowed} after `{}`, found `{word}`", dimension.name);
            return Err(self.error(token.at, message));
        };
        if !operators_of(dimension.kind).contains(&name) {
            let kind = dimension.kind.text();
            let message = format!("`{}` is of kind {kind} and takes {allowed}, not {name}", dimension.name);
            return Err(self.error(token.at, message));
        }
        Ok((comparison, negated))
    }

    /// `( value, ... )`, or one value without parentheses.
    fn list(&mut self, dimension: &'static Dimension) -> Result<Predicate, AskError> {
        let mut literals = Vec::new();
        let mut within = Vec::new();
        let mut take = |parser: &mut Self| -> Result<(), AskError> {
            // Prefixes among addresses are the addresses within.
            if dimension.kind == Kind::Address
                && let Some(token) = parser.peek()
                && let Some(prefix) = parse_prefix(parser.value_text(token))
            {
                parser.position += 1;
                within.push(prefix);
                return Ok(());
            }
            literals.push(parser.literal(dimension)?.0);
            Ok(())
        };
        if self.peek().is_some_and(|token| token.kind == TokenKind::Open) {
            self.position += 1;
            loop {
                take(self)?;
                match self.next() {
                    Some(token) if token.kind == TokenKind::Comma => {}
                    Some(token) if token.kind == TokenKind::Close => break,
                    Some(token) => {
                        let message = format!("expected `,` or `)`, found {}", token.shown(self.text));
                        return Err(self.error(token.at, message));
                    }
                    None => return Err(self.ended("`)`")),
                }
            }
        } else {
            take(self)?;
        }
        if within.is_empty() {
            return Ok(any_of(dimension, literals));
        }
        for literal in literals {
            match literal {
                Literal::Address(address) => {
                    within.push(Prefix::new(address, if address.is_v4() { 32 } else { 128 }));
                }
                _ => return Err(self.ended("only addresses and prefixes in one list")),
            }
        }
        Ok(Predicate::Within(within))
    }

    fn value_text(&self, token: &'a Token) -> &'a str {
        match &token.kind {
            TokenKind::Text(inner) => inner,
            _ => self.word(token),
        }
    }

    /// A value as text, quoted or bare.
    fn plain(&mut self) -> Result<(String, usize), AskError> {
        match self.next() {
            Some(token) if matches!(token.kind, TokenKind::Word | TokenKind::Text(_)) => {
                Ok((self.value_text(token).to_owned(), token.at))
            }
            Some(token) => Err(self.error(token.at, format!("expected a value, found {}", token.shown(self.text)))),
            None => Err(self.ended("a value")),
        }
    }

    fn number(&mut self, dimension: &'static Dimension) -> Result<u64, AskError> {
        let (literal, at) = self.literal(dimension)?;
        match literal {
            Literal::Number(number) => Ok(number),
            _ => Err(self.error(at, "a number is expected here")),
        }
    }

    fn literal(&mut self, dimension: &'static Dimension) -> Result<(Literal, usize), AskError> {
        let is_quoted = self.peek().is_some_and(|token| matches!(token.kind, TokenKind::Text(_)));
        let (text, at) = self.plain()?;
        if !is_quoted && is_keyword(&text, "null") {
            return Ok((Literal::Null, at));
        }
        let name = dimension.name;
        let literal = match dimension.kind {
            Kind::Number => match parse_number(&text).or_else(|| dimension.number_of(&text)) {
                Some(number) => Literal::Number(number),
                None => {
                    let words: Vec<&str> = dimension.words.iter().map(|(word, _)| *word).take(8).collect();
                    let hint =
                        if words.is_empty() { String::new() } else { format!(" or a name like {}", words.join(", ")) };
                    return Err(self.error(at, format!("`{text}` is no value of `{name}`: give a number{hint}")));
                }
            },
            Kind::Asn => match parse_asn(&text) {
                Some(asn) => Literal::Number(asn),
                None => {
                    let message = format!("`{text}` is no AS number: write AS15169 or 15169, or ask `{name}_name`");
                    return Err(self.error(at, message));
                }
            },
            Kind::Address => match text.parse::<IpAddr>() {
                Ok(ip) => Literal::Address(ip.into()),
                Err(_) if parse_prefix(&text).is_some() => {
                    return Err(self.error(at, format!("`{text}` is a prefix: write `{name} << {text}`")));
                }
                Err(_) => return Err(self.error(at, format!("`{text}` is no IPv4 or IPv6 address"))),
            },
            Kind::Prefix => match parse_prefix(&text) {
                Some(prefix) => Literal::Prefix(prefix),
                None => return Err(self.error(at, format!("`{text}` is no prefix: write address/length"))),
            },
            Kind::Enum => match dimension.number_of(&text).or_else(|| parse_number(&text)) {
                Some(number) => Literal::Number(number),
                None => {
                    let words: Vec<&str> = dimension.words.iter().map(|(word, _)| *word).collect();
                    let message = format!("`{text}` is no value of `{name}`: it is one of {}", words.join(", "));
                    return Err(self.error(at, message));
                }
            },
            Kind::Text => Literal::Text(text),
            Kind::Time => return Err(self.error(at, "time is given by the question's range")),
        };
        Ok((literal, at))
    }

    /// One prefix, or several in parentheses; an address stands for itself.
    fn within(&mut self) -> Result<Predicate, AskError> {
        let mut prefixes = Vec::new();
        let in_list = self.peek().is_some_and(|token| token.kind == TokenKind::Open);
        self.position += usize::from(in_list);
        loop {
            let (text, at) = self.plain()?;
            let host = |ip: IpAddr| Prefix::new(ip.into(), if ip.is_ipv4() { 32 } else { 128 });
            match parse_prefix(&text).or_else(|| text.parse().ok().map(host)) {
                Some(prefix) => prefixes.push(prefix),
                None => return Err(self.error(at, format!("`{text}` is no prefix: write address/length"))),
            }
            if !in_list {
                break;
            }
            match self.next() {
                Some(token) if token.kind == TokenKind::Comma => {}
                Some(token) if token.kind == TokenKind::Close => break,
                Some(token) => {
                    let message = format!("expected `,` or `)`, found {}", token.shown(self.text));
                    return Err(self.error(token.at, message));
                }
                None => return Err(self.ended("`)`")),
            }
        }
        Ok(Predicate::Within(prefixes))
    }

    fn compile(&self, pattern: &str, any_case: bool, at: usize) -> Result<Regex, AskError> {
        RegexBuilder::new(pattern)
            .case_insensitive(any_case)
            .dot_matches_new_line(true)
            .size_limit(PATTERN_SIZE_MAX)
            .build()
            .map_err(|error| {
                let last = error.to_string();
                let reason = last.lines().last().unwrap_or("unknown").trim().trim_start_matches("error: ").to_owned();
                self.error(at, format!("the pattern cannot be used: {reason}"))
            })
    }
}

fn any_of(dimension: &Dimension, literals: Vec<Literal>) -> Predicate {
    if dimension.source != Source::Quality {
        return Predicate::AnyOf(literals);
    }
    let bits = literals.iter().fold(0, |bits, literal| match literal {
        Literal::Number(number) => bits | number,
        _ => bits,
    });
    Predicate::Bits(bits)
}

/// `%` is any text, `_` any one character, a backslash takes both as they are.
fn like_pattern(like: &str) -> String {
    let mut pattern = String::from("^");
    let literal = |pattern: &mut String, c: char| pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    let mut characters = like.chars();
    while let Some(c) = characters.next() {
        match c {
            '%' => pattern.push_str(".*"),
            '_' => pattern.push('.'),
            '\\' => literal(&mut pattern, characters.next().unwrap_or('\\')),
            other => literal(&mut pattern, other),
        }
    }
    pattern.push('$');
    pattern
}

fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None if text.bytes().all(|octet| octet.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// `AS15169`, `15169`, or RFC 5396 asdot.
fn parse_asn(text: &str) -> Option<u64> {
    let digits = match text.get(..2) {
        Some(prefix) if prefix.eq_ignore_ascii_case("as") => &text[2..],
        _ => text,
    };
    if let Some((high, low)) = digits.split_once('.') {
        let (high, low): (u16, u16) = (high.parse().ok()?, low.parse().ok()?);
        return Some(u64::from(high) << 16 | u64::from(low));
    }
    digits.parse::<u32>().ok().map(u64::from)
}

fn parse_prefix(text: &str) -> Option<Prefix> {
    let (address, len) = text.split_once('/')?;
    let (ip, len): (IpAddr, u8) = (address.parse().ok()?, len.parse().ok()?);
    (len <= if ip.is_ipv4() { 32 } else { 128 }).then(|| Prefix::new(ip.into(), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(filter: &str, value: Datum<'_>) -> bool {
        Filter::parse(filter).unwrap().matches(&mut |_| value)
    }

    fn error(filter: &str) -> (String, usize) {
        match Filter::parse(filter) {
            Err(AskError::Wrong { message, at: Some(at) }) => (message, at),
            other => panic!("{filter}: {other:?}"),
        }
    }

    fn address(text: &str) -> Datum<'static> {
        Datum::Address(text.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn every_operator_on_numbers() {
        let n = Datum::Number;
        for (filter, number, expected) in [
            ("src_port = 80", 80, true),
            ("src_port == 80", 81, false),
            ("src_port != 80", 81, true),
            ("src_port <> 80", 80, false),
            ("src_port < 80", 79, true),
            ("src_port < 80", 80, false),
            ("src_port <= 80", 80, true),
            ("src_port > 80", 80, false),
            ("src_port > 80", 81, true),
            ("src_port >= 80", 80, true),
            ("src_port IN (80, 443)", 443, true),
            ("src_port in (80,443)", 8080, false),
            ("src_port NOTIN (80, 443)", 8080, true),
            ("src_port NOT IN (80, 443)", 80, false),
            ("src_port = https", 443, true),
            ("src_port = 0x50", 80, true),
            ("proto = tcp", 6, true),
            ("proto IN (TCP, udp)", 17, true),
            ("etype = ipv6", 0x86dd, true),
            ("src_as = AS15169", 15169, true),
            ("src_as = as15169", 15169, true),
            ("src_as = 15169", 15169, true),
            ("src_as = AS1.10", 65546, true),
            ("in_if_boundary = external", 1, true),
            ("in_if_boundary = \"external\"", 2, false),
            ("count_verdict = 1", 1, true),
            ("quality = after_gap", 1 << 19 | 1, true),
            ("quality = after_gap", 1, false),
            ("quality != after_gap", 1, true),
            ("quality = 0", 0, true),
            ("quality IN (after_gap, event)", 1 << 18, true),
        ] {
            assert_eq!(holds(filter, n(number)), expected, "{filter} on {number}");
        }
    }

    #[test]
    fn every_operator_on_addresses_and_prefixes() {
        for (filter, value, expected) in [
            ("src_addr = 192.0.2.1", address("192.0.2.1"), true),
            ("src_addr != 192.0.2.1", address("192.0.2.1"), false),
            ("src_addr = 2001:db8::1", address("2001:db8::1"), true),
            ("src_addr << 192.0.2.0/24", address("192.0.2.77"), true),
            ("src_addr << 192.0.2.0/24", address("192.0.3.77"), false),
            ("src_addr !<< 192.0.2.0/24", address("192.0.3.77"), true),
            ("src_addr << 2001:db8::/32", address("2001:db8:1::1"), true),
            ("src_addr << 0.0.0.0/0", address("2001:db8:1::1"), false),
            ("src_addr << (10.0.0.0/8, 192.0.2.0/24)", address("10.1.1.1"), true),
            ("src_addr IN (10.0.0.0/8, 192.0.2.1)", address("192.0.2.1"), true),
            ("src_addr IN (10.0.0.1, 192.0.2.1)", address("192.0.2.1"), true),
            ("src_addr NOTIN (10.0.0.0/8)", address("10.0.0.1"), false),
        ] {
            assert_eq!(holds(filter, value), expected, "{filter}");
        }
        let inner = Datum::Prefix(parse_prefix("192.0.2.0/24").unwrap());
        assert!(holds("src_prefix = 192.0.2.0/24", inner));
        assert!(holds("src_prefix = \"192.0.2.9/24\"", inner));
        assert!(!holds("src_prefix = 192.0.2.0/25", inner));
        assert!(holds("src_prefix << 192.0.0.0/16", inner));
        assert!(!holds("src_prefix << 192.0.2.0/25", inner));
        assert!(holds("src_prefix IN (10.0.0.0/8, 192.0.2.0/24)", inner));
    }

    #[test]
    fn every_operator_on_text() {
        let text = Datum::Text("et-0/0/1.100");
        for (filter, expected) in [
            ("in_if_name = et-0/0/1.100", true),
            ("in_if_name = 'et-0/0/1.100'", true),
            ("in_if_name != \"et-0/0/1\"", true),
            ("in_if_name IN (\"a\", \"et-0/0/1.100\")", true),
            ("in_if_name NOTIN (a, b)", true),
            ("in_if_name LIKE \"et-%\"", true),
            ("in_if_name LIKE et-%", true),
            ("in_if_name LIKE \"et-_/0/1.100\"", true),
            ("in_if_name LIKE \"0/0\"", false),
            ("in_if_name LIKE \"ET-%\"", false),
            ("in_if_name ILIKE \"ET-%\"", true),
            ("in_if_name UNLIKE \"et-%\"", false),
            ("in_if_name IUNLIKE \"ET-%\"", false),
            ("in_if_name NOT LIKE \"xe-%\"", true),
            ("in_if_name LIKE \"et-0/0/1_100\"", true),
            ("in_if_name LIKE \"et-0/0/1\\_100\"", false),
            ("in_if_name ~ \"^et-[0-9]+/\"", true),
            ("in_if_name !~ \"^xe\"", true),
        ] {
            assert_eq!(holds(filter, text), expected, "{filter}");
        }
        let path = Datum::Text("64500 15169 {64496,64497}");
        assert!(holds("as_path ~ \"_15169_\"", path));
        assert!(!holds("as_path ~ \"_1516_\"", path));
        assert!(holds("as_path ~ \"_64497_\"", path));
        let communities = Datum::Text("64500:100 64500:1000");
        assert!(holds("communities = 64500:100", communities));
        assert!(!holds("communities = 64500:10", communities));
        assert!(holds("communities LIKE \"%64500:1000%\"", communities));
    }

    #[test]
    fn absent_values_equal_only_null() {
        for (filter, expected) in [
            ("src_as = 5", false),
            ("src_as != 5", true),
            ("src_as = null", true),
            ("src_as != NULL", false),
            ("src_as < 5", false),
            ("NOT src_as < 5", true),
            ("src_as IN (5, null)", true),
            ("service LIKE \"%\"", false),
            ("src_addr << 0.0.0.0/0", false),
        ] {
            assert_eq!(holds(filter, Datum::Null), expected, "{filter}");
        }
    }

    #[test]
    fn connectives_bind_as_usual() {
        let value = |filter: &str, src: u64, dst: u64| {
            Filter::parse(filter)
                .unwrap()
                .matches(&mut |dimension| Datum::Number(if dimension.name == "src_port" { src } else { dst }))
        };
        let filter = "src_port = 1 OR src_port = 2 AND dst_port = 3";
        assert!(value(filter, 1, 0));
        assert!(!value(filter, 2, 0));
        assert!(value(filter, 2, 3));
        assert!(!value("(src_port = 1 or src_port = 2) and dst_port = 3", 1, 0));
        assert!(value("NOT src_port = 1 AND dst_port = 3", 2, 3));
        assert!(!value("NOT (src_port = 1 OR dst_port = 3)", 2, 3));
        assert!(value("not not src_port = 1", 1, 3));
        assert!(value("src_port = 1 -- the rest is said\n /* or\n not */ AND dst_port = 3", 1, 3));
        assert!(value("  -- nothing", 1, 3));
        assert!(value("", 1, 3));
    }

    #[test]
    fn errors_name_the_character_and_a_remedy() {
        for (filter, at, part) in [
            ("src_ass = 5", 0, "did you mean `src_as`"),
            ("proto = tcp AND SrcAS = 5", 16, "did you mean `src_as`"),
            ("src_as = Google", 9, "src_as_name"),
            ("src_as LIKE 5", 7, "takes"),
            ("src_addr = 10.0.0.0/8", 11, "<<"),
            ("src_addr = 10.0.0", 11, "no IPv4"),
            ("src_addr << 10.0.0.0/33", 12, "no prefix"),
            ("src_port = tcp", 11, "number"),
            ("in_if_boundary = outside", 17, "external, internal"),
            ("service = \"Net", 10, "quote"),
            ("service = \"Zürich\" und", 19, "expected AND"),
            ("(proto = tcp", 12, "`)`"),
            ("proto", 5, "ends"),
            ("proto =", 7, "ends"),
            ("proto = tcp AND", 15, "ends"),
            ("proto IN (tcp udp)", 14, "`,`"),
            ("as_path ~ \"(\"", 10, "pattern"),
            ("proto = tcp; drop", 11, "means nothing"),
            ("time > 5", 0, "range"),
            ("proto NOT tcp", 6, "NOT"),
            ("/* open", 0, "comment"),
        ] {
            let (message, found) = error(filter);
            assert_eq!(found, at, "{filter}: {message}");
            assert!(message.contains(part), "{filter}: {message}");
        }
    }

    #[test]
    fn hostile_filters_are_refused() {
        let (deep, _) = error(&format!("{}proto = tcp{}", "(".repeat(5_000), ")".repeat(5_000)));
        assert!(deep.contains("deeper"));
        let (negated, _) = error(&"NOT ".repeat(5_000));
        assert!(negated.contains("deeper"));
        let (long, _) = error(&" ".repeat(LENGTH_MAX + 1));
        assert!(long.contains("longer"));
        let (huge, _) = error("as_path ~ \"(((a{500}){500}){500})\"");
        assert!(huge.contains("pattern"));
    }

    #[test]
    fn completion_knows_what_fits() {
        let words = |text: &str| match complete(text) {
            Completion { wanted: Wanted::Words(words), .. } => words,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(words("src_a")[..3], ["src_addr", "src_as", "src_as_name"]);
        assert!(words("").contains(&"proto".to_owned()));
        assert_eq!(words("src_as "), ["=", "!=", "<", "<=", ">", ">=", "IN", "NOTIN"]);
        assert_eq!(words("proto = tcp A"), ["AND"]);
        assert!(words("proto = tcp AND ").contains(&"dst_as".to_owned()));
        assert_eq!(words("proto IN (tcp "), [",", ")"]);
        for (text, name, at, word) in [
            ("service = Net", "service", 10, "Net"),
            ("service = \"Net f", "service", 10, "Net f"),
            ("proto IN (tcp, ", "proto", 15, ""),
        ] {
            let completion = complete(text);
            assert_eq!(completion, Completion { at, word: word.to_owned(), wanted: Wanted::Value(name) });
        }
        assert_eq!(complete("nonsense = ").wanted, Wanted::Nothing);
    }
}
