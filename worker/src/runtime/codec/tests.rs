use super::*;
use crate::runtime::tensor::Elements;
use proptest::prelude::*;

fn f32s(shape: &[i64], values: &[f32]) -> TensorData {
    TensorData { shape: shape.to_vec(), elements: Elements::Float32(values.to_vec()) }
}

fn input(dtype: Option<DType>, shape: Option<&[i64]>) -> TensorInput {
    TensorInput { dtype, shape: shape.map(<[i64]>::to_vec) }
}

#[track_caller]
fn refusal(format: Format, body: &[u8], input: &TensorInput) -> String {
    match decode(format, body, input) {
        Err(RuntimeError::BadInput(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn content_type_chooses_the_codec() {
    for (given, format) in [
        (None, Some(Format::Json)),
        (Some(""), Some(Format::Json)),
        (Some("application/json"), Some(Format::Json)),
        (Some("Application/JSON; charset=utf-8"), Some(Format::Json)),
        (Some("text/csv;header=absent"), Some(Format::Csv)),
        (Some("application/x-npy"), Some(Format::Npy)),
        (Some("application/x-npz"), None),
        (Some("image/png"), None),
    ] {
        assert_eq!(input_format(given).ok(), format, "{given:?}");
    }
}

#[test]
fn accept_chooses_the_answer() {
    const ALL: &[Format] = &Format::ALL;
    const JSON: &[Format] = &[Format::Json];
    for (accept, offers, format) in [
        (None, ALL, Some(Format::Json)),
        (Some(""), ALL, Some(Format::Json)),
        (Some("*/*"), ALL, Some(Format::Json)),
        (Some("text/*"), ALL, Some(Format::Csv)),
        (Some("application/x-npy"), ALL, Some(Format::Npy)),
        (Some("text/html, text/csv;q=0.5, */*;q=0.1"), ALL, Some(Format::Csv)),
        (Some("text/csv;q=0.2, application/x-npy; q=0.9"), ALL, Some(Format::Npy)),
        (Some("text/csv, application/json"), ALL, Some(Format::Csv)),
        (Some("text/csv;q=0, application/json"), ALL, Some(Format::Json)),
        (Some("text/csv;q=lots"), ALL, None),
        (Some("text/html"), ALL, None),
        (Some("text/csv"), JSON, None),
        (Some("text/csv, */*;q=0.1"), JSON, Some(Format::Json)),
        // A zero excludes what a wider range would let in.
        (Some("application/json;q=0, */*"), ALL, Some(Format::Csv)),
        (Some("*/*, application/json;q=0"), JSON, None),
        (Some("*/*, application/json;q=0.1"), ALL, Some(Format::Csv)),
        (Some("application/*;q=0, */*;q=0.1"), ALL, Some(Format::Csv)),
        (Some("text/*;q=0, text/csv;q=0.2"), ALL, Some(Format::Csv)),
        (Some("*/*;q=nan"), ALL, None),
    ] {
        assert_eq!(answer_format(accept, offers).ok(), format, "{accept:?}");
    }
}

#[test]
fn json_lists_become_tensors() {
    for (body, expected) in [
        ("[1, 2.5, -3e2]", f32s(&[3], &[1.0, 2.5, -300.0])),
        ("[[1,2],[3,4],[5,6]]", f32s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        (" [[[true]]] ", f32s(&[1, 1, 1], &[1.0])),
        ("7", f32s(&[], &[7.0])),
        ("[]", f32s(&[0], &[])),
        ("[[],[]]", f32s(&[2, 0], &[])),
        ("[18446744073709551615]", f32s(&[1], &[18_446_744_073_709_551_615.0])),
    ] {
        let tensor = decode(Format::Json, body.as_bytes(), &TensorInput::default());
        assert_eq!(tensor, Ok(expected), "{body}");
    }
}

#[test]
fn json_refusals_say_what_is_wrong() {
    for (body, dtype, expected) in [
        ("[[1],[1,2]]", None, "ragged: a list of 2 beside one of 1"),
        ("[1,[2]]", None, "ragged: a list beside a number"),
        ("[[1],2]", None, "ragged: a number beside a list"),
        ("[[],[1]]", None, "ragged: a list of 1 beside one of 0"),
        ("[[],[[]]]", None, "ragged: a list beside a number"),
        ("[1,NaN]", None, "JSON has no NaN and no Infinity (line 1"),
        ("[1,\n -Infinity]", None, "JSON has no NaN and no Infinity (line 2"),
        ("[Infinity]", None, "JSON has no NaN and no Infinity"),
        ("[1e39]", None, "1e39 is not a float32"),
        ("[1e400]", None, "number out of range"),
        ("[null]", None, "invalid type: null, expected nested lists of numbers"),
        ("[\"1\"]", None, "invalid type: string \"1\", expected nested lists of numbers"),
        ("{\"a\": 1}", None, "invalid type: map, expected nested lists of numbers"),
        ("[1] [2]", None, "trailing characters"),
        ("[1", None, "EOF while parsing"),
        ("", None, "EOF while parsing"),
        ("[1.5]", Some(DType::Int64), "1.5 is not a int64"),
        ("[300]", Some(DType::Uint8), "300 is not a uint8"),
        ("[9223372036854775808]", Some(DType::Int64), "9223372036854775808 is not a int64"),
    ] {
        let why = refusal(Format::Json, body.as_bytes(), &input(dtype, None));
        assert!(why.contains(expected), "{body}: {why}");
    }
    let deep = "[".repeat(100_000);
    let why = refusal(Format::Json, deep.as_bytes(), &TensorInput::default());
    assert!(why.contains("lists nested over 32 deep"), "{why}");
}

#[test]
fn csv_rows_become_vectors_and_matrices() {
    for (body, shape, expected) in [
        ("1,2,3", None, f32s(&[3], &[1.0, 2.0, 3.0])),
        ("1\n2\n", None, f32s(&[2], &[1.0, 2.0])),
        ("1, 2\r\n\r\n3,nan\r\n", Some(&[-1_i64, 2][..]), f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])),
        ("1,2,3,4", Some(&[-1, 4]), f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0])),
        ("1,2,3,4", Some(&[-1, 2, 2]), f32s(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0])),
        ("1,2,3,4", Some(&[-1]), f32s(&[4], &[1.0, 2.0, 3.0, 4.0])),
    ] {
        let body = body.replace("nan", "4");
        let tensor = decode(Format::Csv, body.as_bytes(), &input(None, shape));
        assert_eq!(tensor, Ok(expected), "{body}");
    }
    let tensor = decode(Format::Csv, b"nan,-inf,+Infinity", &TensorInput::default()).unwrap();
    let Elements::Float32(values) = tensor.elements else { panic!("float32 is the default") };
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f32::NEG_INFINITY, f32::INFINITY]);
}

