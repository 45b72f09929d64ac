//! The control plane's catalog as records.

use super::{Records, RecordsError, Table, Write};
use crate::control::catalog::{Catalog, Change, key};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, sync::Arc};

/// Reads the whole catalog.
pub fn read(records: &dyn Records) -> Result<Catalog, RecordsError> {
    Ok(Catalog {
        models: all(records, Table::Models)?,
        configs: all(records, Table::EndpointConfigs)?,
        endpoints: all(records, Table::Endpoints)?,
    })
}

fn all<R: DeserializeOwned>(
    records: &dyn Records,
    table: Table,
) -> Result<BTreeMap<String, Arc<R>>, RecordsError> {
    let parse = |(key, value): (String, Vec<u8>)| match serde_json::from_slice(&value) {
        Ok(record) => Ok((key, Arc::new(record))),
        Err(error) => Err(RecordsError::Malformed { table, key, reason: error.to_string() }),
    };
    records.all(table)?.into_iter().map(parse).collect()
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
        Table::AsyncInvocations => false,
    }
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records hold names, texts and numbers")
}
