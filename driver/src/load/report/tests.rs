use super::*;
use crate::load::{
    compare::Comparison,
    outcome::FailureClass,
    result::{
        BodyRow, Driver, ErrorRow, FORMAT, FailureRow, Heat, HeatRow, InstanceRow, Models,
        PlanSummary, RouterRow, SlotRow, Timeline, Totals,
    },
};

const HOSTILE: &str = "<script>alert('\"&\u{202e}</script>";

/// A result with something in each of its parts.
pub(in crate::load) fn result() -> LoadResult {
    LoadResult {
        errors: vec![error()],
        failures: vec![failure()],
        instances: vec![instance()],
        models: Models { n_asked: 1, listed: vec![model()], others: ModelRow::default() },
        timeline: Timeline { slot_ms: 100.0, slots: (0..10).map(slot).collect() },
        ..figures()
    }
}

fn slot(idx: u32) -> SlotRow {
    SlotRow {
        at_ms: 100.0 * f64::from(idx),
        n_due: 10,
        n_ok: 9,
        n_hits: 8,
        n_misses: 1,
        n_failed: 1,
        n_answered: 9,
        p50_ms: 0.5,
        p90_ms: 1.5,
        p99_ms: 12.0,
        max_ms: 80.0,
        ..SlotRow::default()
    }
}

fn model() -> ModelRow {
    ModelRow {
        model: "a/b.tar.gz".to_owned(),
        n_due: 100,
        n_hits: 80,
        n_misses: 10,
        n_failed: 10,
        mean_ms: 1.0,
        max_ms: 80.0,
    }
}

fn instance() -> InstanceRow {
    let instance = "worker-0".to_owned();
    InstanceRow { instance, n_ok: 90, n_hits: 80, n_misses: 10, share: 1.0, mean_ms: 1.0 }
}

fn error() -> ErrorRow {
    ErrorRow {
        kind: "500".to_owned(),
        class: FailureClass::Failed,
        n: 10,
        first_ms: 1.0,
        last_ms: 2.0,
        example: "why".to_owned(),
    }
}

fn failure() -> FailureRow {
    FailureRow {
        due_ms: 1.0,
        ended_ms: 2.0,
        model: "a/b.tar.gz".to_owned(),
        router: "http://127.0.0.1:1".to_owned(),
        kind: "500".to_owned(),
    }
}

fn figures() -> LoadResult {
    let totals = Totals {
        n_due: 100,
        n_ok: 90,
        n_failed: 10,
        n_hits: 80,
        n_misses: 10,
        ..Totals::default()
    };
    LoadResult {
        format: FORMAT,
        version: "0".to_owned(),
        started_at_ms: 1,
        plan: plan(),
        seconds: 1.0,
        is_interrupted: false,
        totals,
        rate: 90.0,
        n_left_out: 0,
        latency: latency(90),
        latency_hits: latency(80),
        latency_misses: latency(10),
        latency_failed: latency(10),
        service: latency(90),
        lag: Latency { n: 100, ..Latency::default() },
        timeline: Timeline::default(),
        models: Models::default(),
        heat: Heat {
            column_ms: 20.0,
            rows: vec![HeatRow { model: "a/b.tar.gz".to_owned(), counts: vec![1, 0, 5] }],
        },
        instances: Vec::new(),
        routers: vec![RouterRow {
            router: "http://127.0.0.1:1".to_owned(),
            n_sent: 100,
            n_unanswered: 0,
            n_connections: 8,
        }],
        errors: Vec::new(),
        failures: Vec::new(),
        driver: Driver { cpu_seconds: 0.1, n_cores: 2, core_share: 0.1, ..Driver::default() },
    }
}

fn plan() -> PlanSummary {
    PlanSummary {
        endpoint: "demo".to_owned(),
        n_routers: 1,
        pace: "closed loop, 8 clients".to_owned(),
        popularity: "uniform".to_owned(),
        n_targets: 1,
        cold_share: 0.0,
        n_warm: 1,
        accept: None,
        expects_echo: false,
        bodies: vec![BodyRow { name: "cat.jpg".to_owned(), n_bytes: 9, content_type: None }],
        duration_s: 1.0,
        seed: 1,
        answer_timeout_s: 70.0,
        max_in_flight: 8,
        is_signed: false,
    }
}

fn latency(n: u64) -> Latency {
    Latency {
        n,
        mean_ms: 1.0,
        min_ms: 0.1,
        p50_ms: 0.5,
        p90_ms: 1.5,
        p99_ms: 12.0,
        p999_ms: 50.0,
        p9999_ms: 60.0,
        max_ms: 80.0,
        curve: vec![(0.0, 0.1), (0.5, 0.5), (0.9, 1.5), (0.99, 12.0), (1.0, 80.0)],
    }
}

/// Fails unless every element that is opened is closed in its order, and every attribute is quoted.
fn is_well_formed(page: &str) {
    const VOID: [&str; 2] = ["meta", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("not closed: <{part}"));
        assert!(!text.contains('>') || open.last() == Some(&"style"), "> in {text}");
        let is_closed = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        assert!(tag.matches('"').count().is_multiple_of(2), "<{tag}>");
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "</{name}> ends something else"),
            None if is_closed || VOID.contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "not ended: {open:?}");
}

#[test]
fn page_has_every_section_and_is_well_formed() {
    let page = page(&result());
    is_well_formed(&page);
    let ids = [
        "summary",
        "latency",
        "percentiles",
        "hits",
        "instances",
        "models",
        "errors",
        "driver",
        "plan",
    ];
    for id in ids {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    for text in ["worker-0", "a/b.tar.gz", "80.00 ms", "closed loop, 8 clients", "88.9 %"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn page_is_one_file_without_scripts() {
    let page = page(&result());
    for foreign in ["<script", "src=", "href=", "@import", "url(", "javascript:"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}

#[test]
fn hostile_names_are_texts() {
    let mut result = result();
    let name = HOSTILE.to_owned();
    result.models.listed[0].model.clone_from(&name);
    result.heat.rows[0].model.clone_from(&name);
    result.instances[0].instance.clone_from(&name);
    result.errors[0].kind.clone_from(&name);
    result.errors[0].example.clone_from(&name);
    result.failures[0].model.clone_from(&name);
    result.plan.bodies[0].name.clone_from(&name);
    result.routers[0].router = name;
    let page = page(&result);
    is_well_formed(&page);
    assert!(!page.contains("<script") && !page.contains('\u{202e}'));
    assert!(page.matches("&lt;script&gt;").count() >= 8);
}

#[test]
fn empty_result_has_a_page() {
    let mut result = result();
    result.totals = Totals::default();
    result.timeline = Timeline::default();
    result.heat.rows.clear();
    result.instances.clear();
    result.errors.clear();
    for latency in [&mut result.latency, &mut result.latency_hits, &mut result.latency_misses] {
        *latency = Latency::default();
    }
    result.service = Latency::default();
    let page = page(&result);
    is_well_formed(&page);
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
}

#[test]
fn comparison_has_a_page() {
    let mut after = result();
    after.rate = 45.0;
    after.plan.popularity = HOSTILE.to_owned();
    let comparison = Comparison::new(&result(), &after);
    let page = comparison_page(&result(), &after, &comparison);
    is_well_formed(&page);
    assert!(page.contains("class=\"worse\">-50.0 %") && !page.contains("<script"));
}

#[test]
fn result_survives_its_json() {
    let json = serde_json::to_string(&result()).unwrap();
    let back: LoadResult = serde_json::from_str(&json).unwrap();
    assert_eq!(back, result());
}
