use super::*;

#[track_caller]
fn refusal(text: &str) -> String {
    match text.parse::<Manifest>() {
        Err(RuntimeError::BadArtifact(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn an_empty_manifest_is_a_plain_torchscript_model() {
    assert_eq!("".parse(), Ok(Manifest::default()));
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [model]
        file = "nets/model.pt"
        runtime = "torchscript"
        memory_bytes = 50000000
        [input]
        kind = "image"
        width = 224
        height = 112
        resize = "bilinear"
        scale = 1
        mean = [127, 126.5, 125]
        std = [128.0, 128.0, 128.0]
        exif_orientation = true
        [output]
        kind = "classification"
        top_k = 3
        labels = "labels.txt"
        format = "objects"
        softmax = false
    "#;
    let image = ImageInput {
        width: 224,
        height: 112,
        resize: Resize::Bilinear,
        scale: 1.0,
        mean: [127.0, 126.5, 125.0],
        std: [128.0; 3],
        exif_orientation: true,
    };
    let classification = Classification {
        top_k: 3,
        labels: Some("labels.txt".to_owned()),
        format: ClassFormat::Objects,
        softmax: false,
    };
    let expected = Manifest {
        file: Some("nets/model.pt".to_owned()),
        runtime: RuntimeName::TorchScript,
        handler: HandlerSection::default(),
        memory_bytes: Some(50_000_000),
        input: Input::Image(image),
        output: Output::Classification(classification),
    };
    assert_eq!(text.parse(), Ok(expected));
}

#[test]
fn tensor_inputs_have_a_type_and_a_shape() {
    let manifest: Manifest = "[input]\ndtype = 'int64'\nshape = [-1, 16]".parse().unwrap();
    let expected = TensorInput { dtype: Some(DType::Int64), shape: Some(vec![-1, 16]) };
    assert_eq!(manifest.input, Input::Tensor(expected));
}

#[test]
fn refusals_name_the_key_and_the_reason() {
    const IMAGE: &str = "[input]\nkind = 'image'\nwidth = 8\nheight = 8\n";
    for (text, expected) in [
        ("[model]\nflie = 'a'", "line 2 (`flie = 'a'`): unknown field `flie`"),
        ("[batching]\nmax = 3", "unknown field `batching`"),
        ("[model]\nfile = '../model.pt'", "`model.file` is \"../model.pt\""),
        ("[model]\nfile = '/etc/passwd'", "`model.file` is \"/etc/passwd\""),
        ("[model]\nfile = ''", "`model.file` is \"\""),
        ("[model]\nfile = \"a\\u0000b\"", "`model.file` is"),
        ("[model]\nruntime = 'onnx'", "unknown variant `onnx`"),
        ("[model]\nmemory_bytes = -1", "`model.memory_bytes` is -1, expected 0 to"),
        ("[input]\nkind = 'image'\nheight = 8", "`input.width` is missing"),
        ("[input]\nkind = 'image'\nwidth = 0\nheight = 8", "`input.width` is 0, expected 1 to"),
        ("[input]\nkind = 'image'\nwidth = 8\nheight = 8193", "`input.height` is 8193"),
        (
            "[input]\nkind = 'image'\nwidth = 8192\nheight = 8192",
            "`input.width` times `input.height` times three colors is more than 16,777,216",
        ),
        ("[input]\nwidth = 8", "`input.width` goes with `kind = \"image\"`"),
        ("[input]\nkind = 'image'\nshape = [1]", "`input.shape` goes with `kind = \"tensor\"`"),
        ("[input]\ndtype = 'float8'", "unknown variant `float8`"),
        ("[input]\nshape = [0, 3]", "`input.shape` holds 0"),
        ("[input]\nshape = [-2]", "`input.shape` holds -2"),
        ("[input]\nshape = [-9223372036854775808]", "`input.shape` holds -9223372036854775808"),
        ("[input]\nshape = [1000000, 1000000]", "`input.shape` stands for more than"),
        ("[output]\ntop_k = 3", "`output.top_k` goes with `kind = \"classification\"`"),
        ("[output]\nkind = 'classification'\ntop_k = 0", "`output.top_k` is 0, expected 1 to"),
        ("[output]\nkind = 'classification'\nlabels = '../l'", "`output.labels` is \"../l\""),
        (&format!("{IMAGE}std = [1.0, 0.0, 1.0]"), "`input.std` is 0, expected a size"),
        (&format!("{IMAGE}std = [1.0, nan, 1.0]"), "`input.std` is NaN"),
        (&format!("{IMAGE}scale = inf"), "`input.scale` is inf"),
        (&format!("{IMAGE}mean = [inf, 0.0, 0.0]"), "`input.mean` must be finite"),
        (&format!("{IMAGE}mean = [1.0]"), "line 5 (`mean = [1.0]`): invalid length 1"),
        ("[model\nfile", "line 1 (`[model`)"),
    ] {
        let why = refusal(text);
        assert!(why.starts_with("manifold.toml"), "{text}: {why}");
        assert!(why.contains(expected), "{text}: {why}");
    }
}

#[test]
fn a_large_or_binary_manifest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    assert_eq!(Manifest::read(folder.path()), Ok(None));
    std::fs::write(&path, vec![b'#'; 1 << 20]).unwrap();
    let why = Manifest::read(folder.path()).unwrap_err();
    assert_eq!(
        why.to_string(),
        "artifact is not a servable model: manifold.toml is larger than 65536 bytes"
    );
    std::fs::write(&path, b"\xff\xfe").unwrap();
    let why = Manifest::read(folder.path()).unwrap_err();
    assert_eq!(why.to_string(), "artifact is not a servable model: manifold.toml is not UTF-8");
}

#[test]
fn a_manifest_that_is_a_named_pipe_is_refused_and_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let why = Manifest::read(folder.path()).unwrap_err().to_string();
    assert_eq!(why, "artifact is not a servable model: manifold.toml is not a file");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(Manifest::read(folder.path()).is_err());
}

#[test]
fn the_first_input_is_counted_twice() {
    for (text, expected) in [
        ("", 0),
        ("[input]\nkind = 'image'\nwidth = 8\nheight = 4", 2 * 3 * 8 * 4 * 4),
        ("[input]\nshape = [-1, 16]", 2 * 16 * 4),
        ("[input]\nshape = [2, 16]\ndtype = 'float64'", 2 * 2 * 16 * 8),
    ] {
        let manifest: Manifest = text.parse().unwrap();
        assert_eq!(manifest.input.first_bytes(), expected, "{text}");
    }
}

/// The names that a refusal offers: those in backticks behind "expected".
fn offered(why: &str) -> Vec<String> {
    let (_, expected) = why.rsplit_once("expected").expect("it says what is expected");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_and_every_word_of_the_code_is_on_the_page() {
    let page = include_str!("../../../../docs/models.md");
    for text in ["x = 1", "[model]\nx = 1", "[input]\nx = 1", "[output]\nx = 1"] {
        let names = offered(&refusal(text));
        assert!(names.len() > 2, "{names:?}");
        for name in names {
            let is_there =
                page.contains(&format!("`{name}`")) || page.contains(&format!("`[{name}]`"));
            assert!(is_there, "docs/models.md does not tell of the key `{name}`");
        }
    }
    for text in [
        "[model]\nruntime = 'x'",
        "[input]\nkind = 'x'",
        "[input]\nresize = 'x'",
        "[input]\ndtype = 'x'",
        "[output]\nkind = 'x'",
        "[output]\nformat = 'x'",
    ] {
        let words = offered(&refusal(text));
        assert!(words.len() > 1, "{words:?}");
        for word in words {
            let is_there =
                page.contains(&format!("`{word}`")) || page.contains(&format!("`\"{word}\"`"));
            assert!(is_there, "docs/models.md does not tell of the word `{word}`");
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    refusal(&format!("[input]\nshape = {}", "[".repeat(60_000)));
    refusal(&format!("{}=1", "a.".repeat(30_000) + "a"));
}
