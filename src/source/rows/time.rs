//! Times as text.

use std::str::FromStr;

use jiff::civil::{Date, Time};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::fields::{Fields, Role, Trouble};

/// How a column tells the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// Seconds since the Unix epoch, nanoseconds as decimals.
    Seconds,
    /// Milliseconds since the Unix epoch, nanoseconds as decimals.
    Millis,
    /// Microseconds since the Unix epoch, nanoseconds as decimals.
    Micros,
    /// Nanoseconds since the Unix epoch.
    Nanos,
    /// RFC 3339, as in `2026-01-30T09:30:00.123456789-05:00`.
    Rfc3339,
    /// Local date and time, by a pattern of strptime(3), as `%Y-%m-%d %H:%M:%S%.f`.
    Local {
        /// The pattern of [`Role::Ts`].
        pattern: String,
        /// Where the date comes from, if it is not in the pattern.
        date: DateFrom,
        /// The zone in which it is so late.
        zone: TimeZone,
    },
}

/// Where a local time's date comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DateFrom {
    /// The pattern has it.
    Pattern,
    /// [`Role::Date`] has it, by this pattern, as `%m/%d/%Y`.
    Column(String),
    /// It is this day.
    Day(Date),
}

/// A name of a unit, or `rfc3339`; patterns are made by who knows the zone.
impl FromStr for TimeFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "s" => Ok(Self::Seconds),
            "ms" => Ok(Self::Millis),
            "us" => Ok(Self::Micros),
            "ns" => Ok(Self::Nanos),
            "rfc3339" => Ok(Self::Rfc3339),
            _ => Err(()),
        }
    }
}

/// Reads times, and remembers the date read last, which is most often the next one, too.
#[derive(Clone, Debug)]
pub(super) struct TimeParser {
    format: TimeFormat,
    last: (String, Date),
}

impl TimeParser {
    pub(super) fn new(format: TimeFormat) -> Self {
        Self { format, last: (String::new(), Date::ZERO) }
    }

    /// The time of `role`, which is there, in nanoseconds since the Unix epoch.
    pub(super) fn parse(&mut self, fields: &Fields<'_>, role: Role) -> Result<u64, Trouble> {
        let text = fields.need(role)?;
        let units = |decimals: usize, unit: &str| {
            decimal(text, decimals).ok_or_else(|| {
                let decimals = if decimals == 0 { "no".to_owned() } else { format!("up to {decimals}") };
                Trouble::new(role, format!("not {unit} since 1970, with {decimals} decimals, before 2554"))
            })
        };
        let timestamp = match &self.format {
            TimeFormat::Nanos => return units(0, "nanoseconds"),
            TimeFormat::Micros => return units(3, "microseconds"),
            TimeFormat::Millis => return units(6, "milliseconds"),
            TimeFormat::Seconds => return units(9, "seconds"),
            TimeFormat::Rfc3339 => {
                text.parse::<Timestamp>().map_err(|_| Trouble::new(role, "not a time as RFC 3339 has it"))?
            }
            TimeFormat::Local { pattern, date, zone } => {
                let not = || Trouble::new(role, format!("not a time as {pattern} has it"));
                let date = match date {
                    DateFrom::Day(day) => Some(*day),
                    DateFrom::Column(format) => Some(date_of(fields, format, &mut self.last)?),
                    DateFrom::Pattern => None,
                };
                let local = match date {
                    Some(date) => date.to_datetime(Time::strptime(pattern, text).map_err(|_| not())?),
                    None => strtime::parse(pattern, text).and_then(|time| time.to_datetime()).map_err(|_| not())?,
                };
                let zoned: Result<Zoned, _> = zone.to_zoned(local);
                zoned.map_err(|_| not())?.timestamp()
            }
        };
        u64::try_from(timestamp.as_nanosecond()).map_err(|_| Trouble::new(role, "not a time from 1970 to 2554"))
    }
}

fn date_of(fields: &Fields<'_>, format: &str, last: &mut (String, Date)) -> Result<Date, Trouble> {
    let text = fields.need(Role::Date)?;
    if last.0 != text {
        let date = Date::strptime(format, text).ok().filter(|date| date.year() >= 1970);
        let not = || Trouble::new(Role::Date, format!("not a date as {format} has it, from 1970 on"));
        *last = (text.to_owned(), date.ok_or_else(not)?);
    }
    Ok(last.1)
}

