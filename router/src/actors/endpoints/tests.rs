use super::*;
use shared::api::endpoints::EndpointsFile;
use std::collections::BTreeSet;

fn parse(toml: &str) -> Vec<Endpoint> {
    toml::from_str::<EndpointsFile>(toml).unwrap().endpoints
}

fn endpoint(name: &str, variants: &[(&str, f64)]) -> String {
    let variants = variants.iter().map(|(name, weight)| {
        format!(
            "[[endpoint.variant]]\nname = \"{name}\"\nweight = {weight:?}\n\
             model_data_url = \"s3://bucket/{name}/\"\n"
        )
    });
    format!("[[endpoint]]\nname = \"{name}\"\n{}", variants.collect::<String>())
}

async fn replace(toml: &str) -> Result<Endpoints, InvalidEndpoints> {
    let endpoints = Endpoints::start(EndpointMetrics::default());
    endpoints.replace(parse(toml)).await?;
    Ok(endpoints)
}

#[actix::test]
async fn variants_are_picked_by_weight_unless_one_is_asked_for() {
    let toml = endpoint("demo", &[("a", 1.0), ("b", 1.0), ("never", 0.0)]);
    let endpoints = replace(&toml).await.unwrap();
    let demo = "demo".parse().unwrap();

    let picked: BTreeSet<String> =
        (0..200).map(|_| endpoints.pick_variant(&demo, None).unwrap().name.to_string()).collect();
    assert_eq!(picked, BTreeSet::from(["a".to_owned(), "b".to_owned()]));

    let asked = endpoints.pick_variant(&demo, Some(&"never".parse().unwrap())).unwrap();
    assert_eq!(asked.name.as_str(), "never");
}

#[actix::test]
async fn what_is_not_there_is_named() {
    let endpoints = replace(&endpoint("demo", &[("a", 1.0)])).await.unwrap();
    let (demo, other) = ("demo".parse().unwrap(), "other".parse().unwrap());
    let missing = "b".parse().unwrap();

    let error = endpoints.pick_variant(&other, None).unwrap_err();
    assert_eq!(error, PickError::UnknownEndpoint(other));
    let error = endpoints.pick_variant(&demo, Some(&missing)).unwrap_err();
    assert_eq!(error, PickError::UnknownVariant(demo, missing));
}

#[actix::test]
async fn endpoints_that_could_not_serve_are_refused() {
    for (toml, expected) in [
        (endpoint("d", &[("a", 1.0)]).repeat(2), "endpoint `d` is there twice"),
        (endpoint("d", &[("a", 1.0), ("a", 1.0)]), "endpoint `d` has variant `a` twice"),
        (endpoint("d", &[("a", 0.0)]), "endpoint `d` has no variant with a positive weight"),
        (
            endpoint("d", &[("a", -1.0)]),
            "endpoint `d`: weight -1 is not a number from 0 to a billion",
        ),
        (
            endpoint("d", &[("a", f64::INFINITY)]),
            "endpoint `d`: weight inf is not a number from 0 to a billion",
        ),
    ] {
        assert_eq!(replace(&toml).await.unwrap_err().to_string(), expected);
    }
}

#[actix::test]
async fn a_url_that_would_break_a_header_is_refused() {
    let toml = endpoint("d", &[("a", 1.0)]).replace("s3://bucket/a/", "s3://bucket/a\\n/");
    let error = replace(&toml).await.unwrap_err().to_string();
    assert_eq!(error, "endpoint `d`: the model data URL holds control characters");
}

#[actix::test]
async fn a_refused_replacement_changes_nothing() {
    let endpoints = replace(&endpoint("demo", &[("a", 1.0)])).await.unwrap();
    endpoints.replace(parse(&endpoint("demo", &[("b", 0.0)]))).await.unwrap_err();
    assert_eq!(endpoints.pick_variant(&"demo".parse().unwrap(), None).unwrap().name.as_str(), "a");
}
