use super::*;
use proptest::prelude::*;

const LEASE: i64 = 7;

fn seen(jobs: &[&str], claims: &[(&str, i64)]) -> Seen {
    let claim = |(id, lease): &(&str, i64)| {
        ((*id).to_owned(), Claim { lease: *lease, is_own: *lease <= LEASE })
    };
    let jobs = jobs.iter().map(|id| (*id).to_owned()).collect();
    Seen { jobs, claims: claims.iter().map(claim).collect() }
}

fn jobs(open: &[&str], done: &[&str]) -> Jobs {
    let mut jobs = Jobs::default();
    for id in open {
        jobs.open(id);
    }
    for id in done {
        jobs.done(id);
    }
    jobs.begin();
    jobs
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn jobs_of_a_router_that_is_gone_are_taken_once_nobody_claimed_them_for_three_rounds() {
    let mut jobs = jobs(&["a"], &[]);
    let seen = seen(&["a", "b", "c"], &[("a", LEASE), ("b", 8)]);
    for _ in 1..PATIENCE {
        assert_eq!(jobs.plan(&seen, LEASE), Plan::default());
    }
    let plan = Plan { take: ids(&["c"]), ..Plan::default() };
    assert_eq!(jobs.plan(&seen, LEASE), plan);
}

#[test]
fn jobs_of_routers_that_lost_their_leases_with_etcd_are_left_to_them() {
    let mut jobs = jobs(&[], &[]);
    for _ in 0..PATIENCE {
        for _ in 1..PATIENCE {
            assert_eq!(jobs.plan(&seen(&["a"], &[]), LEASE), Plan::default());
        }
        jobs.interrupted();
    }
    // One that is claimed in between is not given up either.
    for claims in [&[][..], &[], &[("a", 8)], &[], &[]] {
        assert_eq!(jobs.plan(&seen(&["a"], claims), LEASE), Plan::default());
    }
}

#[test]
fn what_etcd_has_lost_is_told_again_and_claimed_again_at_once() {
    let plan = Plan { tell: ids(&["a"]), claim: ids(&["b"]), ..Plan::default() };
    assert_eq!(jobs(&["a", "b"], &[]).plan(&seen(&["b"], &[]), LEASE), plan);
}

#[test]
fn what_is_done_is_removed_and_forgotten_and_never_taken_over() {
    let mut jobs = jobs(&[], &["a", "b", "c", "gone"]);
    let plan = jobs.plan(&seen(&["a", "b", "c"], &[("a", LEASE), ("c", 8)]), LEASE);
    let remove = vec![("a".to_owned(), Some(LEASE)), ("b".to_owned(), None)];
    assert_eq!(plan, Plan { remove, ..Plan::default() });
    assert_eq!(jobs.states.len(), 3, "what another does is kept, should it die");
}

#[test]
fn what_was_done_while_a_round_looked_is_not_forgotten_by_it() {
    let mut jobs = jobs(&["a"], &[]);
    jobs.done("a");
    assert_eq!(jobs.plan(&seen(&[], &[]), LEASE), Plan::default());
    jobs.begin();
    // It was told after the round had looked.
    let remove = vec![("a".to_owned(), Some(LEASE))];
    let plan = jobs.plan(&seen(&["a"], &[("a", LEASE)]), LEASE);
    assert_eq!(plan, Plan { remove, ..Plan::default() });
}

#[test]
fn a_claim_whose_answer_was_lost_is_read_and_not_removed() {
    let mut jobs = jobs(&[], &[]);
    jobs.claiming("a");
    let read = Plan { read: ids(&["a"]), ..Plan::default() };
    assert_eq!(jobs.plan(&seen(&["a"], &[("a", LEASE)]), LEASE), read);
    // It was not done, or our lease has ended.
    let take = Plan { take: ids(&["a"]), ..Plan::default() };
    assert_eq!(jobs.plan(&seen(&["a"], &[]), LEASE), take);
    assert_eq!(jobs.plan(&seen(&["a"], &[("a", LEASE - 1)]), LEASE), Plan::default());
    assert_eq!(jobs.plan(&seen(&["a"], &[("a", 8)]), LEASE), Plan::default());
    assert!(jobs.states.is_empty(), "another was faster");
}

#[test]
fn a_claim_of_ours_that_nobody_can_explain_is_read_and_not_removed() {
    let read = Plan { read: ids(&["a"]), ..Plan::default() };
    assert_eq!(jobs(&[], &[]).plan(&seen(&["a"], &[("a", LEASE)]), LEASE), read);
}

#[test]
fn what_a_former_life_claimed_is_left_until_its_lease_ends() {
    let seen = seen(&["a", "b"], &[("a", 6), ("b", 6)]);
    assert_eq!(jobs(&["a"], &[]).plan(&seen, LEASE), Plan::default());
}

// === Whatever answers are lost ===

/// What becomes of something that etcd is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    /// It is done, and nobody hears of it.
    AnswerLost,
    Lost,
}

