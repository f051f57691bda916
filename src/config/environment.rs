//! Values from outside the file: environment variables that override keys, and `${NAME}` and `file:…` inside of strings.
//! The variables are turned into TOML, so that their values are checked like those of the file. Start at [`Layer`] and
//! [`Expansion`].

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest value that is read from a file, in bytes.
const MAX_VALUE: u64 = 64 * 1024;

/// How a variable's text becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// A number, or `true` or `false`.
    Plain,
    /// Separated by commas.
    List,
}

/// Environment variables and the keys that they override.
const VARIABLES: [(&str, &str, Kind); 21] = [
    ("GATEHOUSE_LISTEN", "server.listen", Kind::Text),
    ("GATEHOUSE_DATA", "server.data", Kind::Text),
    ("GATEHOUSE_LOG", "server.log", Kind::Text),
    ("GATEHOUSE_KEEP_LOG", "server.keep_log", Kind::Text),
    ("GATEHOUSE_HOSTS", "server.hosts", Kind::List),
    ("GATEHOUSE_TRUSTED_PROXIES", "server.trusted_proxies", Kind::List),
    ("GATEHOUSE_BASE_PATH", "server.base_path", Kind::Text),
    ("GATEHOUSE_EMBED_FROM", "server.embed_from", Kind::List),
    ("GATEHOUSE_TLS", "tls.mode", Kind::Text),
    ("GATEHOUSE_TLS_NAMES", "tls.names", Kind::List),
    ("GATEHOUSE_TLS_CERT", "tls.cert", Kind::Text),
    ("GATEHOUSE_TLS_KEY", "tls.key", Kind::Text),
    ("GATEHOUSE_TLS_DOMAINS", "tls.domains", Kind::List),
    ("GATEHOUSE_TLS_EMAIL", "tls.email", Kind::Text),
    ("GATEHOUSE_TLS_OFF_ANYWHERE", "tls.off_anywhere", Kind::Plain),
    ("GATEHOUSE_MEDIA_LISTEN", "media.listen", Kind::Text),
    ("GATEHOUSE_PUBLIC_HOSTS", "media.public_hosts", Kind::List),
    ("GATEHOUSE_ADVERTISE_PORT", "media.advertise_port", Kind::Plain),
    ("GATEHOUSE_MAX_VIEWERS", "media.max_viewers", Kind::Plain),
    ("GATEHOUSE_THREADS", "media.threads", Kind::Plain),
    ("GATEHOUSE_CALLS", "calls.media", Kind::Text),
];

/// The known variables and their keys.
pub fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES.into_iter().map(|(name, key, _)| (name, key))
}

/// The variables as a TOML text with one line for each.
#[derive(Debug, Default)]
pub struct Layer {
    /// The text.
    pub text: String,
    /// The variable of each line.
    pub names: Vec<&'static str>,
}

impl Layer {
    /// Of these variables.
    pub fn new(environment: &HashMap<String, String>) -> Self {
        let mut layer = Self::default();
        for (name, key, kind) in VARIABLES {
            let Some(text) = environment.get(name) else { continue };
            let value = match kind {
                Kind::Plain if is_plain(text) => text.trim().to_owned(),
                Kind::Text | Kind::Plain => quoted(text),
                Kind::List => {
                    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
                }
            };
            layer.text += &format!("{key} = {value}\n");
            layer.names.push(name);
        }
        layer
    }

    /// The variable whose value is at this offset of the text.
    pub fn name_at(&self, offset: usize) -> &'static str {
        let line = self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
        self.names.get(line).copied().unwrap_or_default()
    }
}

fn is_plain(text: &str) -> bool {
    let text = text.trim();
    matches!(text, "true" | "false") || text.parse::<i64>().is_ok()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Puts the values of one table over those of another. Their positions are moved by `offset`.
pub fn put_over<'t>(below: &mut DeTable<'t>, above: DeTable<'t>, offset: usize) {
    for (key, value) in above {
        let span = value.span();
        let moved = span.start + offset..span.end + offset;
        match value.into_inner() {
            DeValue::Table(inner) => {
                let entry = below
                    .entry(key)
                    .or_insert_with(|| Spanned::new(moved, DeValue::Table(DeTable::default())));
                if let DeValue::Table(table) = entry.get_mut() {
                    put_over(table, inner, offset);
                }
            }
            other => {
                below.insert(key, Spanned::new(moved, other));
            }
        }
    }
}

