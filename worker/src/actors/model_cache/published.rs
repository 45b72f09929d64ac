//! What the model cache tells the world without being asked: who reads it waits for nobody.

use super::{ModelCache, resident::Resident};
use crate::{
    lease::Leases,
    policy::{
        budget,
        heat::{self, Millicores},
    },
};
use arc_swap::ArcSwap;
use shared::{
    address::ArtifactAddress,
    api::{
        membership::HotModel,
        residents::{self, MAX_LISTED, Residents},
    },
};
use std::{cmp::Reverse, collections::HashMap, sync::Arc};

#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) residents: HashMap<ArtifactAddress, Arc<Resident>>,
    pub(super) budget_bytes: u64,
}

pub(super) type Snapshot = Arc<ArcSwap<Published>>;

impl ModelCache {
    pub fn n_resident(&self) -> usize {
        self.snapshot.load().residents.len()
    }

    /// Invocations that run or wait on a resident model.
    pub fn n_in_flight(&self) -> usize {
        let snapshot = self.snapshot.load();
        snapshot.residents.values().map(|it| it.replica.leases().n_passing()).sum()
    }

    /// What resident models cost now, bytes.
    pub fn used_bytes(&self) -> u64 {
        let snapshot = self.snapshot.load();
        let footprints = snapshot.residents.values().map(|it| it.replica.footprint());
        budget::used_bytes(footprints, self.n_slots)
    }

    /// What models may take, bytes.
    pub fn budget_bytes(&self) -> u64 {
        self.snapshot.load().budget_bytes
    }

    /// The models that cause the most work, hottest first.
    pub fn hot(&self) -> Vec<HotModel> {
        let snapshot = self.snapshot.load();
        // What leaves after its invocation is nothing that another instance should have.
        let staying = snapshot.residents.iter().filter(|(_, it)| !it.replica.is_passing());
        let hot = heat::hottest(staying.map(|(address, it)| (address, it.replica.heat())));
        let wire = |(address, heat): (&ArtifactAddress, Millicores)| HotModel {
            artifact: address.to_string(),
            fast_millicores: heat.fast,
            slow_millicores: heat.slow,
        };
        hot.into_iter().map(wire).collect()
    }

    /// What is resident: the hottest first, then what was used last.
    pub fn residents(&self) -> Residents {
        let snapshot = self.snapshot.load();
        let mut all: Vec<_> = snapshot
            .residents
            .iter()
            .map(|(address, it)| (it.replica.heat(), address, it))
            .collect();
        let last_used = |it: &Resident| it.replica.leases().last_used();
        all.sort_by_key(|(heat, _, it)| Reverse((heat.most(), last_used(it))));
        all.truncate(MAX_LISTED);
        let models = all.into_iter().map(|(heat, address, it)| it.to_wire(heat, address)).collect();
        Residents { models }
    }
}

impl Resident {
    fn to_wire(&self, heat: Millicores, address: &ArtifactAddress) -> residents::Resident {
        let leases: &Leases = self.replica.leases();
        let idle_ms = leases.last_used().elapsed().as_millis();
        residents::Resident {
            artifact: address.to_string(),
            resident_bytes: self.replica.footprint().resident_bytes,
            fast_millicores: heat.fast,
            slow_millicores: heat.slow,
            idle_ms: u64::try_from(idle_ms).unwrap_or(u64::MAX),
            serves_stale: self.is_wanted_stale(),
            is_bound: leases.is_pinned() || self.replica.is_passing(),
        }
    }
}