/// A decimal number as a count of its last decimal, of which there are `decimals` at most.
fn decimal(text: &str, decimals: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || fraction.len() > decimals || (fraction.is_empty() && text.ends_with('.')) {
        return None;
    }
    let missing = (decimals - fraction.len()) as u32;
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? * 10u64.pow(missing) };
    whole.parse::<u64>().ok()?.checked_mul(10u64.pow(decimals as u32))?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: &TimeFormat, date: &str, text: &str) -> Result<u64, String> {
        let mut fields = Fields::default();
        fields.set(Role::Date, date);
        fields.set(Role::Ts, text);
        let parsed = TimeParser::new(format.clone()).parse(&fields, Role::Ts);
        parsed.map_err(|trouble| format!("{}: {}", trouble.role, trouble.reason))
    }

    #[test]
    fn units_have_decimals_down_to_the_nanosecond() {
        use TimeFormat::{Micros, Millis, Nanos, Seconds};
        let ns = 1_700_000_000_123_456_789;
        for (format, text) in [
            (Nanos, "1700000000123456789"),
            (Micros, "1700000000123456.789"),
            (Millis, "1700000000123.456789"),
            (Seconds, "1700000000.123456789"),
        ] {
            assert_eq!(parse(&format, "", text), Ok(ns), "{text}");
        }
        assert_eq!(parse(&Seconds, "", "5.01"), Ok(5_010_000_000));
        assert_eq!(parse(&Millis, "", "0"), Ok(0));
        for text in ["-1", "+1", "1e9", "1.", ".5", "1.0000000001", "", "18446744074", "99999999999999999999"] {
            assert!(parse(&Seconds, "", text).is_err(), "{text}");
        }
        let error = parse(&Nanos, "", "1.5").unwrap_err();
        assert_eq!(error, "ts: not nanoseconds since 1970, with no decimals, before 2554");
    }

    #[test]
    fn rfc_3339_has_an_offset() {
        let ns = 1_769_783_400_000_000_001;
        for text in
            ["2026-01-30T14:30:00.000000001Z", "2026-01-30T09:30:00.000000001-05:00", "2026-01-30 14:30:00.000000001Z"]
        {
            assert_eq!(parse(&TimeFormat::Rfc3339, "", text), Ok(ns), "{text}");
        }
        assert!(parse(&TimeFormat::Rfc3339, "", "2026-01-30T09:30:00").is_err(), "where?");
        assert!(parse(&TimeFormat::Rfc3339, "", "1960-01-30T09:30:00Z").unwrap_err().contains("1970"));
    }

    #[test]
    fn local_times_are_of_their_zone_and_their_season() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let local = |pattern: &str, date| TimeFormat::Local { pattern: pattern.to_owned(), date, zone: zone.clone() };
        let full = local("%Y-%m-%d %H:%M:%S%.f", DateFrom::Pattern);
        let (winter, summer) = (1_769_783_400_500_000_000, 1_785_418_200_500_000_000);
        assert_eq!(parse(&full, "", "2026-01-30 09:30:00.5"), Ok(winter));
        assert_eq!(parse(&full, "", "2026-07-30 09:30:00.5"), Ok(summer));
        let column = local("%H:%M:%S%.f", DateFrom::Column("%d.%m.%Y".to_owned()));
        assert_eq!(parse(&column, "30.01.2026", "09:30:00.5"), Ok(winter));
        let day = local("%H:%M:%S%.f", DateFrom::Day(jiff::civil::date(2026, 7, 30)));
        assert_eq!(parse(&day, "", "09:30:00.5"), Ok(summer));
        assert_eq!(
            parse(&column, "2026-01-30", "09:30:00").unwrap_err(),
            "date: not a date as %d.%m.%Y has it, from 1970 on"
        );
        assert_eq!(parse(&column, "", "09:30:00").unwrap_err(), "date: it is missing");
        assert_eq!(parse(&column, "30.01.2026", "25:30").unwrap_err(), "ts: not a time as %H:%M:%S%.f has it");
        assert!(parse(&full, "", "2026-02-30 09:30:00").is_err());
    }
}
