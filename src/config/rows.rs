//! How the rows of a feed of kind `csv` or `ndjson` are to be read.

use jiff::tz::TimeZone;
use plimsoll::TickKind;
use plimsoll::source::OnMalformed;
use plimsoll::source::rows::{DateFrom, Role, RowFormat, RowsConfig, TimeFormat};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

use super::feed::FeedSection;
#[cfg(feature = "kafka")]
use super::feed::Kind;

/// What all rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RowsOf {
    Trades,
    Quotes,
}

/// A column's meaning and its name, as in `price=Px`.
pub(super) fn column(text: &str) -> Result<(Role, String), String> {
    let (role, name) =
        text.split_once('=').ok_or_else(|| format!("{text:?} has no =: give MEANING=NAME, as in price=Px"))?;
    let meaning: StrDeserializer<'_, Error> = role.into_deserializer();
    let role = Role::deserialize(meaning).map_err(|_| {
        let known = Role::ALL.map(Role::name).join(", ");
        format!("{role:?} is no meaning of a column: give one of {known}")
    })?;
    Ok((role, name.to_owned()))
}

impl FeedSection {
    /// How rows in records are to be read.
    #[cfg(feature = "kafka")]
    pub(super) fn rows_of_records(&self, is_csv: bool) -> Result<RowsConfig, String> {
        let known = if is_csv { Kind::Csv } else { Kind::Ndjson }.keys();
        let is_known = |key: &&str| known.contains(key) && !matches!(*key, "input" | "pace" | "prefix");
        match self.keys_given().find(|key| !is_known(key)) {
            Some(key) => Err(format!("{key} means nothing to rows in records")),
            None => self.rows(is_csv, OnMalformed::Stop),
        }
    }

    /// Whether any key is given.
    #[cfg(feature = "kafka")]
    pub(super) fn is_given(&self) -> bool {
        self.keys_given().next().is_some()
    }

    pub(super) fn rows(&self, is_csv: bool, on_malformed: OnMalformed) -> Result<RowsConfig, String> {
        let delimiter = self.delimiter.unwrap_or(',');
        let delimiter = u8::try_from(delimiter).ok().filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte));
        let delimiter =
            delimiter.ok_or("the delimiter is to be one ASCII character, but no quote and no line's end")?;
        let format = if is_csv { RowFormat::Csv { delimiter } } else { RowFormat::Ndjson };
        let kind = self.rows.map(|rows| match rows {
            RowsOf::Trades => TickKind::Trade,
            RowsOf::Quotes => TickKind::Quote,
        });
        Ok(RowsConfig {
            columns: self.columns.clone(),
            header: self.header.clone(),
            time: self.time_format()?,
            symbol: self.symbol.clone(),
            kind,
            prefix: self.prefix.clone().unwrap_or_default(),
            on_malformed,
            ..RowsConfig::new(format)
        })
    }

    fn time_format(&self) -> Result<TimeFormat, String> {
        let text = self.time.as_deref().unwrap_or("ns");
        if !text.contains('%') {
            for (key, is_given) in
                [("date", self.date.is_some()), ("day", self.day.is_some()), ("zone", self.zone.is_some())]
            {
                if is_given {
                    return Err(format!("{key} is of no use with time = {text:?}, which tells it all"));
                }
            }
            let unknown =
                || format!("time = {text:?} is unknown: give ns, us, ms, s, rfc3339, or a pattern as \"%H:%M:%S%.f\"");
            return text.parse().map_err(|()| unknown());
        }
        let zone = self.zone.as_deref();
        let zone =
            zone.ok_or_else(|| format!("time = {text:?} is local: give its zone, as in zone = \"Australia/Sydney\""))?;
        let zone = TimeZone::get(zone).map_err(|error| format!("zone {zone:?}: {error}"))?;
        let date = match (&self.date, self.day) {
            (Some(_), Some(_)) => return Err("date and day both tell the date: give one of them".to_owned()),
            (Some(pattern), None) => DateFrom::Column(pattern.clone()),
            (None, Some(day)) => DateFrom::Day(day),
            (None, None) => DateFrom::Pattern,
        };
        Ok(TimeFormat::Local { pattern: text.to_owned(), date, zone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(toml: &str) -> Result<RowsConfig, String> {
        let section: FeedSection = toml::from_str(toml).map_err(|error| error.to_string())?;
        section.rows(true, OnMalformed::Stop)
    }

    #[test]
    fn keys_become_a_configuration() {
        let config = rows(
            "columns = { price = \"Px\" }\ntime = \"%H:%M\"\ndate = \"%d.%m.%Y\"\nzone = \"UTC\"\nrows = \"quotes\"\ndelimiter = \";\"",
        )
        .unwrap();
        assert_eq!((config.column(Role::Price), config.column(Role::Size)), ("Px", "size"));
        assert_eq!((config.kind, config.format), (Some(TickKind::Quote), RowFormat::Csv { delimiter: b';' }));
        let date = DateFrom::Column("%d.%m.%Y".to_owned());
        assert_eq!(config.time, TimeFormat::Local { pattern: "%H:%M".to_owned(), date, zone: TimeZone::UTC });
        assert_eq!(rows("").unwrap().time, TimeFormat::Nanos);
        assert_eq!(column("price=P=x"), Ok((Role::Price, "P=x".to_owned())));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (toml, reason) in [
            ("delimiter = \"é\"", "one ASCII character"),
            ("time = \"min\"", "time = \"min\" is unknown: give ns, us"),
            ("time = \"%H:%M\"", "is local: give its zone"),
            ("time = \"%H:%M\"\nzone = \"Moon\"", "zone \"Moon\""),
            ("time = \"%H:%M\"\nzone = \"UTC\"\ndate = \"%d\"\nday = \"2026-01-30\"", "give one of them"),
            ("zone = \"UTC\"", "zone is of no use with time = \"ns\""),
            ("columns = { prize = \"Px\" }", "unknown variant `prize`"),
        ] {
            let error = rows(toml).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(column("Px").unwrap_err().contains("MEANING=NAME"));
        assert!(column("prize=Px").unwrap_err().contains("give one of symbol, date, ts"));
    }
}
