//! What a run of the load driver does: everything that decides it, in one value.

use super::trace::Trace;
use crate::signing::Key;
use bytes::Bytes;
use shared::id::{EndpointName, TargetModel};
use std::{sync::Arc, time::Duration};

/// Longer than the 60 s within which a router must answer: its answer tells more than our time-out.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(70);

/// No client waits as long, and a result has slots of time for late answers up to it.
pub const MAX_ANSWER_TIMEOUT: Duration = Duration::from_secs(700);

/// Beyond it a run is no load test any more, and its plot of 600 points says nothing.
pub const MAX_DURATION: Duration = Duration::from_hours(7 * 24);

/// Faster than any process could send.
pub const MAX_RATE: f64 = 10_000_000.0;

/// A connection each. More than a router accepts from one address (it has 65,535 ports at most).
pub const MAX_IN_FLIGHT: usize = 50_000;

/// A second's worth of invocations that take a second each, at a rate that one core can send.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 1024;

/// Names alone, of which each takes up to 1 KiB.
pub const MAX_TARGETS: usize = 2_000_000;

/// The whole load: the same plan asks for the same models at the same times.
#[derive(Clone, Debug)]
pub struct Plan {
    /// URLs. Invocations go to them in turn.
    pub routers: Vec<String>,
    pub endpoint: EndpointName,
    /// The most popular first.
    pub targets: Arc<[TargetModel]>,
    pub popularity: Popularity,
    pub cold: Option<Cold>,
    /// Sent in turn.
    pub bodies: Vec<Input>,
    pub accept: Option<String>,
    pub pace: Pace,
    /// For how long invocations fall due. Those that are in flight then are waited for.
    pub duration: Duration,
    pub seed: u64,
    /// From when an invocation is sent.
    pub answer_timeout: Duration,
    /// What invocations are signed with; `None`: they are not.
    pub key: Option<Key>,
    pub check: Check,
}

/// A body that is sent.
#[derive(Clone, Debug)]
pub struct Input {
    /// Where it comes from, for reports.
    pub name: String,
    pub content_type: Option<String>,
    pub bytes: Bytes,
}

/// Which target models are asked how often.
#[derive(Clone, Debug)]
pub enum Popularity {
    Uniform,
    /// The share of the n-th target is 1/n^exponent of the first one's.
    Zipf {
        exponent: f64,
    },
    /// In the order of a trace, whose targets are those of the plan.
    Trace(Arc<Trace>),
}

/// A share of invocations goes to models that were not asked before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cold {
    pub share: f64,
    /// So many targets, from the first, are asked by popularity. The others are asked once each.
    pub n_warm: usize,
}

/// When invocations are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many clients, each of which asks when it has been answered.
    Closed { concurrency: usize },
    /// Each at its time, whatever became of the others.
    Open { arrivals: Arrivals, max_in_flight: usize },
}

/// When invocations are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// At even distances, so many a second.
    Even { rate: f64 },
    /// As independent clients come: so many a second on average.
    Poisson { rate: f64 },
    /// As the trace says.
    Trace,
}

/// Which answers of status 2xx are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    #[default]
    Any,
    /// Those that are what was sent.
    Echo,
}

/// A plan that nobody can carry out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("there is no router to send to")]
    NoRouter,
    #[error("there are no target models to ask")]
    NoTargets,
    #[error("there are {0} target models, more than the {MAX_TARGETS} that one run can ask")]
    TooManyTargets(usize),
    #[error("there is no body to send")]
    NoBody,
    #[error("the router `{0}` must be a plain URL like http://127.0.0.1:8080")]
    RouterUrl(String),
    #[error("the duration must be between a millisecond and {MAX_DURATION:?}")]
    Duration,
    #[error("the time-out must be above 0 and at most {MAX_ANSWER_TIMEOUT:?}")]
    AnswerTimeout,
    #[error("the rate must be above 0 and at most {MAX_RATE}")]
    Rate,
    #[error("there may be 1 to {MAX_IN_FLIGHT} invocations in flight")]
    InFlight,
    #[error("the exponent must be between 0 and 10")]
    Exponent,
    #[error("the share of cold invocations must be between 0 and 1")]
    ColdShare,
    #[error(
        "{n_targets} target models of which {n_warm} are asked again and again leave none to ask for the first time"
    )]
    NoColdTargets { n_targets: usize, n_warm: usize },
    #[error("a trace says itself which models are asked: it has no share of cold ones")]
    ColdTrace,
    #[error("the trace has no times: give a rate or a number of clients")]
    TraceWithoutTimes,
    #[error("the trace has a target that is not among those of the plan")]
    TraceTargets,
    #[error("`{0}` cannot be sent in a header")]
    Header(String),
}

impl Plan {
    /// A closed loop over models of the demo endpoint: what most tests change a field or two of.
    pub fn closed(router_url: &str, targets: &[TargetModel], concurrency: usize) -> Self {
        Self {
            routers: vec![router_url.to_owned()],
            endpoint: crate::endpoint::ENDPOINT.parse().expect("it is a valid name"),
            targets: targets.into(),
            popularity: Popularity::Uniform,
            cold: None,
            bodies: vec![Input {
                name: "x".to_owned(),
                content_type: Some("application/octet-stream".to_owned()),
                bytes: Bytes::from_static(b"x"),
            }],
            accept: None,
            pace: Pace::Closed { concurrency },
            duration: Duration::from_secs(10),
            seed: 0,
            answer_timeout: ANSWER_TIMEOUT,
            key: None,
            check: Check::Any,
        }
    }

