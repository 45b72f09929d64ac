//! The last copy of the records that this router has: in memory, and in its file.

use super::generation::Generation;
use crate::records::{Records, RecordsError, Table, Write};
use serde_json::{Value, json};
use shared::{etcd::Entry, telemetry::Chain};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use tokio::time::Instant;
use tracing::{error, warn};

/// Where the file keeps of which generation it is.
const GENERATION: &str = "generation";

/// What lies under a table and a key.
pub(super) type Entries = BTreeMap<(Table, String), Vec<u8>>;

/// Why a copy is kept aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// Others went on without changes that are in it.
    Forked,
    /// It is so old that it cannot be told whether they did.
    Distant,
}

/// The records as this router last saw them.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) generation: Option<Generation>,
    /// When etcd last wrote the generation, in its own count; 0: it was not read from there.
    pub(super) generation_revision: i64,
    /// Up to when etcd's writes are in the copy.
    pub(super) revision: i64,
    pub(super) entries: Entries,
    /// When etcd could not be asked.
    pub(super) failed_at: Option<Instant>,
    file: Arc<dyn Records>,
    path: PathBuf,
    is_file_behind: bool,
}

impl Copy {
    /// Reads what the file has. One that is of no cluster yet begins a new history.
    pub(super) fn of_file(file: Arc<dyn Records>, path: &Path) -> Result<Self, RecordsError> {
        let mut entries = Entries::new();
        for table in Table::CATALOG {
            entries.extend(file.all(table)?.into_iter().map(|(key, value)| ((table, key), value)));
        }
        let generation = file.all(Table::Cluster)?.into_iter().find(|(key, _)| key == GENERATION);
        let generation = match generation {
            Some((key, value)) => Some(serde_json::from_slice(&value).map_err(|error| {
                RecordsError::Malformed { table: Table::Cluster, key, reason: error.to_string() }
            })?),
            None if entries.is_empty() => None,
            None => Some(Generation::begin(new_id(), entries.len())),
        };
        Ok(Self {
            generation,
            generation_revision: 0,
            revision: 0,
            entries,
            failed_at: None,
            file,
            path: path.to_owned(),
            is_file_behind: false,
        })
    }

    /// Everything, as what would be written to have it.
    pub(super) fn all(&self) -> Vec<Write> {
        let put = |((table, key), value): (&(Table, String), &Vec<u8>)| Write {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        self.entries.iter().map(put).collect()
    }

    /// Takes writes that led to a generation, into memory and then into the file.
    pub(super) fn take(&mut self, writes: &[Write], generation: Generation, revision: i64) {
        for Write { table, key, value } in writes {
            match value {
                Some(value) => self.entries.insert((*table, key.clone()), value.clone()),
                None => self.entries.remove(&(*table, key.clone())),
            };
        }
        self.generation = Some(generation);
        self.revision = revision;
        self.save(writes);
    }

    /// Returns what must be written to have `entries` and nothing else.
    pub(super) fn difference(&self, entries: &Entries) -> Vec<Write> {
        let is_gone = |key: &&(Table, String)| !entries.contains_key(*key);
        let gone = self.entries.keys().filter(is_gone);
        let gone = gone.map(|(table, key)| Write { table: *table, key: key.clone(), value: None });
        let is_new =
            |(key, value): &(&(Table, String), &Vec<u8>)| self.entries.get(*key) != Some(value);
        let new = entries.iter().filter(is_new).map(|((table, key), value)| Write {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        });
        gone.chain(new).collect()
    }

    fn save(&mut self, writes: &[Write]) {
        let generation = serde_json::to_vec(&self.generation).expect("text and numbers");
        let generation =
            Write { table: Table::Cluster, key: GENERATION.to_owned(), value: Some(generation) };
        let writes = if self.is_file_behind { self.whole() } else { writes.to_vec() };
        let writes: Vec<_> = writes.into_iter().chain([generation]).collect();
        match self.file.commit(&writes) {
            Ok(()) => self.is_file_behind = false,
            // It is a copy: etcd has it.
            Err(error) => {
                if !self.is_file_behind {
                    warn!(error = %Chain(&error), "the file of records is behind; etcd has them");
                }
                self.is_file_behind = true;
            }
        }
    }

    /// Everything, and the removal of what the file has beside it.
    fn whole(&self) -> Vec<Write> {
        let mut known = BTreeSet::new();
        for table in Table::CATALOG {
            let all = self.file.all(table).unwrap_or_default();
            known.extend(all.into_iter().map(|(key, _)| (table, key)));
        }
        let gone = known.into_iter().filter(|it| !self.entries.contains_key(it));
        let gone = gone.map(|(table, key)| Write { table, key, value: None });
        gone.chain(self.all()).collect()
    }

    /// Writes the copy into a file of its own, because it is about to be replaced by another history.
    pub(super) fn keep_aside(&self, why: Aside) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}.aside-{}.json", self.path.display(), since.as_millis());
        let path = PathBuf::from(name);
        let kept = self.write_aside(&path);
        let path = path.display();
        match (why, kept) {
            (_, Err(error)) => error!(
                %path, %error, ?why,
                "this router's copy of the records gives way to the cluster's, and could not be kept"
            ),
            (Aside::Forked, Ok(())) => error!(
                %path,
                "other routers went on without changes that this one has seen; its own copy was kept \
                 aside, and the cluster's is taken"
            ),
            (Aside::Distant, Ok(())) => warn!(
                %path,
                "this router's copy is too old to tell whether other routers went on from it; it was \
                 kept aside, and the cluster's is taken"
            ),
        }
    }

    fn write_aside(&self, path: &Path) -> io::Result<()> {
        let record = |((table, key), value): (&(Table, String), &Vec<u8>)| {
            let text = || Value::String(String::from_utf8_lossy(value).into_owned());
            let value = serde_json::from_slice(value).unwrap_or_else(|_| text());
            json!({ "table": table.as_str(), "key": key, "value": value })
        };
        let records: Vec<_> = self.entries.iter().map(record).collect();
        let text = json!({ "generation": self.generation, "records": records });
        fs::write(path, serde_json::to_vec_pretty(&text).map_err(io::Error::other)?)
    }
}

