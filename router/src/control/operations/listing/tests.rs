use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// A record of these tests.
#[derive(Clone, Debug)]
struct Record {
    name: String,
    created: u64,
    status: EndpointStatus,
}

type Records = BTreeMap<String, Record>;

fn ask(records: &Records, input: &Value) -> Result<(Vec<String>, Option<String>), ControlError> {
    let rows = records.iter().map(|(key, record)| Row {
        key,
        name: &record.name,
        created: Timestamp(record.created),
        changing: Some((Timestamp(record.created), record.status)),
        record,
    });
    let page = page("ListTests", rows, input.as_object().unwrap())?;
    Ok((page.records.iter().map(|it| it.name.clone()).collect(), page.next_token))
}

fn records(created: &[(&str, u64)]) -> Records {
    let record = |(name, created): &(&str, u64)| {
        let status = EndpointStatus::InService;
        (name.to_string(), Record { name: name.to_string(), created: *created, status })
    };
    created.iter().map(record).collect()
}

#[track_caller]
fn check(input: &Value, expected: &[&str]) {
    let records = records(&[("b", 1000), ("c", 3000), ("a", 2000)]);
    assert_eq!(ask(&records, input).unwrap().0, expected, "{input}");
}

#[test]
fn lists_begin_with_the_newest() {
    check(&json!({}), &["c", "a", "b"]);
    check(&json!({ "SortOrder": "Ascending" }), &["b", "a", "c"]);
    check(&json!({ "SortBy": "Name" }), &["c", "b", "a"]);
    check(&json!({ "SortBy": "Name", "SortOrder": "Ascending" }), &["a", "b", "c"]);
}

#[test]
fn lists_are_filtered() {
    check(&json!({ "NameContains": "b" }), &["b"]);
    check(&json!({ "CreationTimeAfter": 2.0 }), &["c", "a"]);
    check(&json!({ "CreationTimeBefore": 2.0 }), &["b"]);
    check(&json!({ "LastModifiedTimeAfter": 2.0005 }), &["c"]);
    check(&json!({ "StatusEquals": "Failed" }), &[]);
    check(&json!({ "StatusEquals": "InService", "NameContains": "a" }), &["a"]);
}

#[test]
fn ten_records_are_a_page() {
    let names: Vec<String> = (0..11).map(|n| format!("r{n:02}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| (&**name, 5)).collect();
    let records = records(&pairs);
    let (names, token) = ask(&records, &json!({})).unwrap();
    assert_eq!((names.len(), token.is_some()), (10, true));
    let (rest, end) = ask(&records, &json!({ "NextToken": token })).unwrap();
    assert_eq!((rest, end), (vec!["r00".to_owned()], None));
    let all = ask(&records, &json!({ "MaxResults": 11 })).unwrap();
    assert_eq!((all.0.len(), all.1), (11, None));
}

#[test]
fn tokens_of_other_lists_and_broken_ones_are_refused() {
    let records = records(&[("a", 1), ("b", 2), ("ü", 3)]);
    let token = ask(&records, &json!({ "MaxResults": 1 })).unwrap().1.unwrap();
    let again = |token: &str, sort_by: &str| {
        ask(&records, &json!({ "NextToken": token, "MaxResults": 1, "SortBy": sort_by }))
    };
    let error = again(&token, "Name").unwrap_err();
    assert_eq!(error.message, "Invalid pagination token.");
    for idx in token.char_indices().map(|(idx, _)| idx) {
        let cut = ask(&records, &json!({ "NextToken": &token[..idx.max(1)] }));
        assert!(cut.is_err(), "{idx}");
        let mut tampered = token.clone();
        let width = tampered[idx..].chars().next().unwrap().len_utf8();
        tampered.replace_range(idx..idx + width, "~");
        assert!(ask(&records, &json!({ "NextToken": tampered })).is_err(), "{idx}");
    }
    assert!(ask(&records, &json!({ "NextToken": token, "MaxResults": 5 })).is_ok());
}

fn any_status() -> impl Strategy<Value = EndpointStatus> {
    prop_oneof![
        Just(EndpointStatus::Creating),
        Just(EndpointStatus::InService),
        Just(EndpointStatus::Updating),
        Just(EndpointStatus::UpdateRollbackFailed),
    ]
}

fn any_records() -> impl Strategy<Value = Records> {
    // Few times, so that many records share one.
    let record = ("[a-d]{1,3}", 0..4_u64, any_status());
    prop::collection::vec(record, 0..40).prop_map(|records| {
        let record = |(name, created, status): (String, u64, EndpointStatus)| {
            (name.clone(), Record { name, created, status })
        };
        records.into_iter().map(record).collect()
    })
}

proptest! {
    /// Whatever is inserted and deleted between pages, a record that is there all the time is seen
    /// once, and no record twice.
    #[test]
    fn pages_show_each_record_exactly_once(
        mut records in any_records(),
        sort_by in prop_oneof![Just("Name"), Just("CreationTime"), Just("Status")],
        order in prop_oneof![Just("Ascending"), Just("Descending")],
        max_results in 1..7_u32,
        churn in prop::collection::vec((any_records(), any::<prop::sample::Index>()), 0..12),
    ) {
        let mut steady: BTreeSet<String> = records.keys().cloned().collect();
        let mut seen = Vec::new();
        let mut token: Option<String> = None;
        let mut churn = churn.into_iter();
        loop {
            let mut input = json!({ "SortBy": sort_by, "SortOrder": order, "MaxResults": max_results });
            if let Some(token) = &token {
                input["NextToken"] = json!(token);
            }
            let (names, next) = ask(&records, &input).unwrap();
            prop_assert!(names.len() <= max_results as usize);
            seen.extend(names);
            prop_assert!(next.is_none() || next != token, "a token that repeats ends a client's loop");
            token = next;
            if token.is_none() {
                break;
            }
            if let Some((added, index)) = churn.next() {
                for (key, record) in added {
                    // A name that was seen stays away, as if it were new each time.
                    if !seen.contains(&key) {
                        records.entry(key).or_insert(record);
                    }
                }
                if !records.is_empty() {
                    let key = records.keys().nth(index.index(records.len())).cloned().unwrap();
                    records.remove(&key);
                    steady.remove(&key);
                }
            }
        }
        let once: BTreeSet<String> = seen.iter().cloned().collect();
        prop_assert_eq!(once.len(), seen.len(), "none twice: {:?}", seen);
        prop_assert!(steady.is_subset(&once), "none left out");
    }
}
