//! What lies where in etcd, below the prefix of the cluster's address:
//!
//! ```text
//! instances/{instance}            a worker, under its lease                  members::Registered
//! routers/{router}                a router, under its lease                  members::RouterRecord
//! records/generation              which state of the records this is         router/src/records
//! records/{table}/{key}           the control plane's records
//! records-restore/{router}        who would restore lost records, under its lease
//! records-restoring               the one of them who does, under its lease
//! jobs/{job}                      an asynchronous invocation that is not done
//! claims/{job}                    the router that does it, under its lease
//! done/{job}                      a job that was done for a router that was gone, for a day
//! ```

use super::address::ClusterAddress;

impl ClusterAddress {
    pub fn instances(&self) -> String {
        format!("{}instances/", self.prefix)
    }

    pub fn routers(&self) -> String {
        format!("{}routers/", self.prefix)
    }

    pub fn generation(&self) -> String {
        format!("{}records/generation", self.prefix)
    }

    /// Every record, and the generation.
    pub fn records(&self) -> String {
        format!("{}records/", self.prefix)
    }

    pub fn restorers(&self) -> String {
        format!("{}records-restore/", self.prefix)
    }

    pub fn restoring(&self) -> String {
        format!("{}records-restoring", self.prefix)
    }

    pub fn jobs(&self) -> String {
        format!("{}jobs/", self.prefix)
    }

    pub fn done(&self) -> String {
        format!("{}done/", self.prefix)
    }

    pub fn claims(&self) -> String {
        format!("{}claims/", self.prefix)
    }
}
