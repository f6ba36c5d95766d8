//! Pictures as SVG: what a level and its signals did, and what messages became, over time.
//!
//! Colours are names: a page, or a picture that stands by itself, says what they are in light and in dark ([`style`]). They are told apart
//! without hue, too: levels by their row, outcomes by their order and lightness, lines by their dashes.

mod flow;
mod latency;
mod levels;

use std::fmt::Write as _;

pub(crate) use flow::{Rates, flow, pending};
pub(crate) use latency::{PERCENTILES, latency};
pub(crate) use levels::{Marks, Watched, levels, water};
use plotters::coord::Shift;
use plotters::prelude::*;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// A colour by its name: what is drawn is a stand-in, which becomes the name afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ink {
    number: u8,
    name: &'static str,
    light: &'static str,
    dark: &'static str,
}

macro_rules! inks {
    ($($ink:ident = $number:literal $name:literal $light:literal $dark:literal;)*) => {
        $(pub(crate) const $ink: Ink = Ink { number: $number, name: $name, light: $light, dark: $dark };)*
        const INKS: &[Ink] = &[$($ink),*];
    };
}

inks! {
    TEXT = 1 "ink" "#1c2330" "#e6eaf1";
    DIM = 2 "dim" "#5b6575" "#9aa5b5";
    LINE = 3 "line" "#d9dee6" "#313a48";
    LEVEL_0 = 4 "l0" "#1b7f6b" "#4cc3a5";
    LEVEL_1 = 5 "l1" "#2f6fb5" "#6fb1f0";
    LEVEL_2 = 6 "l2" "#8a6a00" "#e2b93b";
    LEVEL_3 = 7 "l3" "#b8480b" "#ff8f4d";
    LEVEL_4 = 8 "l4" "#a0227a" "#f07cc6";
    PROCESSED = 9 "processed" "#0072b2" "#3f9fe0";
    REPLAYED = 10 "replayed" "#0b3d5c" "#a9dcff";
    SPILLED = 11 "spilled" "#e69f00" "#ffc247";
    SHED = 12 "shed" "#c4500a" "#e8672a";
    REFUSED = 13 "refused" "#9aa3ae" "#6b7480";
    CONFLATED = 15 "conflated" "#5a4fcf" "#a9a1ff";
    BACK = 14 "card" "#ffffff" "#1a202a";
}

/// By a level's number.
pub(crate) const LEVELS: [Ink; 5] = [LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, LEVEL_4];

impl Ink {
    pub(crate) fn colour(self) -> RGBColor {
        RGBColor(1, 0, self.number)
    }

    /// As style sheets have it.
    pub(crate) fn css(self) -> String {
        format!("var(--{})", self.name)
    }
}

/// What the names of colours mean, as a style sheet: light, dark where that is preferred, and light on paper.
pub(crate) fn style() -> String {
    let all = |pick: fn(&Ink) -> &'static str| {
        INKS.iter().fold(String::new(), |mut text, ink| {
            let _ = write!(text, "--{}:{};", ink.name, pick(ink));
            text
        })
    };
    let (light, dark) = (all(|ink| ink.light), all(|ink| ink.dark));
    format!(
        ":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )
}

/// How large a picture is, in its own units; it is scaled to the place it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Size {
    /// Names at an axis have no place here.
    pub(crate) fn is_narrow(self) -> bool {
        self.width < 600
    }
}

/// Draws a picture, for a page. `label` says in words what it shows.
pub(crate) fn svg(size: Size, label: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (size.width, size.height)).into_drawing_area();
        draw(&area).and_then(|()| area.present()).expect("a string can be written to");
    }
    let begin = text.find("viewBox").unwrap_or_default();
    let kind = if size.is_narrow() { "narrow" } else { "wide" };
    let mut text = format!("<svg class=\"{kind}\" role=\"img\" aria-label=\"{}\" {}", escaped(label), &text[begin..]);
    for ink in INKS {
        text = text.replace(&format!("\"#0100{:02X}\"", ink.number), &format!("\"{}\"", ink.css()));
    }
    text
}

/// One picture of several below each other, with titles, that stands by itself.
pub(crate) fn standalone(title: &str, width: u32, parts: &[(String, u32, String)]) -> String {
    const HEADING: u32 = 26;
    let height: u32 = 44 + parts.iter().map(|(_, height, _)| height + HEADING + 8).sum::<u32>();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{}text{{font-family:system-ui,sans-serif}}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n\
         <text x=\"12\" y=\"28\" font-size=\"18\" font-weight=\"600\" fill=\"{}\">{}</text>\n",
        style(),
        BACK.css(),
        TEXT.css(),
        escaped(title)
    );
    let mut y = 44;
    for (heading, height, svg) in parts {
        let _ = writeln!(
            text,
            "<text x=\"12\" y=\"{}\" font-size=\"14\" fill=\"{}\">{}</text>",
            y + 18,
            TEXT.css(),
            escaped(heading)
        );
        y += HEADING;
        let placed = format!("<svg x=\"0\" y=\"{y}\" width=\"{width}\" height=\"{height}\" ");
        text += &svg.replacen("<svg ", &placed, 1);
        y += height + 8;
    }
    text + "</svg>\n"
}

/// For text between tags and in quotes.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number with a unit of its size: `1.2 M`.
pub(crate) fn short(number: f64) -> String {
    for (size, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if number >= size {
            let scaled = number / size;
            let digits = if scaled < 9.95 && (scaled - scaled.round()).abs() > 0.04 { 1 } else { 0 };
            return format!("{scaled:.digits$} {unit}");
        }
    }
    if number == 0.0 || number >= 1.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

/// A time on an axis that is so long.
pub(crate) fn clock(seconds: f64, span: f64) -> String {
    let whole = seconds.round() as u64;
    match span {
        ..5.0 => format!("{seconds:.1} s"),
        ..120.0 => format!("{whole} s"),
        ..7200.0 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{} h {:02}", whole / 3600, whole / 60 % 60),
    }
}

/// Text at an axis.
fn axis_text() -> TextStyle<'static> {
    ("sans-serif", 12).into_font().color(&DIM.colour())
}

/// How many times fit below a picture.
fn time_labels(size: Size) -> usize {
    if size.is_narrow() { 4 } else { 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        let numbers = [0.0, 0.25, 7.4, 999.0, 1000.0, 1234.0, 20_000.0, 5e6, 1.25e9].map(short);
        assert_eq!(numbers, ["0", "0.25", "7", "999", "1 k", "1.2 k", "20 k", "5 M", "1.2 G"]);
        let times = [(1.5, 3.0), (14.0, 60.0), (75.0, 600.0), (7_260.0, 90_000.0)].map(|(t, span)| clock(t, span));
        assert_eq!(times, ["1.5 s", "14 s", "1:15", "2 h 01"]);
    }

    #[test]
    fn colours_are_names_and_words_cannot_break_out() {
        let size = Size { width: 100, height: 50 };
        let svg = svg(size, "a \"quoted\" <label>", |area| area.fill(&SHED.colour()));
        assert!(svg.contains("fill=\"var(--shed)\"") && !svg.contains("#0100"), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;quoted&quot; &lt;label&gt;\""), "{svg}");
        assert!(style().contains("--shed:"));
    }
}