    /// An open loop over models of the demo endpoint.
    pub fn open(router_url: &str, targets: &[TargetModel], rate: f64) -> Self {
        let arrivals = Arrivals::Even { rate };
        let pace = Pace::Open { arrivals, max_in_flight: DEFAULT_MAX_IN_FLIGHT };
        Self { pace, ..Self::closed(router_url, targets, 1) }
    }

    pub fn validate(&self) -> Result<(), PlanError> {
        let is_duration = (Duration::from_millis(1)..=MAX_DURATION).contains(&self.duration);
        let is_timeout =
            !self.answer_timeout.is_zero() && self.answer_timeout <= MAX_ANSWER_TIMEOUT;
        let checks = [
            (!self.routers.is_empty(), PlanError::NoRouter),
            (!self.targets.is_empty(), PlanError::NoTargets),
            (self.targets.len() <= MAX_TARGETS, PlanError::TooManyTargets(self.targets.len())),
            (!self.bodies.is_empty(), PlanError::NoBody),
            (is_duration, PlanError::Duration),
            (is_timeout, PlanError::AnswerTimeout),
            ((1..=MAX_IN_FLIGHT).contains(&self.pace.max_in_flight()), PlanError::InFlight),
        ];
        for (is_met, error) in checks {
            if !is_met {
                return Err(error);
            }
        }
        self.validate_popularity()?;
        self.validate_cold()
    }

    fn validate_popularity(&self) -> Result<(), PlanError> {
        let has_times = match &self.popularity {
            Popularity::Uniform => false,
            Popularity::Zipf { exponent } if (0.0..=10.0).contains(exponent) => false,
            Popularity::Zipf { .. } => return Err(PlanError::Exponent),
            Popularity::Trace(trace) if trace.n_targets() > self.targets.len() => {
                return Err(PlanError::TraceTargets);
            }
            Popularity::Trace(trace) => trace.has_times(),
        };
        match self.pace {
            Pace::Open { arrivals: Arrivals::Trace, .. } if !has_times => {
                Err(PlanError::TraceWithoutTimes)
            }
            Pace::Open {
                arrivals: Arrivals::Even { rate } | Arrivals::Poisson { rate }, ..
            } if !(rate > 0.0 && rate <= MAX_RATE) => Err(PlanError::Rate),
            Pace::Open { .. } | Pace::Closed { .. } => Ok(()),
        }
    }

    fn validate_cold(&self) -> Result<(), PlanError> {
        let Some(Cold { share, n_warm }) = self.cold else { return Ok(()) };
        let n_targets = self.targets.len();
        if !(0.0..=1.0).contains(&share) {
            return Err(PlanError::ColdShare);
        }
        if matches!(self.popularity, Popularity::Trace(_)) {
            return Err(PlanError::ColdTrace);
        }
        if n_warm >= n_targets || (n_warm == 0 && share < 1.0) {
            return Err(PlanError::NoColdTargets { n_targets, n_warm });
        }
        Ok(())
    }
}

impl Pace {
    /// How many invocations may be in flight at once, each on its connection.
    pub fn max_in_flight(self) -> usize {
        match self {
            Self::Closed { concurrency } => concurrency,
            Self::Open { max_in_flight, .. } => max_in_flight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let targets = ["a".parse().unwrap(), "b".parse().unwrap()];
        Plan::open("http://127.0.0.1:1", &targets, 100.0)
    }

    fn check(change: impl FnOnce(&mut Plan), expected: Result<(), PlanError>) {
        let mut plan = plan();
        change(&mut plan);
        let validated = (plan.validate(), expected);
        assert_eq!(validated.0, validated.1);
    }

    fn even(rate: f64) -> Pace {
        Pace::Open { arrivals: Arrivals::Even { rate }, max_in_flight: 1 }
    }

    #[test]
    fn what_nobody_can_carry_out_is_refused_before_it_starts() {
        check(|_| {}, Ok(()));
        check(|it| it.routers.clear(), Err(PlanError::NoRouter));
        check(|it| it.targets = Arc::new([]), Err(PlanError::NoTargets));
        check(|it| it.bodies.clear(), Err(PlanError::NoBody));
        check(|it| it.duration = Duration::ZERO, Err(PlanError::Duration));
        check(|it| it.answer_timeout = Duration::from_secs(701), Err(PlanError::AnswerTimeout));
        check(|it| it.pace = Pace::Closed { concurrency: 0 }, Err(PlanError::InFlight));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            check(|it| it.pace = even(bad), Err(PlanError::Rate));
        }
        let zipf = |exponent| Popularity::Zipf { exponent };
        check(|it| it.popularity = zipf(-0.1), Err(PlanError::Exponent));
        check(|it| it.popularity = zipf(f64::NAN), Err(PlanError::Exponent));
    }

    #[test]
    fn cold_invocations_need_models_that_nobody_asks_otherwise() {
        let cold = |share, n_warm| Some(Cold { share, n_warm });
        let none = |n_warm| PlanError::NoColdTargets { n_targets: 2, n_warm };
        check(|it| it.cold = cold(0.1, 1), Ok(()));
        check(|it| it.cold = cold(1.0, 0), Ok(()));
        check(|it| it.cold = cold(0.1, 2), Err(none(2)));
        check(|it| it.cold = cold(0.1, 0), Err(none(0)));
        check(|it| it.cold = cold(1.1, 1), Err(PlanError::ColdShare));
    }
}
