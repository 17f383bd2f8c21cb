//! Checks both stores and the files of the content repository, for the operator.

use serde::{Deserialize, Serialize};

use super::{App, media::keep::damage};
use crate::{
    base::limits,
    store::{ContentHash, StoreError, View, events::Checked},
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
    pub next: Option<Begin>,
    /// How many entries and files were looked at so far.
    pub done: u64,
    /// How many there are, about.
    pub all: u64,
}

/// Where a part of a check begins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    Events(Checked),
    Media {
        /// The hash of the last content that was looked at.
        after: Option<String>,
        done: u64,
    },
}

/// Reads a part of what the server keeps and tells what is wrong with it: first the records, then the event store, then
/// the files.
pub(super) async fn verify(app: &App, from: Option<Begin>) -> Result<Part, StoreError> {
    let count =
        |view: &View<'_>| Ok::<_, StoreError>((view.entries_to_check()?, view.media_contents()?.count));
    let (entries, files) = app.store.read(count).await?;
    let (report, next) = match from {
        None => (app.store.read(records).await?, Some(Begin::Events(Checked::default()))),
        Some(Begin::Events(from)) => {
            let (next, report) = app.store.read(|view| events(view, from)).await?;
            let media = Begin::Media { after: None, done: entries };
            (report, Some(next.map_or(media, Begin::Events)))
        }
        Some(Begin::Media { after, done }) => media(app, after, done).await?,
    };
    let done = match &next {
        None => entries + files,
        Some(Begin::Events(checked)) => checked.entries,
        Some(Begin::Media { done, .. }) => *done,
    };
    Ok(Part { report, next, done, all: entries + files })
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

/// Reads files until they were enough for one part.
async fn media(
    app: &App,
    after: Option<String>,
    mut done: u64,
) -> Result<(Report, Option<Begin>), StoreError> {
    let mut report = Report::default();
    let mut last = after.as_deref().and_then(ContentHash::from_hex);
    let contents = app.store.read(move |view| view.contents_after(last, limits::MEDIA_STEP)).await?;
    let (mut left, mut bytes) = (contents.len(), 0);
    for (hash, size) in contents {
        if let Some(what) = damage(app, hash, size).await? {
            let (table, what) = ("media".to_owned(), what.to_owned());
            report.add(|| Finding { table, key: hash.to_string(), what });
        }
        (last, done, left, bytes) = (Some(hash), done + 1, left - 1, bytes + size);
        if bytes >= limits::CHECKED_FILE_BYTES || left == 0 {
            let after = last.map(|hash| hash.to_string());
            return Ok((report, Some(Begin::Media { after, done })));
        }
    }
    Ok((report, None))
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
