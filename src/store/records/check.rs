//! What must be true of the record store as a whole, for `verify`: SQLite's pages, indexes and types are sound, and every
//! reference leads somewhere; and the journal, which lies there, can be read.

use crate::store::{StoreError, View, journal};

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFinding {
    /// The table that holds it; none where SQLite names it in `what`.
    pub table: Option<String>,
    /// The number of the row; none in a table that doesn't number its rows.
    pub row: Option<i64>,
    /// What is wrong.
    pub what: String,
}

impl View<'_> {
    /// Calls `report` with everything in the record store that breaks an invariant.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub fn check_records(&self, report: &mut dyn FnMut(RecordFinding)) -> Result<(), StoreError> {
        let mut integrity = self.sql().prepare("PRAGMA integrity_check")?;
        for line in integrity.query_map([], |row| row.get::<_, String>(0))? {
            let what = line?;
            if what != "ok" {
                report(RecordFinding { table: None, row: None, what });
            }
        }
        let mut references = self.sql().prepare("PRAGMA foreign_key_check")?;
        let broken = references.query_map([], |row| {
            let what = format!("it refers to nothing in {}", row.get::<_, String>(2)?);
            Ok(RecordFinding { table: Some(row.get(0)?), row: row.get(1)?, what })
        })?;
        for finding in broken {
            report(finding?);
        }
        match journal::check(self.sql()) {
            Err(StoreError::Corrupt { table, key, what }) => {
                report(RecordFinding {
                    table: Some(table.to_owned()),
                    row: None,
                    what: format!("{key}: {what}"),
                });
                Ok(())
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        base::{clock::Clock, rng::Rng},
        store::{Options, Store, Table, Transaction},
    };

    #[tokio::test]
    async fn a_row_without_its_user_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(findings(folder.path()).await, []);
        let sql = rusqlite::Connection::open(folder.path().join("records.sqlite")).unwrap();
        sql.execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO filters VALUES (99, 'a', '{}')").unwrap();
        drop(sql);
        let what = "it refers to nothing in users".into();
        let table = Some("filters".into());
        assert_eq!(findings(folder.path()).await, [RecordFinding { table, row: None, what }]);
    }

    #[tokio::test]
    async fn a_damaged_or_missing_row_of_the_journal_is_found() {
        for damage in ["SET puts = x'0102030405'", "SET previous = previous + 1 WHERE previous > 0"] {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path());
            for value in *b"abc" {
                let job = move |tx: &mut Transaction<'_>| {
                    tx.next_position();
                    tx.put(Table::Names, b"key", &[value]);
                    Ok::<_, StoreError>(())
                };
                store.write(job).await.unwrap();
            }
            assert_eq!(findings_of(&store).await, []);
            let sql = rusqlite::Connection::open(folder.path().join("records.sqlite")).unwrap();
            for half in ["journal_0", "journal_1"] {
                sql.execute(&format!("UPDATE {half} {damage}"), []).unwrap();
            }
            let found = findings_of(&store).await;
            let tables: Vec<_> = found.iter().map(|finding| finding.table.as_deref()).collect();
            assert_eq!(tables, [Some("journal")], "{damage}");
            store.close();
        }
    }

    async fn findings(dir: &Path) -> Vec<RecordFinding> {
        let store = open(dir);
        let found = findings_of(&store).await;
        store.close();
        found
    }

    fn open(dir: &Path) -> Store {
        let options = Options { dir: dir.to_owned(), clock: Clock::system(), rng: Rng::seeded(1) };
        Store::open(options).unwrap()
    }

    async fn findings_of(store: &Store) -> Vec<RecordFinding> {
        let found = store.read(|view| {
            let mut found = Vec::new();
            view.check_records(&mut |finding| found.push(finding))?;
            Ok::<_, StoreError>(found)
        });
        found.await.unwrap()
    }
}
