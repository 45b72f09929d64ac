//! How models move when instances leave and join: asked for by the instances themselves.

use crate::{
    actors::{deployments::Deployments, membership::Membership, placement::Placement},
    body::BodyReader,
    instance::Instance,
    instance_client::{Options, lister::Lister, warmer::Warmer},
    policy::share,
};
use actix_web::{
    HttpResponse, HttpResponseBuilder,
    web::{Data, Path, Payload},
};
use serde_json::json;
use shared::{
    address::ArtifactAddress,
    api::residents::{Rehome, Rehomed, Share},
    telemetry::Chain,
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::{debug, info};

/// Moves models between instances. One per HTTP thread.
#[derive(Debug)]
pub struct Handover {
    pub membership: Membership,
    pub placement: Placement,
    pub deployments: Deployments,
    pub bodies: BodyReader,
    pub warmer: Warmer,
    pub lister: Lister,
    /// Shares that may be gathered at the same time, by all HTTP threads.
    pub shares: Arc<Semaphore>,
}

/// As many shares are gathered at the same time: each asks every instance, and reads megabytes. An
/// instance that is refused asks again, or joins without.
pub const MAX_SHARES: usize = 4;

/// Why a model was not moved, or a share not told.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no such instance is in service")]
    Unknown,
    #[error("not a model: {0}")]
    Malformed(String),
    /// Nothing else will do either: the instance need not ask again.
    #[error("there is no other instance that models could go to")]
    Nowhere,
    #[error("the next home did not take it: {0}")]
    NotTaken(String),
    #[error("this router is overloaded or stopping")]
    Unavailable,
}

/// `POST /manifold/v1/instances/{instance}/rehome`: answers when the model is warm at its next home.
pub async fn rehome(
    instance: Path<String>,
    mut payload: Payload,
    handover: Data<Handover>,
) -> HttpResponse {
    match handover.rehome(&instance, &mut payload).await {
        Ok(rehomed) => HttpResponse::Ok().json(rehomed),
        Err(refused) => {
            handover.bodies.drain(&mut payload).await;
            refused.into_response()
        }
    }
}

/// `GET /manifold/v1/instances/{instance}/share`
pub async fn share(instance: Path<String>, handover: Data<Handover>) -> HttpResponse {
    match handover.share(&instance).await {
        Ok(share) => HttpResponse::Ok().json(share),
        Err(refused) => refused.into_response(),
    }
}

impl Handover {
    async fn rehome(&self, instance: &str, payload: &mut Payload) -> Result<Rehomed, Refused> {
        let leaving = self.find(instance).await?;
        let model = self.read(payload).await?;
        let address: ArtifactAddress =
            model.artifact.parse().map_err(|error| Refused::Malformed(format!("{error}")))?;
        // A fleet that is retired leaves as a whole, and its models with it.
        if leaving.fleet.as_ref().is_some_and(|fleet| !self.deployments.wants(fleet)) {
            return Err(Refused::Nowhere);
        }
        let artifact = address.to_string();
        let home = self.placement.next_home(&leaving, &artifact).ok_or(Refused::Nowhere)?;
        let options = Options { is_cache_disabled: false, serves_stale: model.serves_stale };
        let warmed = self.warmer.warm(&home, &artifact, options).await;
        warmed.map_err(|error| Refused::NotTaken(Chain(&error).to_string()))?;
        debug!(artifact, from = %leaving.id, to = %home.id, "model has a new home");
        Ok(Rehomed { instance: home.id.clone() })
    }

    /// The body is dropped here: heartbeats are read within the same budget, and models take long
    /// to become warm.
    async fn read(&self, payload: &mut Payload) -> Result<Rehome, Refused> {
        let body = self.bodies.read(payload, None).await;
        let body = body.map_err(|error| Refused::Malformed(error.to_string()))?;
        serde_json::from_slice(&body.bytes).map_err(|error| Refused::Malformed(error.to_string()))
    }

    async fn share(&self, instance: &str) -> Result<Share, Refused> {
        let joining = self.find(instance).await?;
        let _turn = self.shares.try_acquire().map_err(|_| Refused::Unavailable)?;
        let neighbours = self.placement.neighbours(&joining);
        let own = self.placement.share_of(&joining).await.ok_or(Refused::Unavailable)?;
        let mut held = share::Held::default();
        self.lister.list(&neighbours, |list| held.add(list, |model| own.has(model))).await;
        let models = held.share();
        info!(instance = %joining.id, n_models = models.len(), "told a joining instance its share");
        Ok(Share { models })
    }

    /// Whoever is on the roster, also one that joins.
    async fn find(&self, instance: &str) -> Result<Arc<Instance>, Refused> {
        let id = instance.parse().map_err(|_| Refused::Unknown)?;
        let known = self.membership.find(id).await.map_err(|_| Refused::Unavailable)?;
        known.ok_or(Refused::Unknown)
    }
}

impl Refused {
    fn into_response(self) -> HttpResponse {
        let mut response: HttpResponseBuilder = match &self {
            Self::Unknown => HttpResponse::NotFound(),
            Self::Malformed(_) => HttpResponse::BadRequest(),
            Self::Nowhere => HttpResponse::Gone(),
            Self::NotTaken(_) => HttpResponse::BadGateway(),
            Self::Unavailable => HttpResponse::ServiceUnavailable(),
        };
        response.json(json!({ "message": self.to_string() }))
    }
}
