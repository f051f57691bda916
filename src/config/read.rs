//! Walks TOML and tracks positions, so that each problem can be reported with line and column. It knows TOML, not our
//! keys. All problems are collected instead of stopping at the first. Start at [`Reader`] and [`Section`].

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{Expansion, Layer, put_over};

/// One problem in the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// File, line and column; or the variable or section.
    pub place: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Problem {
    /// A problem with a whole file.
    pub fn of_file(name: &str, message: String) -> Self {
        Self { place: name.to_owned(), message }
    }

    /// A problem with an environment variable.
    pub fn of_variable(name: &str, message: String) -> Self {
        Self { place: format!("environment variable {name}"), message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All problems in a configuration, displayed one per line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A single one.
    pub fn one(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A text and the problems found in it.
pub struct Reader<'t> {
    text: &'t str,
    name: &'t str,
    /// Environment variables, over the text. Their positions come after those of the text.
    layer: &'t Layer,
    /// Positions of values that came from elsewhere: they are not shown, since they may be secrets.
    hidden: HashSet<usize>,
    problems: Vec<(usize, Problem)>,
}

impl<'t> Reader<'t> {
    /// A reader of a file's text.
    pub fn new(text: &'t str, name: &'t str, layer: &'t Layer) -> Self {
        Self { text, name, layer, hidden: HashSet::new(), problems: Vec::new() }
    }

    /// Parses the text and expands its values; what cannot be parsed is reported and left out.
    pub fn root(&mut self, expansion: &mut Expansion<'_>) -> DeTable<'t> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.problem_at(&span, error.message().to_owned());
        }
        let mut table = table.into_inner();
        let (above, _) = DeTable::parse_recoverable(&self.layer.text);
        put_over(&mut table, above.into_inner(), self.text.len() + 1);
        for (_, value) in table.iter_mut() {
            self.expand(value, expansion);
        }
        table
    }

    fn expand(&mut self, value: &mut Spanned<DeValue<'t>>, expansion: &mut Expansion<'_>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) => match expansion.expand(text) {
                Ok(None) => {}
                Ok(Some(expanded)) => {
                    *text = expanded.into();
                    self.hidden.insert(span.start);
                }
                Err(message) => self.problem_at(&span, message),
            },
            DeValue::Array(array) => {
                for item in array.iter_mut() {
                    let inner = item.span().start;
                    self.expand(item, expansion);
                    if self.hidden.contains(&inner) {
                        self.hidden.insert(span.start);
                    }
                }
            }
            DeValue::Table(table) => {
                for (_, value) in table.iter_mut() {
                    self.expand(value, expansion);
                }
            }
            _ => {}
        }
    }

    /// A value as it may be shown.
    fn shown(&self, span: &Range<usize>, value: String) -> String {
        if self.hidden.contains(&span.start) { "the value that was put in".into() } else { value }
    }

    fn problem_at(&mut self, span: &Range<usize>, message: String) {
        if let Some(offset) = span.start.checked_sub(self.text.len() + 1) {
            let place = format!("environment variable {}", self.layer.name_at(offset));
            return self.problems.push((span.start, Problem { place, message }));
        }
        let before = &self.text[..span.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = format!("{}:{line}:{column}", self.name);
        self.problems.push((span.start, Problem { place, message }));
    }

    /// Adds a problem without a position in the text.
    pub fn problem(&mut self, problem: Problem) {
        self.problems.push((usize::MAX, problem));
    }

    /// The value if there were no problems, else all problems in the order of the text.
    ///
    /// # Errors
    /// There were problems.
    pub fn finish<T>(mut self, value: T) -> Result<T, Problems> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        self.problems.sort_by_key(|(at, _)| *at);
        Err(Problems(self.problems.into_iter().map(|(_, problem)| problem).collect()))
    }
}

/// A table, and which of its keys have been read.
pub struct Section<'a, 't> {
    table: Option<&'a DeTable<'t>>,
    span: Range<usize>,
    path: String,
    known: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    /// The root, or any table.
    pub fn new(table: &'a DeTable<'t>, path: &str) -> Self {
        Self { table: Some(table), span: 0..0, path: path.to_owned(), known: Vec::new() }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table?.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn named(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A subtable; an empty one if it is missing.
    pub fn section(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Section<'a, 't> {
        let path = self.named(key);
        let empty = Section { table: None, span: 0..0, path: path.clone(), known: Vec::new() };
        let Some(value) = self.value(key) else { return empty };
        match value.get_ref() {
            DeValue::Table(table) => {
                Section { table: Some(table), span: value.span(), path, known: Vec::new() }
            }
            other => {
                reader.problem_at(
                    &value.span(),
                    format!("{path} must be a table [{path}], not {}", kind(other)),
                );
                empty
            }
        }
    }

    /// An array of tables.
    pub fn sections(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Vec<Section<'a, 't>> {
        let path = self.named(key);
        let Some(value) = self.value(key) else { return Vec::new() };
        let mut sections = Vec::new();
        let mut wrong = |span: &Range<usize>| {
            reader.problem_at(span, format!("{path} must be an array of tables [[{path}]]"));
        };
        match value.get_ref() {
            DeValue::Array(array) => {
                for item in array.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            let (span, path) = (item.span(), path.clone());
                            sections.push(Section { table: Some(table), span, path, known: Vec::new() });
                        }
                        _ => wrong(&item.span()),
                    }
                }
            }
            _ => wrong(&value.span()),
        }
        sections
    }

    fn expect<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&DeValue<'t>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let found = read(value.get_ref());
        if found.is_none() {
            let shown = reader.shown(&value.span(), show(value.get_ref()));
            reader.problem_at(
                &value.span(),
                format!("{} = {shown} is not allowed: expected {allowed}", self.named(key)),
            );
        }
        found
    }