#[test]
fn csv_refusals_name_row_and_column() {
    for (body, expected) in [
        (&b"1,2\n3,cat\n"[..], "row 2, column 2 of the CSV: \"cat\" is not a float32"),
        (b"1,2\n3\n", "row 2 of the CSV has 1 cells, those above 2"),
        (b"1e39", "row 1, column 1 of the CSV: \"1e39\" is not a float32"),
        (b"0,-1e39", "row 1, column 2 of the CSV: \"-1e39\" is not a float32"),
        (b"1,,2", "row 1, column 2 of the CSV: \"\" is not a float32"),
        (b"", "the CSV has no rows"),
        (b"\xff", "the CSV is not UTF-8"),
    ] {
        assert_eq!(refusal(Format::Csv, body, &TensorInput::default()), expected);
    }
}

/// As `numpy.save(file, numpy.asfortranarray([[1, 2, 3], [4, 5, 6]], dtype=">i2"))` writes it.
fn big_endian_fortran() -> Vec<u8> {
    let mut header = b"{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }".to_vec();
    header.resize(117, b' ');
    header.push(b'\n');
    let mut body = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    body.extend_from_slice(&header);
    body.extend_from_slice(&[0, 1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6]);
    body
}

#[test]
fn npy_of_any_byte_and_memory_order_is_read() {
    let tensor = decode(Format::Npy, &big_endian_fortran(), &TensorInput::default());
    let elements = Elements::Int16(vec![1, 2, 3, 4, 5, 6]);
    assert_eq!(tensor, Ok(TensorData { shape: vec![2, 3], elements }));
}