#[derive(Clone, Debug)]
enum Step {
    /// The other router, which is gone since, had accepted a job.
    Theirs(u8),
    Ours(u8, Fate),
    /// The oldest job that runs is done.
    Finish(Fate),
    LeaseEnds,
    Round(Vec<Fate>),
}

/// A router as `async_invocations::sharing` is one, and an etcd.
#[derive(Debug, Default)]
struct World {
    jobs: Jobs,
    lease: i64,
    etcd: Seen,
    log: BTreeSet<String>,
    running: Vec<String>,
    accepted: BTreeSet<String>,
    done: BTreeSet<String>,
}

impl World {
    fn claim(&mut self, id: &str) {
        if self.etcd.jobs.contains(id) {
            let claim = Claim { lease: self.lease, is_own: true };
            self.etcd.claims.entry(id.to_owned()).or_insert(claim);
        }
    }

    fn tell(&mut self, id: &str, fate: Fate) {
        let is_free = !self.etcd.jobs.contains(id) && !self.etcd.claims.contains_key(id);
        if fate != Fate::Lost && is_free {
            self.etcd.jobs.insert(id.to_owned());
            self.claim(id);
        }
    }

    fn remove(&mut self, id: &str, lease: Option<i64>, fate: Fate) {
        if fate != Fate::Lost && self.etcd.claims.get(id).map(|it| it.lease) == lease {
            self.etcd.jobs.remove(id);
            self.etcd.claims.remove(id);
        }
    }

    fn read(&mut self, id: &str, fate: Fate) {
        if fate == Fate::Answered {
            self.log.insert(id.to_owned());
            self.jobs.open(id);
            self.running.push(id.to_owned());
        }
    }

    fn round(&mut self, fates: &mut dyn Iterator<Item = Fate>) {
        let mut fate = || fates.next().unwrap_or(Fate::Answered);
        self.jobs.begin();
        if fate() == Fate::Lost {
            return self.jobs.interrupted();
        }
        let plan = self.jobs.plan(&self.etcd, self.lease);
        for (id, lease) in plan.remove {
            self.remove(&id, lease, fate());
        }
        for id in plan.tell {
            if self.jobs.is_open(&id) {
                self.tell(&id, fate());
            }
        }
        for id in plan.claim {
            if fate() != Fate::Lost {
                self.claim(&id);
            }
        }
        for id in plan.read {
            self.jobs.claiming(&id);
            self.read(&id, fate());
        }
        for id in plan.take {
            self.jobs.claiming(&id);
            let claimed = fate();
            if claimed != Fate::Lost {
                self.claim(&id);
            }
            if claimed == Fate::Answered {
                self.read(&id, fate());
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Theirs(id) => {
                let id = format!("their-{id}");
                if self.accepted.insert(id.clone()) {
                    self.etcd.jobs.insert(id);
                }
            }
            Step::Ours(id, fate) => {
                let id = format!("our-{id}");
                if self.accepted.insert(id.clone()) {
                    self.read(&id, Fate::Answered);
                    self.tell(&id, fate);
                }
            }
            Step::Finish(fate) if !self.running.is_empty() => {
                let id = self.running.remove(0);
                self.log.remove(&id);
                self.done.insert(id.clone());
                self.jobs.done(&id);
                self.remove(&id, Some(self.lease), fate);
            }
            Step::Finish(_) => {}
            Step::LeaseEnds => {
                self.etcd.claims.retain(|_, claim| claim.lease != self.lease);
                self.lease += 1;
            }
            Step::Round(fates) => self.round(&mut fates.into_iter()),
        }
    }

    fn is_none_lost(&self) -> bool {
        let is_kept =
            |id: &String| [&self.done, &self.log, &self.etcd.jobs].iter().any(|it| it.contains(id));
        self.accepted.iter().all(is_kept)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = || prop_oneof![Just(Fate::Answered), Just(Fate::AnswerLost), Just(Fate::Lost)];
    let step = prop_oneof![
        2 => (0_u8..8).prop_map(Step::Theirs),
        2 => (0_u8..8, fate()).prop_map(|(id, fate)| Step::Ours(id, fate)),
        2 => fate().prop_map(Step::Finish),
        1 => Just(Step::LeaseEnds),
        6 => prop::collection::vec(fate(), 0..8).prop_map(Step::Round),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn whatever_answers_are_lost_every_job_is_done_and_then_gone(steps in steps()) {
        let mut world = World { lease: 1, ..World::default() };
        for step in steps {
            world.step(step);
            prop_assert!(world.is_none_lost(), "{world:?}");
        }
        // Then etcd is well again.
        for _ in 0..4 * PATIENCE {
            world.step(Step::Round(Vec::new()));
            while !world.running.is_empty() {
                world.step(Step::Finish(Fate::Answered));
            }
        }
        prop_assert_eq!(&world.done, &world.accepted);
        prop_assert!(world.etcd.jobs.is_empty() && world.etcd.claims.is_empty());
        prop_assert!(world.jobs.states.is_empty(), "{:?}", world.jobs);
    }
}
