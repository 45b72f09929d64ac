//! Records in one file, by redb. The only file that names it.
//!
//! redb is a copy-on-write B-tree with checksums: a commit is on disk before it returns, and a
//! process that is killed in the middle of one leaves the state before it (redb, "Design").

use super::{Records, RecordsError, Table, Write};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tracing::warn;

/// A database file. One process at a time may have it open.
#[derive(Debug)]
pub struct DatabaseRecords {
    path: PathBuf,
    /// `None` after a failure: redb refuses everything then until it is opened anew, which heals what
    /// a full disk or a lost one left.
    database: Mutex<Option<Database>>,
}

impl DatabaseRecords {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        let database = open(path)
            .map_err(|error| RecordsError::Open(path.display().to_string(), Arc::new(error)))?;
        Ok(Self { path: path.to_owned(), database: Mutex::new(Some(database)) })
    }

    /// Does something with the database, opened anew if it failed before.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, RecordsError> {
        // Whoever panicked in the middle left the database whole: a transaction that is dropped is none.
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let done = match slot.take() {
            Some(database) => Ok(database),
            None => open(&self.path),
        }
        .and_then(|database| {
            let done = work(&database)?;
            *slot = Some(database);
            Ok(done)
        });
        done.map_err(|error| RecordsError::Storage(Arc::new(error)))
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    if path.metadata().is_ok_and(|it| it.len() == 0) {
        // Not silently: somebody may have emptied it.
        warn!(path = %path.display(), "the records are empty: there are no endpoints");
    }
    let database = Database::create(path)?;
    // A table that was never written to could not be opened for reading.
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(definition(table))?;
    }
    transaction.commit()?;
    Ok(database)
}

fn read(database: &Database, table: Table) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(definition(table))?;
    let mut entries = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        entries.push((key.value().to_owned(), value.value().to_owned()));
    }
    Ok(entries)
}

fn write(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for Write { table, key, value } in writes {
        let mut table = transaction.open_table(definition(*table))?;
        match value {
            Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
            None => drop(table.remove(key.as_str())?),
        }
    }
    Ok(transaction.commit()?)
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.as_str())
}

impl Records for DatabaseRecords {
    fn all(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, RecordsError> {
        self.with(|database| read(database, table))
    }

    fn commit(&self, writes: &[Write]) -> Result<(), RecordsError> {
        self.with(|database| write(database, writes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: Table, key: &str, value: &str) -> Write {
        Write { table, key: key.to_owned(), value: Some(value.into()) }
    }

    #[test]
    fn what_was_committed_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.redb");
        let records = DatabaseRecords::open(&path).unwrap();
        assert_eq!(records.all(Table::Models).unwrap(), []);
        let writes = [put(Table::Models, "b", "2"), put(Table::Models, "a", "1")];
        records.commit(&writes).unwrap();
        let gone = Write { table: Table::Models, key: "b".to_owned(), value: None };
        records.commit(&[gone, put(Table::Endpoints, "b", "3")]).unwrap();
        drop(records);

        let records = DatabaseRecords::open(&path).unwrap();
        assert_eq!(records.all(Table::Models).unwrap(), [("a".to_owned(), b"1".to_vec())]);
        assert_eq!(records.all(Table::Endpoints).unwrap(), [("b".to_owned(), b"3".to_vec())]);
    }

    #[test]
    fn a_file_that_is_in_use_or_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.redb");
        let _open = DatabaseRecords::open(&path).unwrap();
        assert!(matches!(DatabaseRecords::open(&path), Err(RecordsError::Open(..))));

        let other = folder.path().join("other");
        std::fs::write(&other, "not a database at all, but long enough to be looked at").unwrap();
        assert!(matches!(DatabaseRecords::open(&other), Err(RecordsError::Open(..))));
    }
}
