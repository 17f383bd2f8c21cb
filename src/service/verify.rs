//! Checks both stores as a whole, for the operator.

use serde::{Deserialize, Serialize};

use super::App;
use crate::{
    base::limits,
    store::{StoreError, View, events::Checked},
};

/// What breaks an invariant of the stores.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The first [`limits::FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many there are.
    pub count: usize,
}

/// Something that is not as it must be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finding {
    pub table: String,
    /// In hexadecimal, or the number of the row; empty where there is none.
    pub key: String,
    pub what: String,
}

/// What one part of a check came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    pub report: Report,
    /// Where the next part begins; none after the last one.
    pub next: Option<Checked>,
    /// How many entries all parts have together, about.
    pub entries: u64,
}

/// Reads a part of the stores and tells what is wrong with it: first the records, then the event store.
pub(super) async fn verify(app: &App, from: Option<Checked>) -> Result<Part, StoreError> {
    let check = move |view: &View<'_>| {
        let entries = view.entries_to_check()?;
        let (next, report) = match from {
            None => (Some(Checked::default()), records(view)?),
            Some(from) => events(view, from)?,
        };
        Ok(Part { report, next, entries })
    };
    app.store.read(check).await
}

fn records(view: &View<'_>) -> Result<Report, StoreError> {
    let mut report = Report::default();
    view.check_records(&mut |found| {
        report.add(|| Finding {
            table: found.table.unwrap_or_else(|| "records".to_owned()),
            key: found.row.map(|row| row.to_string()).unwrap_or_default(),
            what: found.what,
        });
    })?;
    Ok(report)
}

fn events(view: &View<'_>, from: Checked) -> Result<(Option<Checked>, Report), StoreError> {
    let mut report = Report::default();
    let next = view.check_events(from, limits::CHECKED_ENTRIES, &mut |found| {
        report.add(|| Finding {
            table: found.table.name().to_owned(),
            key: found.key.iter().map(|byte| format!("{byte:02x}")).collect(),
            what: found.what,
        });
    })?;
    Ok((next, report))
}

impl Report {
    /// Adds what another part found.
    pub fn extend(&mut self, other: Self) {
        self.count += other.count;
        self.findings.extend(other.findings);
        self.findings.truncate(limits::FINDINGS);
    }

    fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.count += 1;
        if self.findings.len() < limits::FINDINGS {
            self.findings.push(finding());
        }
    }
}
