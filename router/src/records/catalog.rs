//! The control plane's catalog as records.

use super::{RecordsError, Table, Write};
use crate::control::catalog::{Catalog, Change, key};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};

/// Returns the catalog after writes that may be another router's.
pub fn written(catalog: &Catalog, writes: Vec<Write>) -> Result<Catalog, RecordsError> {
    let mut catalog = catalog.clone();
    for write in writes {
        match write.table {
            Table::Models => put(&mut catalog.models, write)?,
            Table::EndpointConfigs => put(&mut catalog.configs, write)?,
            Table::Endpoints => put(&mut catalog.endpoints, write)?,
            Table::AsyncInvocations | Table::Cluster => {}
        }
    }
    Ok(catalog)
}

fn put<R: DeserializeOwned>(
    records: &mut BTreeMap<String, Arc<R>>,
    Write { table, key, value }: Write,
) -> Result<(), RecordsError> {
    match value.map(|value| serde_json::from_slice(&value)) {
        Some(Ok(record)) => drop(records.insert(key, Arc::new(record))),
        None => drop(records.remove(&key)),
        Some(Err(error)) => {
            return Err(RecordsError::Malformed { table, key, reason: error.to_string() });
        }
    }
    Ok(())
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
