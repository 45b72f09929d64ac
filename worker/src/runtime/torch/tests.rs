use super::*;
use crate::{
    compute::{Compute, ComputeLimits},
    runtime::{self, handler::HandlerConfig, tensor::Elements},
};
use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use bytes::Bytes;
use std::{
    io::{Cursor, Write},
    path::Path,
    sync::Arc,
};
use tch::{Kind, Tensor};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Traces `forward` with an example input and saves it as `model.pt`.
fn save(folder: &Path, example: &Tensor, mut forward: impl FnMut(&Tensor) -> Vec<Tensor>) {
    let mut closure = |inputs: &[Tensor]| forward(&inputs[0]);
    let inputs = [example.shallow_clone()];
    let module = CModule::create_by_tracing("Net", "forward", &inputs, &mut closure).unwrap();
    module.save(folder.join("model.pt")).unwrap();
}

/// `y = x @ [[1, 2], [3, 4], [5, 6]]`: two numbers for three.
fn save_linear(folder: &Path) {
    let weight = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape([3, 2]);
    save(folder, &Tensor::zeros([1, 3], (Kind::Float, Device::Cpu)), |x| vec![x.matmul(&weight)]);
}

/// An archive with a module whose `forward` is given as TorchScript's own text, after `self`:
/// tracing alone makes neither tuples nor exceptions.
fn scripted(forward: &str) -> tempfile::TempDir {
    let folder = archive("");
    save(folder.path(), &Tensor::from_slice(&[1.0_f32]), |x| vec![x.relu()]);
    let path = folder.path().join("model.pt");
    let traced = std::fs::read(&path).unwrap();
    let mut traced = ZipArchive::new(Cursor::new(traced)).unwrap();
    let mut rewritten = ZipWriter::new(std::fs::File::create(path).unwrap());
    for idx in 0..traced.len() {
        let file = traced.by_index(idx).unwrap();
        let name = file.name().unwrap().into_owned();
        if name.ends_with("code/__torch__.py") {
            rewritten.start_file(name, SimpleFileOptions::default()).unwrap();
            write!(
                rewritten,
                "class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n  \
                 def forward(self: __torch__.Net,\n    {forward}\n"
            )
            .unwrap();
        } else if !name.ends_with(".debug_pkl") {
            rewritten.raw_copy_file(file).unwrap();
        }
    }
    rewritten.finish().unwrap();
    folder
}

fn archive(manifest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    if !manifest.is_empty() {
        let path = folder.path().join("manifold.toml");
        std::fs::write(path, manifest).expect("a file can be written");
    }
    folder
}

#[track_caller]
fn load(folder: &tempfile::TempDir) -> Arc<dyn Model> {
    runtime::load(folder.path(), &HandlerConfig::for_tests()).expect("it is a model")
}

