//! Long work that is done in steps: what is to be done, and how far it is.

use rusqlite::OptionalExtension;

use crate::store::{StoreError, Transaction, View};

/// Work that isn't finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub kind: &'static str,
    /// What it is about; the kind says which number that is.
    pub subject: u32,
    /// How far it is; zero is the beginning.
    pub step: u32,
}

impl View<'_> {
    /// How many tasks aren't finished.
    pub fn count_tasks(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM tasks";
        Ok(self.sql().prepare_cached(sql)?.query_row([], |row| row.get(0).map(|count: i64| count as u64))?)
    }

    /// Whether there is a task of a kind about a subject that isn't finished.
    pub fn has_task(&self, kind: &'static str, subject: u32) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM tasks WHERE kind = ?1 AND subject = ?2";
        Ok(self.sql().prepare_cached(sql)?.exists((kind, subject))?)
    }

    /// The first task of a kind that isn't finished.
    pub fn first_task(&self, kind: &'static str) -> Result<Option<Task>, StoreError> {
        let sql = "SELECT subject, step FROM tasks WHERE kind = ?1 ORDER BY subject LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| Ok(Task { kind, subject: row.get(0)?, step: row.get(1)? });
        Ok(self.sql().prepare_cached(sql)?.query_row([kind], read).optional()?)
    }
}

impl Transaction<'_> {
    /// Adds a task, or starts it over.
    pub fn add_task(&mut self, kind: &'static str, subject: u32) -> Result<(), StoreError> {
        let sql = "INSERT INTO tasks VALUES (?1, ?2, 0) ON CONFLICT DO UPDATE SET step = 0";
        self.sql().prepare_cached(sql)?.execute((kind, subject))?;
        Ok(())
    }

    /// Notes how far a task is, unless it was started over since it was read.
    pub fn set_task_step(&mut self, task: Task, step: u32) -> Result<(), StoreError> {
        let sql = "UPDATE tasks SET step = ?4 WHERE kind = ?1 AND subject = ?2 AND step = ?3";
        self.sql().prepare_cached(sql)?.execute((task.kind, task.subject, task.step, step))?;
        Ok(())
    }

    /// Removes a task that is finished, unless it was started over since it was read.
    pub fn finish_task(&mut self, task: Task) -> Result<(), StoreError> {
        let sql = "DELETE FROM tasks WHERE kind = ?1 AND subject = ?2 AND step = ?3";
        self.sql().prepare_cached(sql)?.execute((task.kind, task.subject, task.step))?;
        Ok(())
    }
}
