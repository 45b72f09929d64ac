//! What etcd says of instances: those that are silent or not known are probed.

use super::MembershipActor;
use crate::{instance_client::prober::Pulse, policy::roster::Heard};
use actix::prelude::*;
use shared::etcd::members::Registered;
use tokio::time::Instant;
use tracing::{info, warn};

// === Messages ===

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Seen {
    pub(super) records: Vec<Registered>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Felt {
    record: Registered,
    pulse: Pulse,
}

// === Handlers, in the order of the messages ===

impl Handler<Seen> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Seen { records }: Seen, ctx: &mut Self::Context) {
        self.roster.registered(records);
        self.probe_registered(&ctx.address());
    }
}

impl Handler<Felt> for MembershipActor {
    type Result = ();

    fn handle(&mut self, Felt { record, pulse }: Felt, _: &mut Self::Context) {
        let (instance, address) = (&record.instance, record.address);
        match self.roster.probed(&record, pulse == Pulse::Alive, Instant::now()) {
            Some(Ok(Heard::Joined | Heard::Restarted)) => {
                info!(%instance, %address, "instance found in etcd");
                self.publish();
            }
            Some(Err(error)) => warn!(%instance, %address, %error, "instance of etcd refused"),
            Some(Ok(Heard::Renewed | Heard::Doubted { .. })) | None => {}
        }
    }
}

impl MembershipActor {
    /// Asks those of whom etcd alone speaks.
    pub(super) fn probe_registered(&mut self, myself: &Addr<Self>) {
        for record in self.roster.due(Instant::now()) {
            let (prober, myself) = (self.prober.clone(), myself.clone());
            let address = record.address;
            let probe = actix::spawn(async move { prober.feel(address).await });
            actix::spawn(async move {
                // A probe that panicked shows no life either.
                let pulse = probe.await.unwrap_or(Pulse::Dead);
                myself.do_send(Felt { record, pulse });
            });
        }
    }
}