/// Replaces `${NAME}` by an environment variable, and `file:PATH` by a file's content without the line break at its end.
/// `$${` stands for `${`.
pub struct Expansion<'e> {
    /// Looks a variable up.
    pub variable: &'e dyn Fn(&str) -> Option<String>,
    /// For relative paths.
    pub folder: &'e Path,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

impl Expansion<'_> {
    /// The replacement of a text; `None` if there is nothing to replace.
    ///
    /// # Errors
    /// What is missing.
    pub fn expand(&mut self, text: &str) -> Result<Option<String>, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return self.read(path).map(Some);
        }
        if !text.contains("${") {
            return Ok(None);
        }
        let (mut result, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                result += before;
                result += "${";
                rest = after;
                continue;
            }
            let end = after.find('}').ok_or("${ without }")?;
            let name = &after[..end];
            let value =
                (self.variable)(name).ok_or(format!("the environment variable {name:?} is not set"))?;
            result += before;
            result += &value;
            rest = &after[end + 1..];
        }
        Ok(Some(result + rest))
    }

    fn read(&mut self, path: &str) -> Result<String, String> {
        let path = self.folder.join(path);
        self.files.push(path.clone());
        let fail = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
        let file = std::fs::File::open(&path).map_err(|error| fail(&error))?;
        let mut text = String::new();
        file.take(MAX_VALUE + 1).read_to_string(&mut text).map_err(|error| fail(&error))?;
        if text.len() as u64 > MAX_VALUE {
            return Err(fail(&"it is too long for a value"));
        }
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_expanded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "from file\r\n").unwrap();
        let variable = |name: &str| (name == "NAME").then(|| "value".to_owned());
        let mut expansion = Expansion { variable: &variable, folder: folder.path(), files: Vec::new() };
        let table: [(&str, Result<Option<&str>, &str>); 9] = [
            ("plain $NAME {NAME}", Ok(None)),
            ("${NAME}", Ok(Some("value"))),
            ("rtsp://u:${NAME}@h/${NAME}", Ok(Some("rtsp://u:value@h/value"))),
            ("$${NAME} ${NAME}", Ok(Some("${NAME} value"))),
            ("${OTHER}", Err("\"OTHER\" is not set")),
            ("${NAME", Err("without }")),
            ("${}", Err("\"\" is not set")),
            ("file:secret", Ok(Some("from file"))),
            ("file:missing", Err("missing cannot be read")),
        ];
        for (text, expected) in table {
            let found = expansion.expand(text);
            match expected {
                Ok(expected) => assert_eq!(found.as_ref().map(Option::as_deref), Ok(expected), "{text}"),
                Err(part) => assert!(found.as_ref().unwrap_err().contains(part), "{text}: {found:?}"),
            }
        }
        assert_eq!(expansion.files.len(), 2);
    }

    #[test]
    fn variables_become_toml() {
        let environment = [
            ("GATEHOUSE_LISTEN", "0.0.0.0:1"),
            ("GATEHOUSE_HOSTS", "a.example, b\"c,"),
            ("GATEHOUSE_THREADS", "many"),
            ("GATEHOUSE_MAX_VIEWERS", "7"),
            ("GATEHOUSE_OTHER", "x"),
        ];
        let environment = environment.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let layer = Layer::new(&environment.into_iter().collect());
        let table: toml::Table = layer.text.parse().unwrap();
        assert_eq!(table["server"]["hosts"].as_array().unwrap().len(), 2);
        assert_eq!(table["media"]["max_viewers"].as_integer(), Some(7));
        let at = layer.text.find("many").unwrap();
        assert_eq!(layer.name_at(at), "GATEHOUSE_THREADS");
    }
}
