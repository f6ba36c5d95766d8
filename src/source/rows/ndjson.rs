//! Fields of a JSON object: RFC 8259.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::config::RowsConfig;
use super::fields::{Fields, Role};

/// Keys by what they mean.
#[derive(Clone, Debug)]
pub(super) struct Keys(Vec<(String, Role)>);

/// The texts of a row, as they are in the line, or unescaped.
pub(super) type Texts<'a> = [Option<Cow<'a, str>>; Role::ALL.len()];

impl Keys {
    pub(super) fn new(config: &RowsConfig) -> Self {
        Self(Role::ALL.iter().map(|role| (config.column(*role).to_owned(), *role)).collect())
    }

    /// Reads an object. Numbers are taken as they are written, so that decimals stay exact.
    pub(super) fn read<'a>(&self, line: &'a str) -> Result<Texts<'a>, String> {
        let mut json = serde_json::Deserializer::from_str(line);
        let object = ObjectVisitor { keys: self };
        let texts = json.deserialize_map(object).map_err(|error| told(&error))?;
        json.end().map_err(|error| told(&error))?;
        Ok(texts)
    }
}

/// The row's texts, by what they mean.
pub(super) fn fields<'a>(texts: &'a Texts<'_>) -> Fields<'a> {
    let mut fields = Fields::default();
    for (role, text) in Role::ALL.into_iter().zip(texts) {
        fields.set(role, text.as_deref().unwrap_or_default().trim_ascii());
    }
    fields
}

/// An error without the line, which is told elsewhere.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or_default();
    if error.column() == 0 { reason.to_owned() } else { format!("{reason} (column {})", error.column()) }
}

struct ObjectVisitor<'k> {
    keys: &'k Keys,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<'de>, A::Error> {
        let mut texts = Texts::default();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let Some((name, role)) = self.keys.0.iter().find(|(name, _)| *name == key.0) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if texts[*role as usize].is_some() {
                return Err(A::Error::custom(format!("{name} is there twice")));
            }
            let raw = map.next_value::<&'de RawValue>()?.get();
            texts[*role as usize] = match raw.as_bytes().first() {
                Some(b'"') => Some(serde_json::from_str::<Key<'de>>(raw).map_err(A::Error::custom)?.0),
                Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(raw)),
                _ if raw == "null" => None,
                _ => return Err(A::Error::custom(format!("{name} is neither a text nor a number"))),
            };
        }
        Ok(texts)
    }
}

/// A text, borrowed where nothing in it is escaped.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