    /// A string.
    pub fn string(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
        self.expect(reader, key, "a string in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// A required string.
    pub fn required_string(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
        let there = self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key));
        if !there {
            reader.problem_at(&self.span, format!("{} is missing", self.named(key)));
        }
        self.string(reader, key)
    }

    /// A string that is parsed with [`FromStr`].
    pub fn parsed<T: FromStr>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        allowed: &str,
    ) -> Option<T> {
        self.expect(reader, key, allowed, |value| value.as_str()?.parse().ok())
    }

    /// A string that is parsed with a function.
    pub fn parsed_with<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.expect(reader, key, allowed, |value| read(value.as_str()?))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<bool> {
        self.expect(reader, key, "true or false", DeValue::as_bool)
    }

    /// A number within bounds.
    pub fn integer(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        bounds: RangeInclusive<i64>,
    ) -> Option<i64> {
        let allowed = format!("a number from {} to {}", bounds.start(), bounds.end());
        self.expect(reader, key, &allowed, |value| {
            let number = value.as_integer()?;
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix()).ok().filter(|number| bounds.contains(number))
        })
    }

    /// One of several keywords; returns its index.
    pub fn one_of(&mut self, reader: &mut Reader<'_>, key: &'static str, words: &[&str]) -> Option<usize> {
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        self.expect(reader, key, &quoted.join(" or "), |value| {
            words.iter().position(|word| value.as_str() == Some(word))
        })
    }

    /// A time such as `"10s"`, `"500ms"`, `"5m"`, or a number of seconds.
    pub fn duration(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let most = bounds.end().as_secs();
        let allowed = format!("a time such as \"10s\", \"500ms\" or \"5m\", at most {most} s");
        self.expect(reader, key, &allowed, |value| {
            let duration = match (value.as_str(), value.as_integer()) {
                (Some(text), _) => parse_duration(text)?,
                (_, Some(number)) => Duration::from_secs(number.as_str().parse().ok()?),
                _ => return None,
            };
            bounds.contains(&duration).then_some(duration)
        })
    }

    /// A list of strings.
    pub fn strings(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Vec<String>> {
        self.expect(reader, key, "a list of strings, such as [\"a\", \"b\"]", |value| {
            value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        })
    }

    /// A list of strings that are parsed with a function. Those that cannot be are reported and left out.
    pub fn list<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let texts = self.strings(reader, key)?;
        let mut items = Vec::new();
        for text in &texts {
            match read(text) {
                Some(item) => items.push(item),
                None => self.complain(reader, key, text, allowed),
            }
        }
        Some(items)
    }

    /// A list of networks; an address is a network of its own.
    pub fn networks(&mut self, reader: &mut Reader<'_>, key: &'static str) -> Option<Vec<IpNet>> {
        let allowed = "addresses or networks such as \"127.0.0.1\" or \"10.0.0.0/8\"";
        self.list(reader, key, allowed, |text| {
            text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
        })
    }

    /// Reports a value of the right type that is not allowed.
    pub fn complain(&self, reader: &mut Reader<'_>, key: &str, value: &str, allowed: &str) {
        let found = self.table.and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key));
        let span = found.map_or(self.span.clone(), |(_, value)| value.span());
        let shown = reader.shown(&span, format!("{value:?}"));
        reader.problem_at(&span, format!("{} = {shown} is not allowed: expected {allowed}", self.named(key)));
    }

    /// Reports a problem with the table as a whole.
    pub fn complain_about(&self, reader: &mut Reader<'_>, message: &str) {
        reader.problem_at(&self.span, format!("{}: {message}", self.path));
    }

    /// Reports all keys that were not read: they are unknown.
    pub fn finish(&self, reader: &mut Reader<'_>) {
        for (name, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            if self.known.contains(&name.get_ref().as_ref()) {
                continue;
            }
            let distance = |known: &&&str| strsim::damerau_levenshtein(known, name.get_ref());
            let nearest = self
                .known
                .iter()
                .min_by_key(distance)
                .filter(|known| distance(known) <= (known.len() / 3).max(1));
            let advice = match nearest {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("known keys are {}", self.known.join(", ")),
            };
            reader.problem_at(&name.span(), format!("{} is not known: {advice}", self.named(name.get_ref())));
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        other => kind(other).to_owned(),
    }
}
