//! Fields of CSV.

use super::config::RowsConfig;
use super::fields::{Fields, Role};

/// Cuts a line into fields: RFC 4180, section 2.
#[derive(Debug)]
pub(super) struct Cutter {
    core: Box<csv_core::Reader>,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    delimiter: u8,
}

impl Cutter {
    pub(super) fn new(delimiter: u8) -> Self {
        let core = Box::new(csv_core::ReaderBuilder::new().delimiter(delimiter).build());
        Self { core, text: Vec::new(), ends: Vec::new(), count: 0, delimiter }
    }

    /// Cuts a line.
    pub(super) fn cut(&mut self, line: &[u8]) -> Result<(), String> {
        let mut fields = 1;
        let mut quotes = 0;
        for byte in line {
            fields += usize::from(*byte == self.delimiter);
            quotes += usize::from(*byte == b'"');
        }
        if quotes % 2 == 1 {
            return Err("a quote is not closed; a field does not go on in the next line".to_owned());
        }
        self.text.resize(line.len().max(self.text.len()), 0);
        self.ends.resize(fields.max(self.ends.len()), 0);
        self.core.reset();
        let (_, _, text, ends) = self.core.read_record(line, &mut self.text, &mut self.ends);
        // Nothing more to read is the record's end.
        let (_, _, _, last) = self.core.read_record(&[], &mut self.text[text..], &mut self.ends[ends..]);
        self.count = ends + last;
        Ok(())
    }

    /// How many fields there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A field, from 0.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }
}

/// Where each column is.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Roles, and the places of their columns.
    places: Vec<(Role, usize)>,
    columns: usize,
}

impl Header {
    /// Finds the columns among those that there are.
    ///
    /// # Errors
    /// Which one is missing, and what there is instead.
    pub(super) fn find(names: &[String], config: &RowsConfig) -> Result<Self, String> {
        let mut places = Vec::new();
        for role in Role::ALL {
            let name = config.column(role);
            let mut found = names.iter().enumerate().filter(|(_, there)| there.as_str() == name);
            let is_wanted = config.columns.contains_key(&role);
            let is_needed = role == Role::Ts || (role == Role::Symbol && config.symbol.is_none());
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => return Err(format!("there are two columns {name:?}")),
                (Some((place, _)), None) => places.push((role, place)),
                (None, _) if is_wanted || is_needed => {
                    let there = names.join(", ");
                    return Err(format!("there is no column {name:?}, which has the {role}; there are: {there}"));
                }
                (None, _) => {}
            }
        }
        let header = Self { places, columns: names.len() };
        for (price, size) in [(Role::Price, Role::Size), (Role::Bid, Role::BidSize), (Role::Ask, Role::AskSize)] {
            if header.place(price).is_some() && header.place(size).is_none() {
                let (price, size) = (config.column(price), config.column(size));
                return Err(format!("there is a column {price:?}, but no {size:?}, which is to have its size"));
            }
        }
        if [Role::Price, Role::Bid, Role::Ask].iter().all(|role| header.place(*role).is_none()) {
            let wanted = [Role::Price, Role::Bid, Role::Ask].map(|role| config.column(role)).join(", ");
            return Err(format!("there is none of the columns {wanted}; there are: {}", names.join(", ")));
        }
        Ok(header)
    }

    fn place(&self, role: Role) -> Option<usize> {
        self.places.iter().find(|(there, _)| *there == role).map(|(_, place)| *place)
    }

    /// The fields of the line that was cut.
    pub(super) fn fields<'a>(&self, cutter: &'a Cutter) -> Result<Fields<'a>, String> {
        if cutter.count() != self.columns {
            return Err(format!("the row has {} columns, and the header {}", cutter.count(), self.columns));
        }
        let mut fields = Fields::default();
        for (role, place) in &self.places {
            let text = std::str::from_utf8(cutter.field(*place)).map_err(|_| format!("{role}: not UTF-8"))?;
            fields.set(*role, text.trim_ascii());
        }
        Ok(fields)
    }
}