#[test]
fn npy_is_written_as_numpy_writes_it() {
    let body = npy::encode(&f32s(&[1], &[1.0]));
    let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    expected.extend_from_slice(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }");
    expected.resize(127, b' ');
    expected.extend_from_slice(b"\n\x00\x00\x80\x3f");
    assert_eq!(body, expected);
}

fn npy_with_header(header: &str) -> Vec<u8> {
    let mut body = b"\x93NUMPY\x02\x00".to_vec();
    body.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
    body.extend_from_slice(header.as_bytes());
    body
}

#[test]
fn hostile_npy_headers_are_refused() {
    let shape = |shape| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}");
    let descr = |descr| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}");
    for (header, expected) in [
        (shape("(4294967296, 4294967296, 4294967296)"), "is too large"),
        (shape("(16777216, 16777216, 0)"), "is too large"),
        (shape("(99999999999999999999,)"), "header is malformed"),
        (shape("(-1,)"), "header is malformed"),
        (shape("(1,2"), "header is malformed"),
        (shape(&format!("({})", "1,".repeat(33))), "header is malformed"),
        (shape("(3,)"), "header says [3] of float32, 12 bytes, but 0 follow"),
        (descr("'|O'"), "pickled objects, which are never read here"),
        (descr("'<c8'"), "arrays of type \"<c8\" are not served"),
        (descr("'<f2'"), "arrays of type \"<f2\" are not served"),
        (descr("'é'"), "arrays of type \"é\" are not served"),
        (descr("[('a', '<f4')]"), "structured arrays are not served"),
        (String::new(), "header is malformed"),
        ("{".to_owned(), "header is malformed"),
        ("{'shape': (1,), 'shape': (2,)}".to_owned(), "header is malformed"),
        ("(".repeat(9_000), "header is malformed"),
        (" ".repeat(10_001), "header has 10001 bytes, over 10000"),
    ] {
        let why = refusal(Format::Npy, &npy_with_header(&header), &TensorInput::default());
        assert!(why.contains(expected), "{header}: {why}");
    }
    for (body, expected) in [
        (&b""[..], "not an npy array"),
        (b"\x93NUMPY", "not an npy array"),
        (b"\x93NUMPY\x01\x00\x76", "not an npy array"),
        (b"\x93NUMPY\x04\x00\x76\x00", "npy version 4 is not known here"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header has 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\x76\x00{", "header is cut short"),
    ] {
        let why = refusal(Format::Npy, body, &TensorInput::default());
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn the_manifest_is_held_against_what_comes() {
    let body = npy::encode(&f32s(&[1, 3], &[1.0, 2.0, 3.0]));
    let take = |dtype, shape: &[i64]| decode(Format::Npy, &body, &input(dtype, Some(shape)));
    assert!(take(Some(DType::Float32), &[-1, 3]).is_ok());
    let why = take(Some(DType::Int64), &[-1, 3]).unwrap_err().to_string();
    assert!(why.ends_with("the array is float32, the model takes int64"), "{why}");
    let why = take(None, &[-1, 4]).unwrap_err().to_string();
    assert!(why.ends_with("the shape is [1, 3], the model takes [-1, 4] (-1 is any)"), "{why}");
}

#[test]
fn answers_of_several_parts_are_json_alone() {
    let tensor = || Answer::Tensor(f32s(&[2], &[1.0, 0.1]));
    let named = vec![("box".to_owned(), tensor()), ("none".to_owned(), Answer::Null)];
    let answer = Answer::List(vec![Answer::Object(named), Answer::Text("a \"b\"".to_owned())]);
    let body = encode(Format::Json, &answer).unwrap();
    assert_eq!(body, br#"[{"box":[1.0,0.1],"none":null},"a \"b\""]"#);
    for format in [Format::Csv, Format::Npy] {
        let why = encode(format, &answer).unwrap_err();
        assert!(matches!(why, RuntimeError::NotAcceptable(..)), "{why}");
    }
    assert_eq!(encode(Format::Json, &Answer::Tensor(f32s(&[], &[2.0]))).unwrap(), b"2.0");
    assert_eq!(encode(Format::Json, &Answer::Tensor(f32s(&[2, 0], &[]))).unwrap(), b"[[],[]]");
}

#[test]
fn an_empty_answer_of_absurd_shape_is_an_error_and_no_endless_list() {
    let empty = Answer::Tensor(f32s(&[1 << 24, 1 << 24, 0], &[]));
    let why = encode(Format::Json, &Answer::List(vec![empty])).unwrap_err().to_string();
    assert!(why.contains("its shape [16777216, 16777216, 0] is too large"), "{why}");
}

#[test]
fn numbers_that_json_lacks_are_an_error_in_json_alone() {
    let tensor = f32s(&[1, 2], &[f32::NAN, f32::NEG_INFINITY]);
    let answer = Answer::Tensor(tensor.clone());
    let why = encode(Format::Json, &answer).unwrap_err().to_string();
    assert!(why.contains("it holds NaN; ask for application/x-npy or text/csv"), "{why}");
    assert_eq!(encode(Format::Csv, &answer).unwrap(), b"NaN,-inf\n");
    assert!(encode(Format::Npy, &answer).is_ok());
}

#[test]
fn csv_answers_have_two_dimensions_at_most() {
    let csv = |tensor| encode(Format::Csv, &Answer::Tensor(tensor));
    assert_eq!(csv(f32s(&[2, 2], &[1.0, 2.5, 3.0, 4.0])).unwrap(), b"1,2.5\n3,4\n");
    assert_eq!(csv(f32s(&[2], &[1.0, 2.0])).unwrap(), b"1\n2\n");
    assert_eq!(csv(f32s(&[], &[1.0])).unwrap(), b"1\n");
    assert!(matches!(csv(f32s(&[1, 1, 1], &[1.0])), Err(RuntimeError::NotAcceptable(..))));
}

fn any_elements(n: usize) -> impl Strategy<Value = Elements> {
    use proptest::collection::vec;
    let float =
        proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO;
    let double = proptest::num::f64::NORMAL | proptest::num::f64::ZERO;
    prop_oneof![
        vec(float, n).prop_map(Elements::Float32),
        vec(double, n).prop_map(Elements::Float64),
        vec(any::<i64>(), n).prop_map(Elements::Int64),
        vec(any::<i32>(), n).prop_map(Elements::Int32),
        vec(any::<i16>(), n).prop_map(Elements::Int16),
        vec(any::<i8>(), n).prop_map(Elements::Int8),
        vec(any::<u8>(), n).prop_map(Elements::Uint8),
        vec(any::<bool>(), n).prop_map(Elements::Bool),
    ]
}

fn any_tensor() -> impl Strategy<Value = TensorData> {
    proptest::collection::vec(1_i64..5, 0..4).prop_flat_map(|shape| {
        let n = usize::try_from(shape.iter().product::<i64>()).expect("it is small");
        any_elements(n).prop_map(move |elements| TensorData { shape: shape.clone(), elements })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(tensor in any_tensor()) {
        let expected = input(Some(tensor.elements.dtype()), None);
        for format in Format::ALL {
            // CSV has no booleans of its own and at most two dimensions.
            let is_matrix = tensor.shape.len() == 2 || format != Format::Csv;
            if is_matrix {
                let body = encode(format, &Answer::Tensor(tensor.clone())).unwrap();
                let expected = match format {
                    Format::Csv => input(expected.dtype, Some(&tensor.shape)),
                    _ => expected.clone(),
                };
                prop_assert_eq!(decode(format, &body, &expected), Ok(tensor.clone()));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(body: Vec<u8>, json in "[\\[\\], 0-9eNI.+-]{0,40}") {
        for format in Format::ALL {
            let _refused = decode(format, &body, &TensorInput::default());
            let _refused = decode(format, json.as_bytes(), &TensorInput::default());
        }
    }

    #[test]
    fn damaged_npy_never_panics(tensor in any_tensor(), at in 0_usize..200, byte: u8) {
        let mut body = npy::encode(&tensor);
        let at = at % body.len();
        body[at] = byte;
        let _refused = npy::decode(&body);
        let _refused = npy::decode(&body[..at]);
    }

    #[test]
    fn any_accept_header_gets_an_answer_or_a_refusal(accept in "[ -~]{0,60}") {
        let _refused = answer_format(Some(&accept), &Format::ALL);
    }
}