#[track_caller]
fn load_refusal(folder: &tempfile::TempDir) -> String {
    match runtime::load(folder.path(), &HandlerConfig::for_tests()) {
        Err(RuntimeError::BadArtifact(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn input(content_type: &str, body: &[u8]) -> ModelInput {
    let body = Bytes::copy_from_slice(body);
    ModelInput { content_type: Some(content_type.to_owned()), body, ..ModelInput::default() }
}

fn json(body: &str) -> ModelInput {
    input("application/json", body.as_bytes())
}

#[track_caller]
fn answer(model: &dyn Model, input: &ModelInput) -> String {
    let output = model.invoke(input).expect("it answers");
    String::from_utf8(output.body.to_vec()).expect("it is text")
}

#[test]
fn tensors_go_in_and_out_in_every_format() {
    let folder = archive("");
    save_linear(folder.path());
    let model = load(&folder);
    assert_eq!(answer(&*model, &json("[[1,0,0],[0,1,1]]")), "[[1.0,2.0],[8.0,10.0]]");
    let csv =
        ModelInput { accept: Some("text/csv".into()), ..input("text/csv", b"1,1,1\n0,0,1\n") };
    assert_eq!(answer(&*model, &csv), "9,12\n5,6\n");
    let three = TensorData { shape: vec![1, 3], elements: Elements::Float32(vec![1.0, 0.0, 0.0]) };
    let npy = input("application/x-npy", &codec::npy::encode(&three));
    let output = model.invoke(&ModelInput { accept: Some("application/x-npy".into()), ..npy });
    let output = output.unwrap();
    assert_eq!(output.content_type.as_deref(), Some("application/x-npy"));
    let two = TensorData { shape: vec![1, 2], elements: Elements::Float32(vec![1.0, 2.0]) };
    assert_eq!(codec::npy::decode(&output.body), Ok(two));
}

#[test]
fn inputs_that_do_not_fit_are_the_clients_error_in_one_line() {
    let folder = archive("");
    save_linear(folder.path());
    let model = load(&folder);
    let doubles = TensorData { shape: vec![1, 3], elements: Elements::Float64(vec![0.0; 3]) };
    for (input, expected) in [
        (json("[[1,2,3,4]]"), "mat1 and mat2 shapes cannot be multiplied (1x4 and 3x2)"),
        (input("application/x-npy", &codec::npy::encode(&doubles)), "dtype"),
        (json("[[1,2,NaN]]"), "JSON has no NaN"),
    ] {
        let Err(RuntimeError::BadInput(why)) = model.invoke(&input) else {
            panic!("expected bad input")
        };
        assert!(why.contains(expected) && !why.contains('\n'), "{why}");
    }
    // The model still answers.
    assert_eq!(answer(&*model, &json("[[0,0,1]]")), "[[5.0,6.0]]");
}

#[test]
fn the_manifests_shape_is_checked_before_the_forward() {
    let folder = archive("[input]\nshape = [-1, 3]");
    save_linear(folder.path());
    let model = load(&folder);
    let why = model.invoke(&json("[[1,2]]")).unwrap_err();
    let text = "the shape is [1, 2], the model takes [-1, 3] (-1 is any)";
    assert_eq!(why, RuntimeError::BadInput(text.to_owned()));
    assert_eq!(answer(&*model, &input("text/csv", b"1,0,0")), "[[1.0,2.0]]");
}

#[test]
fn a_manifest_that_does_not_go_with_its_model_fails_the_load() {
    let folder = archive("[input]\nshape = [-1, 4]");
    save_linear(folder.path());
    let why = load_refusal(&folder);
    let expected = "a first forward with an input of shape [1, 4] failed: mat1 and mat2 shapes";
    assert!(why.starts_with(expected), "{why}");

    let folder =
        archive("[output]\nkind = 'classification'\nlabels = 'l.txt'\n[input]\nshape = [1, 3]");
    save_linear(folder.path());
    std::fs::write(folder.path().join("l.txt"), "one\ntwo\nthree\n").unwrap();
    let why = load_refusal(&folder);
    assert!(why.contains("it gives 2 classes, its labels file names 3"), "{why}");
}

#[test]
fn files_that_are_no_modules_are_refused() {
    for content in [&b""[..], b"not a zip", b"PK\x03\x04 half a zip"] {
        let folder = archive("");
        std::fs::write(folder.path().join("model.pt"), content).unwrap();
        let why = load_refusal(&folder);
        assert!(why.starts_with("`model.pt` is not a TorchScript module: "), "{why}");
        let place = folder.path().to_str().unwrap();
        assert!(!why.contains(place) && !why.contains('\n'), "{why}");
    }
}

#[test]
fn a_truncated_module_is_refused() {
    let folder = archive("");
    save_linear(folder.path());
    let path = folder.path().join("model.pt");
    let whole = std::fs::read(&path).unwrap();
    for part in [whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..part]).unwrap();
        assert!(load_refusal(&folder).contains("is not a TorchScript module"));
    }
}

#[test]
fn a_module_without_forward_is_refused() {
    let folder = archive("");
    let mut closure = |inputs: &[Tensor]| vec![inputs[0].relu()];
    let inputs = [Tensor::zeros([1], (Kind::Float, Device::Cpu))];
    let module = CModule::create_by_tracing("Net", "predict", &inputs, &mut closure).unwrap();
    module.save(folder.path().join("model.pt")).unwrap();
    assert_eq!(load_refusal(&folder), "the module in `model.pt` has no method `forward`");
}

#[test]
fn several_outputs_are_a_json_list_or_object() {
    let pair = "Tuple[Tensor, Tensor]:\n    return (torch.add(x, 1.0), torch.gt(x, 0.5))";
    let model = load(&scripted(&format!("x: Tensor) -> {pair}")));
    assert_eq!(answer(&*model, &json("[0.5, 1]")), "[[1.5,2.0],[false,true]]");
    let csv = ModelInput { accept: Some("text/csv".into()), ..json("[1,1]") };
    assert!(matches!(model.invoke(&csv), Err(RuntimeError::NotAcceptable(..))));

    let dictionary = "Dict[str, Tensor]:\n    return {\"y\": x}";
    let model = load(&scripted(&format!("x: Tensor) -> {dictionary}")));
    assert_eq!(answer(&*model, &json("[2]")), r#"{"y":[2.0]}"#);
}

#[test]
fn scalars_and_text_are_answers_too() {
    for (output, expected) in [
        ("float:\n    return 1.5", "1.5"),
        ("int:\n    return 7", "7"),
        ("List[str]:\n    return [\"a\", \"b\"]", r#"["a","b"]"#),
        ("Optional[Tensor]:\n    return None", "null"),
    ] {
        let model = load(&scripted(&format!("x: Tensor) -> {output}")));
        assert_eq!(answer(&*model, &json("[0]")), expected);
    }
}

#[test]
fn an_exception_in_the_model_is_its_own_error_in_one_line() {
    let raises =
        "x: Tensor) -> Tensor:\n    ops.prim.RaiseException(\"out of luck\")\n    return x";
    let model = load(&scripted(raises));
    let expected = RuntimeError::Inference("out of luck".to_owned());
    assert_eq!(model.invoke(&json("[0]")), Err(expected));
}

/// A square of zeros, 4 MiB as `float32`.
fn large_npy() -> ModelInput {
    let elements = Elements::Float32(vec![0.0; 1 << 20]);
    let square = TensorData { shape: vec![1 << 10, 1 << 10], elements };
    input("application/x-npy", &codec::npy::encode(&square))
}

#[test]
fn failing_invocations_leak_no_inputs() {
    let raises =
        "x: Tensor) -> Tensor:\n    ops.prim.RaiseException(\"out of luck\")\n    return x";
    let model = load(&scripted(raises));
    let large = large_npy();
    // What the first ones leave is the compiled graph.
    for _ in 0..3 {
        model.invoke(&large).unwrap_err();
    }
    let ((), measured) = measure(|| {
        for _ in 0..100 {
            model.invoke(&large).unwrap_err();
        }
    });
    assert!(measured.retained_bytes < 1 << 20, "{measured:?}");
}

#[test]
fn a_failing_invocation_is_not_charged_to_the_model() {
    let folder = archive("[input]\nshape = [-1, 3]");
    save_linear(folder.path());
    let model = load(&folder);
    let before = model.footprint();
    let n_failed = [large_npy(), large_npy()].iter().filter(|it| model.invoke(it).is_err()).count();
    assert_eq!(n_failed, 2);
    assert_eq!(model.footprint(), before);
}

#[test]
fn sparse_and_nested_answers_are_errors_and_no_panics() {
    for output in ["torch.to_sparse(x, 1)", "torch._nested_tensor_from_tensor_list([x, x])"] {
        let model = load(&scripted(&format!("x: Tensor) -> Tensor:\n    return {output}")));
        let Err(RuntimeError::Inference(why)) = model.invoke(&json("[0, 1]")) else {
            panic!("expected an error of the model")
        };
        assert!(!why.is_empty() && !why.contains('\n'), "{why}");
    }
}

#[test]
fn an_answer_of_too_many_dimensions_is_an_error_and_no_deep_recursion() {
    let view = format!("torch.reshape(x, [{}])", vec!["1"; 40].join(", "));
    let model = load(&scripted(&format!("x: Tensor) -> Tensor:\n    return {view}")));
    let why = model.invoke(&json("[0]")).unwrap_err().to_string();
    assert!(why.contains("a tensor of over 32 dimensions"), "{why}");
}

#[test]
fn a_module_of_two_inputs_is_refused_when_it_is_invoked() {
    let model = load(&scripted("x: Tensor, y: Tensor) -> Tensor:\n    return torch.add(x, y)"));
    let Err(RuntimeError::BadArtifact(why)) = model.invoke(&json("[0]")) else {
        panic!("expected a bad artifact")
    };
    assert!(why.starts_with("the module takes more or fewer than one input"), "{why}");
}

#[test]
fn numbers_that_json_lacks_are_an_error_unless_npy_is_asked_for() {
    let folder = archive("");
    save(folder.path(), &Tensor::from_slice(&[1.0_f32]), |x| vec![x.log()]);
    let model = load(&folder);
    let why = model.invoke(&json("[0]")).unwrap_err().to_string();
    assert!(why.contains("it holds -inf"), "{why}");
    let npy = ModelInput { accept: Some("application/x-npy".into()), ..json("[-1]") };
    assert!(model.invoke(&npy).is_ok());
}

#[test]
fn other_element_types_are_asked_for_in_the_manifest() {
    let folder = archive("[input]\ndtype = 'int64'\nshape = [-1]");
    save(folder.path(), &Tensor::from_slice(&[1_i64]), |x| vec![x * 2]);
    let model = load(&folder);
    assert_eq!(answer(&*model, &json("[21, 4000000000]")), "[42,8000000000]");
}

#[test]
fn half_precision_is_answered_as_float32() {
    let folder = archive("");
    let example = Tensor::from_slice(&[1.0_f32]);
    save(folder.path(), &example, |x| vec![x.to_kind(Kind::Half)]);
    assert_eq!(answer(&*load(&folder), &json("[1.5]")), "[1.5]");
}

#[test]
fn a_picture_becomes_classes_with_names() {
    let manifest = "[input]\nkind = 'image'\nwidth = 2\nheight = 2\nscale = 1\n\
                    [output]\nkind = 'classification'\ntop_k = 2\nlabels = 'labels.txt'\nsoftmax = false";
    let folder = archive(manifest);
    std::fs::write(folder.path().join("labels.txt"), "red\ngreen\nblue\n").unwrap();
    let example = Tensor::zeros([1, 3, 2, 2], (Kind::Float, Device::Cpu));
    save(folder.path(), &example, |x| {
        vec![x.mean_dim(&[2_i64, 3][..], false, Kind::Float) / 1000.0]
    });
    let model = load(&folder);
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&[10, 200, 30].repeat(4), 2, 2, ExtendedColorType::Rgb8)
        .unwrap();
    let expected = r#"["probability=0.200000, class=green","probability=0.030000, class=blue"]"#;
    assert_eq!(answer(&*model, &input("image/png", &png)), expected);
    assert_eq!(answer(&*model, &input("application/x-image", &png)), expected);
    let why = model.invoke(&json("[1]")).unwrap_err();
    assert!(matches!(why, RuntimeError::UnsupportedMediaType(..)), "{why}");
    let csv = ModelInput { accept: Some("text/csv".into()), ..input("image/png", &png) };
    assert!(matches!(model.invoke(&csv), Err(RuntimeError::NotAcceptable(..))));
}

#[test]
fn the_footprint_is_measured_and_grows_with_larger_inputs() {
    const MIB: u64 = 1 << 20;
    let folder = archive("[input]\nshape = [-1, 1024]");
    let weight = Tensor::ones([1024, 1024], (Kind::Float, Device::Cpu));
    let example = Tensor::zeros([1, 1024], (Kind::Float, Device::Cpu));
    save(folder.path(), &example, |x| vec![x.matmul(&weight)]);
    drop(weight);
    let prospect = runtime::inspect(folder.path(), &HandlerConfig::for_tests()).unwrap();
    let estimate = prospect.needed_bytes;
    let model = load(&folder);
    let idle = model.footprint();
    assert!((4 * MIB..5 * MIB).contains(&idle.resident_bytes), "{idle:?}");
    assert!(estimate >= idle.resident_bytes, "{estimate} for {idle:?}");
    let rows =
        TensorData { shape: vec![1024, 1024], elements: Elements::Float32(vec![0.5; 1024 * 1024]) };
    let large = input("application/x-npy", &codec::npy::encode(&rows));
    model.invoke(&large).unwrap();
    let busy = model.footprint();
    assert!(busy.workspace_bytes >= 8 * MIB, "{busy:?}");
    assert!(busy.workspace_bytes > idle.workspace_bytes, "{idle:?} {busy:?}");
    for _ in 0..3 {
        model.invoke(&large).unwrap();
    }
    assert!(model.footprint().resident_bytes < 5 * MIB, "{:?}", model.footprint());
}

#[test]
fn invocations_of_one_model_may_overlap() {
    let folder = archive("");
    save_linear(folder.path());
    let model = load(&folder);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                prepare_thread();
                for _ in 0..50 {
                    assert_eq!(answer(&*model, &json("[[1,0,0]]")), "[[1.0,2.0]]");
                }
            });
        }
    });
}

#[tokio::test]
async fn an_expression_nested_two_thousand_times_does_not_end_the_process() {
    let folder = scripted(&format!("x: Tensor) -> Tensor:\n    return {}x", "-".repeat(2000)));
    let limits = ComputeLimits { n_slots: 1, n_queued_invocations: 1, n_queued_loads: 1 };
    let compute = Compute::new(limits, prepare_thread).unwrap();
    let path = folder.path().to_owned();
    // On a slot, whose stack is what LibTorch recurses on. Whether it takes the module is its own
    // business.
    let loaded =
        compute.load(move || runtime::load(&path, &HandlerConfig::for_tests()).map(drop)).await;
    assert!(loaded.is_ok(), "{loaded:?}");
}