/// Returns what an entry of etcd is below `prefix`; `None`: nothing that is known here.
pub(super) fn record(entry: Entry, prefix: &str) -> Option<((Table, String), Vec<u8>)> {
    let (table, key) = entry.key.strip_prefix(prefix)?.split_once('/')?;
    let table = Table::CATALOG.into_iter().find(|it| it.as_str() == table)?;
    Some(((table, key.to_owned()), entry.value))
}

/// A name that nothing had before.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::{super::generation::Kind, *};
    use crate::records::database::DatabaseRecords;

    #[test]
    fn what_is_kept_aside_is_everything_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.redb");
        let file = DatabaseRecords::open(&path).unwrap();
        let put = |table, key: &str, value: &[u8]| Write {
            table,
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        let model = put(Table::Models, "a", br#"{"name":"a"}"#);
        // Not of any version that is known here.
        let other = put(Table::Endpoints, "b", b"\xff not JSON");
        file.commit(&[model, other]).unwrap();
        let copy = Copy::of_file(Arc::new(file), &path).unwrap();
        copy.keep_aside(Aside::Forked);

        let names = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path());
        let aside: Vec<_> = names.filter(|it| it.extension().unwrap() == "json").collect();
        let [aside] = &aside[..] else { panic!("{aside:?}") };
        assert!(aside.to_str().unwrap().contains("records.redb.aside-"), "{aside:?}");
        let kept: Value = serde_json::from_slice(&fs::read(aside).unwrap()).unwrap();
        let records = json!([
            { "table": "models", "key": "a", "value": { "name": "a" } },
            { "table": "endpoints", "key": "b", "value": "\u{fffd} not JSON" },
        ]);
        assert_eq!(kept["records"], records);
        assert_eq!(kept["generation"], serde_json::to_value(&copy.generation).unwrap());
    }

    #[test]
    fn a_copy_that_cannot_be_kept_aside_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseRecords::open(&folder.path().join("records.redb")).unwrap();
        let nowhere = folder.path().join("not there/records.redb");
        let copy = Copy::of_file(Arc::new(file), &nowhere).unwrap();
        copy.keep_aside(Aside::Distant);
    }

    #[test]
    fn what_was_taken_is_in_the_file_with_its_generation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.redb");
        let file: Arc<dyn Records> = Arc::new(DatabaseRecords::open(&path).unwrap());
        let mut copy = Copy::of_file(Arc::clone(&file), &path).unwrap();
        assert_eq!(copy.generation, None);
        let writes =
            [Write { table: Table::Models, key: "a".to_owned(), value: Some(b"1".to_vec()) }];
        let generation = Generation::begin(new_id(), 0).after("1", Kind::Change).unwrap();
        copy.take(&writes, generation, 7);

        let again = Copy::of_file(file, &path).unwrap();
        assert_eq!((&again.generation, &again.entries), (&copy.generation, &copy.entries));
        assert_eq!(again.revision, 0, "etcd may be another by then");
    }
}
