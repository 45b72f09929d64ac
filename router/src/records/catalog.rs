//! The control plane's catalog as records.

use super::{RecordsError, Table, Write};
use crate::control::catalog::{Catalog, Change, key};
use serde::{Serialize, de::DeserializeOwned};
use shared::telemetry::Excerpt;
use std::{collections::BTreeMap, sync::Arc};
use tracing::error;

/// Records that are there and cannot be read: of a version that is not known here.
///
/// They stay as they are: of the catalog is what could be read of them last, if anything, and nothing
/// is written in their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unreadable(BTreeMap<(Table, String), String>);

impl Unreadable {
    /// Refuses writes that would replace one.
    pub fn spare(&self, writes: &[Write]) -> Result<(), RecordsError> {
        let spared = writes.iter().find_map(|Write { table, key, .. }| {
            let reason = self.0.get(&(*table, key.clone()))?.clone();
            Some(RecordsError::Malformed { table: *table, key: key.clone(), reason })
        });
        spared.map_or(Ok(()), Err)
    }

    fn note(&mut self, table: Table, key: String, reason: String) {
        error!(
            table = table.as_str(),
            key,
            reason,
            "a record cannot be read, and is left as it is; was it written by a newer router?"
        );
        self.0.insert((table, key), reason);
    }
}

/// Returns the catalog after writes that may be another router's.
pub fn written(catalog: &Catalog, writes: Vec<Write>, unreadable: &mut Unreadable) -> Catalog {
    let mut catalog = catalog.clone();
    for write in writes {
        match write.table {
            Table::Models => put(&mut catalog.models, write, unreadable),
            Table::EndpointConfigs => put(&mut catalog.configs, write, unreadable),
            Table::Endpoints => put(&mut catalog.endpoints, write, unreadable),
            Table::AsyncInvocations | Table::Cluster => {}
        }
    }
    catalog
}

fn put<R: DeserializeOwned>(
    records: &mut BTreeMap<String, Arc<R>>,
    Write { table, key, value }: Write,
    unreadable: &mut Unreadable,
) {
    match value.map(|value| serde_json::from_slice(&value)) {
        Some(Err(error)) => return unreadable.note(table, key, Excerpt(error).to_string()),
        Some(Ok(record)) => drop(records.insert(key.clone(), Arc::new(record))),
        None => drop(records.remove(&key)),
    }
    unreadable.0.remove(&(table, key));
}

/// Returns how a change is written.
pub fn write(change: &Change) -> Write {
    let (table, key, value) = match change {
        Change::PutModel(model) => (Table::Models, key(&model.name), Some(json(model))),
        Change::DeleteModel(key) => (Table::Models, key.clone(), None),
        Change::PutConfig(config) => {
            (Table::EndpointConfigs, key(&config.name), Some(json(config)))
        }
        Change::DeleteConfig(key) => (Table::EndpointConfigs, key.clone(), None),
        Change::PutEndpoint(endpoint) => {
            (Table::Endpoints, key(endpoint.name.as_str()), Some(json(endpoint)))
        }
        Change::DeleteEndpoint(key) => (Table::Endpoints, key.clone(), None),
    };
    Write { table, key, value }
}

/// Whether the catalog has a record under the key of this change.
pub fn has(catalog: &Catalog, change: &Change) -> bool {
    let Write { table, key, .. } = write(change);
    match table {
        Table::Models => catalog.models.contains_key(&key),
        Table::EndpointConfigs => catalog.configs.contains_key(&key),
        Table::Endpoints => catalog.endpoints.contains_key(&key),
        Table::AsyncInvocations | Table::Cluster => false,
    }
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records hold names, texts and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_model(key: &str, value: &str) -> Write {
        Write { table: Table::Models, key: key.to_owned(), value: Some(value.into()) }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_left_alone_and_stops_no_other() {
        let model = r#"{"name":"a","arn":"a","created":1,"input":{}}"#;
        let (mut unreadable, good) = (Unreadable::default(), Catalog::default());
        let writes = vec![put_model("a", "{"), put_model("b", model)];
        let catalog = written(&good, writes, &mut unreadable);
        assert!(!catalog.models.contains_key("a"));
        let error = unreadable.spare(&[put_model("b", model), put_model("a", model)]).unwrap_err();
        assert!(matches!(error, RecordsError::Malformed { ref key, .. } if key == "a"), "{error}");
        assert!(unreadable.spare(&[put_model("b", model)]).is_ok());

        // Who can read it has removed it.
        let gone = Write { table: Table::Models, key: "a".to_owned(), value: None };
        written(&catalog, vec![gone], &mut unreadable);
        assert_eq!(unreadable, Unreadable::default());
    }
}
