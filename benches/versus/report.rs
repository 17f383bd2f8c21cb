//! The table of a run.

use std::fmt;

use crate::{Scale, server::Kind};

/// One line of the table.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) goal: Goal,
}

/// What a row must reach.
pub(crate) enum Goal {
    /// A value of our own, not to be exceeded.
    AtMost(f64),
    /// A value of our own, to be reached.
    AtLeast(f64),
    /// So many times Synapse's.
    TimesMore(f64),
    /// One part in so many of Synapse's.
    TimesLess(f64),
    /// A value of our own, not to be exceeded, or else one part in so many of Synapse's.
    AtMostOrLess(f64, f64),
    /// Printed beside.
    None,
}

/// What a figure gave on one server: a value for each of its rows, where there is one, and remarks.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) notes: Vec<String>,
}

impl<const N: usize> From<[f64; N]> for Measured {
    fn from(values: [f64; N]) -> Self {
        Self { values: values.map(Some).into(), notes: Vec::new() }
    }
}

impl Measured {
    pub(crate) fn note(mut self, text: String) -> Self {
        self.notes.push(text);
        self
    }
}

/// Everything that a run measured.
pub(crate) struct Report {
    scale: Scale,
    lines: Vec<Line>,
    notes: Vec<String>,
}

struct Line {
    row: &'static Row,
    ours: Option<f64>,
    synapse: Option<f64>,
}

impl Report {
    pub(crate) fn new(scale: Scale) -> Self {
        Self { scale, lines: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(crate) fn add(&mut self, kind: Kind, rows: &'static [Row], measured: Measured) {
        for (row, value) in rows.iter().zip(measured.values) {
            let known = self.lines.iter().position(|line| std::ptr::eq(line.row, row));
            let index = known.unwrap_or_else(|| {
                self.lines.push(Line { row, ours: None, synapse: None });
                self.lines.len() - 1
            });
            match kind {
                Kind::Tayberry => self.lines[index].ours = value,
                Kind::Synapse => self.lines[index].synapse = value,
            }
        }
        self.notes.extend(measured.notes.into_iter().map(|note| format!("{}: {note}", kind.name())));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | must reach | Tayberry | Synapse | ratio | reached |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for Line { row, ours, synapse } in &self.lines {
            let ratio = ours.zip(*synapse).map(|(ours, synapse)| ours / synapse);
            let reached = match row.goal {
                Goal::AtMost(limit) => ours.map(|ours| ours <= limit),
                Goal::AtLeast(limit) => ours.map(|ours| ours >= limit),
                Goal::TimesMore(factor) => ratio.map(|ratio| ratio >= factor),
                Goal::TimesLess(factor) => ratio.map(|ratio| ratio * factor <= 1.0),
                Goal::AtMostOrLess(limit, factor) => {
                    ours.map(|ours| ours <= limit || ratio.is_some_and(|ratio| ratio * factor <= 1.0))
                }
                Goal::None => None,
            };
            let reached = reached.map_or("", |yes| if yes { "yes" } else { "no" });
            let (what, goal) = (row.what, &row.goal);
            writeln!(
                f,
                "| {what} | {goal} | {} | {} | {} | {reached} |",
                number(*ours),
                number(*synapse),
                number(ratio)
            )?;
        }
        writeln!(f)?;
        if self.scale.0 != 1.0 {
            writeln!(f, "Scale {}: a smoke run, whose figures mean nothing.", self.scale.0)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "at most {limit}"),
            Self::AtLeast(limit) => write!(f, "at least {limit}"),
            Self::TimesMore(factor) => write!(f, "{factor} times Synapse's"),
            Self::TimesLess(factor) => write!(f, "1/{factor} of Synapse's"),
            Self::AtMostOrLess(limit, factor) => write!(f, "at most {limit}, or 1/{factor} of Synapse's"),
            Self::None => Ok(()),
        }
    }
}

/// Three significant digits, or nothing.
fn number(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return String::new() };
    let decimals = 2 - (value.abs().max(1e-6).log10().floor() as i32).clamp(-2, 2);
    format!("{value:.*}", decimals as usize)
}
