//! Reading a configuration file: TOML in, values with their lines out, unknown keys noted.

use super::keys::KEYS;
use super::load::{Given, Raw, Reader};
use super::problem::{Origin, Problem};
use super::table::Key;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use std::io::Read as _;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Far above any configuration; keeps us from reading a disk image that was named by mistake.
const MAX_FILE: u64 = 1 << 20;

/// How many syntax errors of one file are told: one slip often causes several.
const MAX_SYNTAX_ERRORS: usize = 3;

/// Texts shown in messages are cut after this many characters.
const MAX_SHOWN: usize = 120;

/// Notes every value of the file at `path`. A missing file is a problem only if it was asked for.
/// True when the file was there and is TOML.
pub(super) fn read_file(path: &Path, asked_for: bool, reader: &mut Reader) -> bool {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked_for => return false,
        Err(error) => {
            reader.note(Problem::Unreadable { path: path.to_owned(), reason: error.to_string() });
            return false;
        }
    };
    let (table, errors) = DeTable::parse_recoverable(&text);
    for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
        let line = line_at(&text, error.span().map_or(0, |span| span.start));
        let reason = error.message().lines().collect::<Vec<_>>().join(", ");
        reader.note(Problem::NotToml { path: path.to_owned(), line, reason });
    }
    if !errors.is_empty() {
        return false;
    }
    let file = File { path, text: &text };
    for (name, value) in table.get_ref() {
        file.section(name.get_ref(), value, reader);
    }
    true
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn section(&self, name: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader) {
        let known = KEYS.iter().any(|key| key.section == name);
        match value.get_ref() {
            DeValue::Table(table) => {
                for (leaf, value) in table {
                    self.entry(&format!("{name}.{}", leaf.get_ref()), value, reader);
                }
                if table.is_empty() && !known {
                    self.unknown(name, value, reader);
                }
            }
            _ if known => reader.note(Problem::Refused {
                key: name.to_owned(),
                value: self.shown(value),
                origin: self.origin(value),
                allowed: format!("a section: write [{name}] and the keys below it"),
            }),
            _ => self.unknown(name, value, reader),
        }
    }

    fn entry(&self, name: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader) {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return self.unknown(name, value, reader);
        };
        match toml::Value::deserialize(value.clone().into_deserializer()) {
            Ok(parsed) => reader.give(key, Given { raw: Raw::Toml(parsed), origin: self.origin(value) }),
            // A number beyond 64 bits is TOML, but no value of ours.
            Err(_) => reader.note(Problem::Refused {
                key: name.to_owned(),
                value: self.shown(value),
                origin: self.origin(value),
                allowed: key.allowed.to_owned(),
            }),
        }
    }

    fn unknown(&self, name: &str, value: &Spanned<DeValue<'_>>, reader: &mut Reader) {
        reader.note(Problem::UnknownKey {
            name: name.to_owned(),
            value: self.shown(value),
            origin: self.origin(value),
            advice: advice(name),
        });
    }

    fn origin(&self, value: &Spanned<DeValue<'_>>) -> Origin {
        Origin::File { path: self.path.to_owned(), line: line_at(self.text, value.span().start) }
    }

    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        cut(self.text.get(value.span()).unwrap_or_default())
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// One line, not too long, for a message.
pub(super) fn cut(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    if line.chars().count() <= MAX_SHOWN {
        return line;
    }
    line.chars().take(MAX_SHOWN).chain(['…']).collect()
}

/// What to write instead of an unknown key: the nearest by spelling, or the one of that name in another section.
fn advice(name: &str) -> String {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    if let Some(key) = KEYS.iter().find(|key| key.leaf() == leaf && !is_shared(leaf)) {
        return format!("did you mean {}?", key.name);
    }
    // Without a section, compare with names without a section.
    let spelled = |key: &'static Key| if name.contains('.') { key.name } else { key.leaf() };
    match nearest(name, KEYS.iter().map(|key| (spelled(key).to_owned(), key.name.to_owned()))) {
        Some(near) => format!("did you mean {near}?"),
        None => "`aptpeer config init` prints every key".to_owned(),
    }
}

/// Several sections have a key of this name, so the name alone says little.
fn is_shared(leaf: &str) -> bool {
    KEYS.iter().filter(|key| key.leaf() == leaf).count() > 1
}

/// The second of the pair whose first is spelled most like `text`; `None` when none is like it.
pub(super) fn nearest(text: &str, candidates: impl Iterator<Item = (String, String)>) -> Option<String> {
    const ALIKE: f64 = 0.5;
    candidates
        .map(|(spelled, name)| {
            (strsim::normalized_damerau_levenshtein(&text.to_lowercase(), &spelled.to_lowercase()), name)
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_met_with_the_nearest() {
        assert_eq!(advice("cache.maxsize"), "did you mean cache.max_size?");
        assert_eq!(advice("cahce.max_size"), "did you mean cache.max_size?");
        assert_eq!(advice("max_size"), "did you mean cache.max_size?");
        assert_eq!(advice("proxy.lisen"), "did you mean proxy.listen?");
        assert_eq!(advice("network.max_upload_rate"), "did you mean transfer.max_upload_rate?");
        assert_eq!(advice("max_sise"), "did you mean cache.max_size?");
    }

    #[test]
    fn a_key_like_nothing_is_not_guessed_at() {
        assert_eq!(advice("xyzzy.plugh"), "`aptpeer config init` prints every key");
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!(line_at("a\nb\n", 0), 1);
        assert_eq!(line_at("a\nb\n", 2), 2);
        assert_eq!(line_at("a", 99), 1);
    }
}
