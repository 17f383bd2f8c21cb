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

/// Reads all of both stores and tells what is wrong with them.
pub(super) async fn verify(app: &App) -> Result<Report, StoreError> {
    let mut report = app.store.read(records).await?;
    let mut part = Some(Checked::default());
    while let Some(from) = part {
        (part, report) = app.store.read(move |view| events(view, from, report)).await?;
    }
    Ok(report)
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

fn events(
    view: &View<'_>,
    from: Checked,
    mut report: Report,
) -> Result<(Option<Checked>, Report), StoreError> {
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
    fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.count += 1;
        if self.findings.len() < limits::FINDINGS {
            self.findings.push(finding());
        }
    }
}
