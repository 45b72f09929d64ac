//! The inputs of a request: all of its body, or each field of a form, and each parameter of its URL.

use super::queue::{Input, Request};
use crate::runtime::{ModelInput, RuntimeError};
use bytes::Bytes;
use futures_util::stream;
use multer::{Constraints, Multipart, SizeLimit};
use std::convert::Infallible;

/// Fields of one form. Each costs an object in the handler, and forms have a few.
const MAX_FIELDS: usize = 1024;

/// Takes a request apart, as Multi Model Server does: a field that comes twice has its last value, which
/// is for the handler's dictionary to see to.
pub(super) async fn request(input: ModelInput) -> Result<Request, RuntimeError> {
    let head = input.head.map(|it| *it).unwrap_or_default();
    let content_type = input.content_type.as_deref().unwrap_or_default();
    let parameters = head.query.into_iter().map(|(name, value)| field(name, value.into()));
    let mut inputs: Vec<Input> = parameters.collect();
    match kind(content_type) {
        "multipart/form-data" => multipart(content_type, input.body, &mut inputs).await?,
        "application/x-www-form-urlencoded" => {
            for (name, value) in form_urlencoded::parse(&input.body).take(MAX_FIELDS + 1) {
                push(&mut inputs, field(name.into_owned(), value.into_owned().into()))?;
            }
        }
        kind => inputs.push(Input {
            name: "body".to_owned(),
            content_type: kind.to_owned(),
            value: input.body,
        }),
    }
    Ok(Request { id: head.invocation_id, headers: head.headers, inputs })
}

/// A content type without its parameters.
fn kind(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

async fn multipart(
    content_type: &str,
    body: Bytes,
    inputs: &mut Vec<Input>,
) -> Result<(), RuntimeError> {
    let malformed = |error: multer::Error| {
        RuntimeError::BadInput(format!("it is no multipart/form-data: {error}"))
    };
    let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
    // All of it is in memory, within the bound of bodies.
    let size = SizeLimit::new().whole_stream(u64::MAX).per_field(u64::MAX);
    let body = stream::iter([Ok::<_, Infallible>(body)]);
    let mut form = Multipart::with_constraints(body, boundary, Constraints::new().size_limit(size));
    while let Some(part) = form.next_field().await.map_err(malformed)? {
        let name = part.name().unwrap_or_default().to_owned();
        let content_type = part.content_type().map(ToString::to_string).unwrap_or_default();
        let content_type = kind(&content_type).to_owned();
        let value = part.bytes().await.map_err(malformed)?;
        push(inputs, Input { name, content_type, value })?;
    }
    Ok(())
}

fn field(name: String, value: Bytes) -> Input {
    Input { name, content_type: String::new(), value }
}

fn push(inputs: &mut Vec<Input>, input: Input) -> Result<(), RuntimeError> {
    if inputs.len() >= MAX_FIELDS {
        return Err(RuntimeError::BadInput(format!("it has more than {MAX_FIELDS} fields")));
    }
    inputs.push(input);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::InputHead;
    use proptest::prelude::*;

    async fn inputs(
        content_type: &str,
        body: &[u8],
    ) -> Result<Vec<(String, String, String)>, RuntimeError> {
        let query = vec![("page".to_owned(), "7".to_owned())];
        let head = InputHead { query, ..InputHead::default() };
        let request = request(ModelInput {
            content_type: Some(content_type.to_owned()),
            accept: None,
            body: Bytes::copy_from_slice(body),
            head: Some(Box::new(head)),
        });
        let text = |it: &Input| String::from_utf8_lossy(&it.value).into_owned();
        let inputs = request.await?.inputs.into_iter();
        Ok(inputs.map(|it| (it.name.clone(), it.content_type.clone(), text(&it))).collect())
    }

    fn told(name: &str, content_type: &str, value: &str) -> (String, String, String) {
        (name.to_owned(), content_type.to_owned(), value.to_owned())
    }

    #[tokio::test]
    async fn a_body_is_one_input_without_the_parameters_of_its_type() {
        let inputs = inputs("text/csv; charset=utf-8", b"1,2").await.unwrap();
        assert_eq!(inputs, [told("page", "", "7"), told("body", "text/csv", "1,2")]);
    }

    #[tokio::test]
    async fn each_field_of_a_form_is_an_input() {
        let urlencoded = inputs("application/x-www-form-urlencoded", b"a=1+2&b=%C3%A9&c").await;
        let expected = [told("a", "", "1 2"), told("b", "", "\u{e9}"), told("c", "", "")];
        assert_eq!(urlencoded.unwrap()[1..], expected);
        let body = "--x\r\nContent-Disposition: form-data; name=\"data\"; filename=\"cat.png\"\r\n\
            Content-Type: image/png\r\n\r\npixels\r\n\
            --x\r\nContent-Disposition: form-data; name=\"top\"\r\n\r\n5\r\n--x--\r\n";
        let multipart = inputs("multipart/form-data; boundary=x", body.as_bytes()).await;
        let expected = [told("data", "image/png", "pixels"), told("top", "", "5")];
        assert_eq!(multipart.unwrap()[1..], expected);
    }

    #[tokio::test]
    async fn a_form_that_is_none_is_the_client_s_fault() {
        for (content_type, body) in [
            ("multipart/form-data", "x"),
            ("multipart/form-data; boundary=x", "no boundary"),
            ("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data"),
        ] {
            let error = inputs(content_type, body.as_bytes()).await.unwrap_err();
            assert!(matches!(error, RuntimeError::BadInput(_)), "{error}");
        }
        let many = "a=1&".repeat(MAX_FIELDS + 1);
        assert!(inputs("application/x-www-form-urlencoded", many.as_bytes()).await.is_err());
    }

    proptest! {
        #[test]
        fn no_form_is_too_odd(body: Vec<u8>, cut in 0_usize..200) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let framed = [b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".as_slice(), &body,
                b"\r\n--x--\r\n"].concat();
            let cut = &framed[..framed.len().saturating_sub(cut)];
            for body in [&*body, cut] {
                let _ = runtime.block_on(inputs("multipart/form-data; boundary=x", body));
            }
            let _ = runtime.block_on(inputs("application/x-www-form-urlencoded", &body));
        }
    }
}
