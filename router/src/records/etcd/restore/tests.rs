use super::*;
use crate::records::Table;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn restoration(router: &str, known: u64, n_records: usize, size: usize) -> Restoration {
    let record = |n| ((Table::Models, format!("{router}-{n:04}")), router.repeat(size).into());
    Restoration {
        router: router.to_owned(),
        known: Some(known),
        generation: Generation::begin(router.to_owned(), n_records),
        entries: (0..n_records).map(record).collect(),
        replaces: 0,
    }
}

fn put(n_bytes: usize) -> Operation {
    Operation::Put { key: String::new(), value: vec![0; n_bytes], lease: 0 }
}

/// What etcd would do, as far as it is asked for here.
#[derive(Default)]
struct Model {
    /// Value, lease, and when it was written.
    entries: BTreeMap<String, (Vec<u8>, i64, i64)>,
    revision: i64,
}

impl Model {
    fn transact(&mut self, transaction: &Transaction) -> bool {
        let holds = |guard: &Guard| match guard {
            Guard::Absent(key) => !self.entries.contains_key(key),
            Guard::Present(key) => self.entries.contains_key(key),
            Guard::Unchanged(key, at) => self.entries.get(key).map_or(0, |it| it.2) == *at,
            Guard::Leased(key, lease) => self.entries.get(key).is_some_and(|it| it.1 == *lease),
        };
        if !transaction.guards.iter().all(holds) {
            return false;
        }
        self.revision += 1;
        for operation in &transaction.operations {
            match operation.clone() {
                Operation::Put { key, value, lease } => {
                    self.entries.insert(key, (value, lease, self.revision));
                }
                Operation::Delete(key) => drop(self.entries.remove(&key)),
                Operation::DeleteAll(prefix) => {
                    self.entries.retain(|it, _| !it.starts_with(&prefix));
                }
            }
        }
        true
    }

    fn end(&mut self, lease: i64) {
        self.entries.retain(|_, it| it.1 != lease);
    }

    /// The records, if there is a generation.
    fn records(&self, address: &ClusterAddress) -> Option<BTreeMap<String, Vec<u8>>> {
        self.entries.get(&address.generation())?;
        let records = self.entries.iter().filter(|(key, _)| key.starts_with(&address.records()));
        Some(records.map(|(key, it)| (key.clone(), it.0.clone())).collect())
    }
}

/// What is there once a restoration is done.
fn whole(restoration: &Restoration, address: &ClusterAddress) -> BTreeMap<String, Vec<u8>> {
    let put = |operation| match operation {
        Operation::Put { key, value, .. } => Some((key, value)),
        Operation::Delete(_) | Operation::DeleteAll(_) => None,
    };
    restoration.puts(address).into_iter().filter_map(put).collect()
}

#[test]
fn a_hundred_records_of_sixteen_kilobytes_are_cut_into_parts_that_etcd_takes() {
    let parts = parts(vec![put(16 << 10); 100]);
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [64, 36]);
}

#[test]
fn the_generation_is_written_last() {
    let address: ClusterAddress = "etcd://a".parse().unwrap();
    let writes = restoration("a", 1, 250, 1).writes(&address, 7);
    let last = writes.last().unwrap().operations.last().unwrap();
    assert!(matches!(last, Operation::Put { key, .. } if *key == address.generation()));
    assert_eq!(writes.len(), 1 + 3);
}

#[test]
fn who_knows_most_is_chosen_and_who_is_not_among_them_never() {
    let says = |key: &str, known: &str| Entry {
        key: key.to_owned(),
        value: known.into(),
        modified: 1,
        lease: 1,
    };
    let candidates = [says("a", "3"), says("b", "null"), says("c", "12"), says("d", "not this")];
    let chosen = ["a", "b", "c", "d", "e"].map(|own| is_chosen(own, &candidates));
    assert_eq!(chosen, [false, false, true, false, false]);
    // Somebody must be, also where nobody has anything.
    assert!(is_chosen("b", &[says("a", "null"), says("b", "null")]));
    assert!(!is_chosen("a", &[]));
}

#[test]
fn a_candidate_that_somebody_wrote_by_hand_holds_nobody_up() {
    let says = |key: &str, known: &str, lease| Entry {
        key: key.to_owned(),
        value: known.into(),
        modified: 1,
        lease,
    };
    let candidates = [says("a", "3", 1), says("b", "2", 2), says("zzz", "18446744073709551615", 0)];
    let chosen = ["a", "b", "zzz"].map(|own| is_chosen(own, &candidates));
    assert_eq!(chosen, [true, false, false]);
}

proptest! {
    #[test]
    fn parts_are_everything_in_order_and_none_is_too_large(
        sizes in prop::collection::vec(0..(3_usize << 19), 0..300),
    ) {
        let operations: Vec<_> = sizes.iter().map(|it| put(*it)).collect();
        let parts = parts(operations.clone());
        for part in &parts {
            let n_bytes: usize = part.iter().map(size_bytes).sum();
            prop_assert!(!part.is_empty() && part.len() <= MAX_OPERATIONS);
            prop_assert!(n_bytes <= MAX_PART_BYTES || part.len() == 1);
        }
        prop_assert_eq!(parts.concat(), operations);
    }

    /// Restorers that write at the same time, some of which stop in the middle or lose their lease.
    #[test]
    fn what_several_restore_at_once_is_of_one_of_them(
        schedule in prop::collection::vec((0..3_usize, 0..20_u8), 0..60),
    ) {
        let address: ClusterAddress = "etcd://a".parse().unwrap();
        let restorers = [("a", 1, 150), ("b", 2, 210), ("c", 3, 120)]
            .map(|(router, known, n_records)| restoration(router, known, n_records, 1));
        let mut etcd = Model::default();
        let mut left = Vec::new();
        for (restorer, lease) in restorers.iter().zip(1..) {
            etcd.transact(&restorer.announcement(&address, lease));
            left.push(restorer.writes(&address, lease).into_iter());
        }
        for (idx, luck) in schedule {
            if luck == 0 {
                etcd.end(i64::try_from(idx).unwrap() + 1);
            } else if let Some(transaction) = left[idx].next()
                && !etcd.transact(&transaction)
            {
                left[idx] = Vec::new().into_iter();
            }
            if let Some(records) = etcd.records(&address) {
                prop_assert!(restorers.iter().any(|it| whole(it, &address) == records));
            }
        }
    }
}
