//! The steps of the demo, as a client takes them: S3 and the endpoint, nothing else.

use super::{
    classes::{self, Class},
    report::{self, Row},
    tally::Tally,
};
use crate::{
    client::{Answer, Client, Invocation, metric_sum},
    console::{self, Step},
    endpoint::ENDPOINT,
    models::{BUCKET, DEMO_MODELS, ModelStore, PREFIX},
};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::path::PathBuf;

const CAT: &[u8] = include_bytes!("../../assets/cat.jpg");

/// As many as the AWS notebook makes.
const N_RANDOM: usize = 100;

/// A model of the demo under a name that it had not.
const ADDED: (&str, &str) = ("squeezenet_v1.0.tar.gz", "added/squeezenet_v1.0.tar.gz");

/// A new version of a model: by SageMaker's advice under a new name, never over the old one.
const UPDATED: (&str, &str) = ("efficientnet_lite1.tar.gz", "efficientnet_lite0_v2.tar.gz");

#[derive(Debug)]
pub(super) struct Walk {
    client: Client,
    store: ModelStore,
    models: PathBuf,
    seed: u64,
}

impl Walk {
    pub(super) fn new(client: Client, store: ModelStore, models: PathBuf, seed: u64) -> Self {
        Self { client, store, models, seed }
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        self.cold_and_warm().await?;
        self.add_a_model().await?;
        self.update_a_model().await?;
        self.random_invocations().await
    }

    async fn cold_and_warm(&self) -> anyhow::Result<()> {
        let step = Step::start();
        let mut rows = Vec::new();
        for model in DEMO_MODELS {
            let (cold, _) = self.classify(model).await?;
            ensure!(!cold.is_hit(), "{model} was resident before it was asked first");
            let (warm, classes) = self.classify(model).await?;
            classes::check(model, &classes)?;
            rows.push(Row { model: model.to_owned(), cold, warm, classes });
        }
        step.done(&format!("each of {} models asked for the cat, cold and warm", rows.len()));
        console::say(&report::table(&rows));
        Ok(())
    }

    async fn add_a_model(&self) -> anyhow::Result<()> {
        let step = Step::start();
        let (source, name) = ADDED;
        self.upload_as(source, name).await?;
        let (answer, _) = self.classify(name).await?;
        step.done(&format!(
            "added {name} by uploading it; first answer after {}, the endpoint untouched",
            console::seconds(answer.elapsed)
        ));
        Ok(())
    }

    async fn update_a_model(&self) -> anyhow::Result<()> {
        let step = Step::start();
        let (source, name) = UPDATED;
        self.upload_as(source, name).await?;
        let (_, classes) = self.classify(name).await?;
        classes::check(source, &classes)?;
        let old = DEMO_MODELS[0];
        let (_, classes) = self.classify(old).await?;
        classes::check(old, &classes)?;
        step.done(&format!("updated a model under the new name {name}; {old} answers as before"));
        Ok(())
    }

    async fn random_invocations(&self) -> anyhow::Result<()> {
        let step = Step::start();
        let evictions_before = self.evictions().await?;
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut tally = Tally::default();
        for _ in 0..N_RANDOM {
            let model = DEMO_MODELS[random.random_range(0..DEMO_MODELS.len())];
            let (answer, classes) = self.classify(model).await?;
            tally.add(model, &answer, &classes[0].name);
        }
        let n_evictions = self.evictions().await? - evictions_before;
        step.done(&format!(
            "{N_RANDOM} invocations of random models: {} hits, {} misses (each a load), {n_evictions} \
             evictions",
            tally.n_hits, tally.n_misses
        ));
        console::say(&report::tally(&tally));
        self.residents(&tally).await
    }

    async fn residents(&self, tally: &Tally) -> anyhow::Result<()> {
        console::say("          where each of these models lives:");
        console::say(&report::homes(tally));
        for instance in self.client.instances().await? {
            console::say(&format!(
                "          {}: {} models resident, {} MiB",
                instance.instance,
                instance.n_resident,
                instance.resident_bytes >> 20
            ));
        }
        Ok(())
    }

    /// Asks a model for the cat's classes.
    async fn classify(&self, model: &str) -> anyhow::Result<(Answer, Vec<Class>)> {
        let invocation = Invocation {
            endpoint: ENDPOINT.parse()?,
            target_model: model.parse()?,
            content_type: Some("image/jpeg".to_owned()),
            accept: None,
            body: Bytes::from_static(CAT),
        };
        let answer = self.client.invoke(invocation).await?;
        ensure!(answer.status == 200, "{model} answered {}: {}", answer.status, answer.text());
        let classes = classes::parse(&answer.body).with_context(|| format!("invoking {model}"))?;
        Ok((answer, classes))
    }

    async fn upload_as(&self, source: &str, name: &str) -> anyhow::Result<()> {
        let key = format!("{PREFIX}{name}");
        self.store.upload(BUCKET, &key, &self.models.join(source)).await?;
        Ok(())
    }

    /// Sums the evictions that the workers count.
    async fn evictions(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for instance in self.client.instances().await? {
            let metrics = self.client.get(&format!("http://{}/metrics", instance.address)).await?;
            sum += metric_sum(&metrics, "worker_evictions_total");
        }
        Ok(sum)
    }
}
