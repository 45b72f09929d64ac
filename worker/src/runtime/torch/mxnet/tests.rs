//! Networks whose answers MXNet 1.9.1 has given: `golden/`, made by `tests/mxnet/golden.py`.

use super::*;
use crate::runtime::{
    codec::{self, Format},
    manifest::TensorInput,
    mxnet::{Checkpoint, read_arrays},
    tensor::{Elements, TensorData},
};
use std::{fs, path::PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/runtime/torch/mxnet/golden").join(name)
}

fn array(name: &str) -> TensorData {
    let bytes = fs::read(golden(name)).expect("it is committed");
    codec::decode(Format::Npy, &bytes, &TensorInput::default()).expect("it is an array")
}

fn floats(data: &TensorData) -> &[f32] {
    let Elements::Float32(values) = &data.elements else { panic!("expected float32") };
    values
}

fn arrays(name: &str) -> HashMap<String, Array> {
    let bytes = fs::read(golden(&format!("{name}-0000.params"))).expect("it is committed");
    read_arrays(&bytes[..], bytes.len() as u64).expect("MXNet wrote it")
}

fn network(symbol: &str, arrays: &HashMap<String, Array>) -> Result<Network, RuntimeError> {
    let text = fs::read(golden(&format!("{symbol}-symbol.json"))).expect("it is committed");
    Network::new(&Graph::parse(&text).expect("MXNet wrote it"), arrays, "data")
}

#[track_caller]
fn check(symbol: &str, name: &str) {
    let network = network(symbol, &arrays(name)).expect("every operator is known");
    let input = convert::to_tensor(&array(&format!("{name}-input.npy"))).expect("it fits");
    let answer = tch::no_grad(|| network.forward(&input)).expect("it computes");
    let Answer::Tensor(answer) = answer else { panic!("expected one tensor") };
    let expected = array(&format!("{name}-output.npy"));
    assert_eq!(answer.shape, expected.shape, "{symbol}");
    for (idx, (ours, theirs)) in floats(&answer).iter().zip(floats(&expected)).enumerate() {
        let tolerance = 1e-5 * theirs.abs().max(1.0);
        assert!((ours - theirs).abs() <= tolerance, "{symbol}[{idx}]: {ours}, MXNet {theirs}");
    }
}

#[test]
fn layers_answer_as_mxnet_does() {
    check("layers", "layers");
}

#[test]
fn a_graph_of_mxnet_0_8_answers_as_a_new_one_does() {
    check("old", "layers");
}

#[test]
fn every_pool_has_mxnet_s_windows() {
    check("pools", "pools");
}

#[test]
fn activations_answer_as_mxnet_does() {
    check("activations", "activations");
}

#[test]
fn arithmetic_answers_as_mxnet_does() {
    check("arithmetic", "arithmetic");
}

#[test]
fn shapes_and_norms_answer_as_mxnet_does() {
    check("shapes", "shapes");
}

#[test]
fn rows_answer_as_mxnet_does() {
    check("rows", "rows");
}

#[test]
fn what_does_not_fit_names_its_node() {
    let mut arrays = arrays("layers");
    arrays.remove("conv1_weight");
    let error = network("layers", &arrays).expect_err("a parameter is missing").to_string();
    assert!(error.contains("node `conv1` needs `conv1_weight`, which is no parameter"), "{error}");

    let network = network("layers", &super::tests::arrays("layers")).expect("it is whole");
    let narrow = Tensor::zeros([1, 2, 9, 11], (Kind::Float, Device::Cpu));
    let error = tch::no_grad(|| network.forward(&narrow)).expect_err("it has two channels");
    assert!(error.to_string().contains("at node `bn_data`"), "{error}");
}

#[test]
fn an_archive_s_files_are_found_and_answer_like_aws_example() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["layers-symbol.json", "layers-0000.params"] {
        fs::copy(golden(name), folder.path().join(name)).unwrap();
    }
    let shapes = r#"[{"shape": [1, 3, 9, 11], "name": "data"}]"#;
    fs::write(folder.path().join("layers-shapes.json"), shapes).unwrap();
    fs::write(folder.path().join("synset.txt"), "n1 a\nn2 b\nn3 c\nn4 d\nn5 e\nn6 f\n").unwrap();
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    let found = Checkpoint::find(folder.path(), &names, None).unwrap();
    let model = crate::runtime::torch::TorchModel::load_checkpoint(&found).unwrap();

    let invoke = |content_type: &str, body: Vec<u8>| {
        let content_type = Some(content_type.to_owned());
        let input =
            crate::runtime::ModelInput { content_type, body: body.into(), ..Default::default() };
        let output = crate::runtime::Model::invoke(&model, &input).unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.body).unwrap()
    };
    let picture =
        fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../driver/assets/cat.jpg"));
    let classes = invoke("application/x-image", picture.unwrap());
    let classes: Vec<&str> =
        classes.as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    assert_eq!(classes.len(), 5);
    assert!(classes.iter().all(|it| it.starts_with("probability=0.")), "{classes:?}");
    // The same network takes arrays, too, several at once.
    let rows = invoke("application/x-npy", fs::read(golden("layers-input.npy")).unwrap());
    assert_eq!(rows.as_array().unwrap().len(), 2);
}
