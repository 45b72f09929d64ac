//! The forms of a `ModelDataUrl` that SageMaker's clients write, all meaning one bucket and key.

use super::{InvalidAddress, ModelDataUrl};
use percent_encoding::percent_decode_str;

impl ModelDataUrl {
    /// Parses `s3://BUCKET/PREFIX`, and https in path style (`s3-REGION.amazonaws.com/BUCKET/PREFIX`)
    /// or virtual-hosted style (`BUCKET.s3.REGION.amazonaws.com/PREFIX`), with or without a region.
    ///
    /// `own_hosts` are our own store's, `host` or `host:port`, in path style. Any other host is
    /// refused: what is fetched is asked of one store, whose buckets are not those of that host.
    pub fn parse_sagemaker(url: &str, own_hosts: &[String]) -> Result<Self, InvalidAddress> {
        if url.chars().any(char::is_control) {
            return Err(InvalidAddress::Encoding(url.to_owned()));
        }
        if url.starts_with("s3://") {
            return Self::try_from(url.to_owned());
        }
        let unknown_scheme = || InvalidAddress::UnknownScheme(url.to_owned());
        let rest = url.strip_prefix("https://").ok_or_else(unknown_scheme)?;
        let (host, path) =
            rest.split_once('/').ok_or_else(|| InvalidAddress::NoKey(url.to_owned()))?;
        let path = decode(path).ok_or_else(|| InvalidAddress::Encoding(url.to_owned()))?;
        let is_own = own_hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        let bucket = if is_own { Some(String::new()) } else { bucket_of_host(host) };
        match bucket.as_deref() {
            None => Err(InvalidAddress::Host(url.to_owned())),
            // The path begins with the bucket.
            Some("") => Self::try_from(format!("s3://{path}")),
            Some(bucket) => Self::try_from(format!("s3://{bucket}/{path}")),
        }
    }
}

/// Returns the bucket that a host of S3 names; an empty one if the path does.
fn bucket_of_host(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let domain = |suffix| host.strip_suffix(suffix);
    let head = domain(".amazonaws.com").or_else(|| domain(".amazonaws.com.cn"))?;
    let labels: Vec<&str> = head.split('.').collect();
    // The longest name of the service first: a bucket may hold dots.
    let n_service = match *labels.as_slice() {
        [.., "s3", "dualstack", region] if is_region(region) => 3,
        [.., "s3", region] if is_region(region) => 2,
        [.., "s3"] => 1,
        [.., service] if service.strip_prefix("s3-").is_some_and(is_region) => 1,
        _ => return None,
    };
    Some(labels[..labels.len() - n_service].join("."))
}

/// `us-east-1`, `ap-southeast-2`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [country, between @ .., number] = parts.as_slice() else {
        return false;
    };
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase());
    let is_number = number.len() == 1 && number.bytes().all(|it| it.is_ascii_digit());
    country.len() == 2
        && is_word(country)
        && !between.is_empty()
        && between.iter().all(is_word)
        && is_number
}

/// Decodes a path once. What is left must be a key that can be written down again.
fn decode(path: &str) -> Option<String> {
    if path.contains(['?', '#']) || has_broken_escape(path) {
        return None;
    }
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    (!decoded.chars().any(char::is_control)).then(|| decoded.into_owned())
}

fn has_broken_escape(path: &str) -> bool {
    path.split('%').skip(1).any(|rest| {
        let escape = rest.as_bytes().get(..2);
        !escape.is_some_and(|escape| escape.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(url: &str) -> Result<String, InvalidAddress> {
        let own_hosts = ["127.0.0.1:8443".to_owned(), "models.local".to_owned()];
        ModelDataUrl::parse_sagemaker(url, &own_hosts).map(String::from)
    }

    #[test]
    fn every_form_means_the_same_bucket_and_key() {
        for url in [
            "s3://my-bucket/a/b/",
            "https://s3.amazonaws.com/my-bucket/a/b/",
            "https://s3-us-west-2.amazonaws.com/my-bucket/a/b/",
            "https://s3.us-west-2.amazonaws.com/my-bucket/a/b/",
            "https://s3.us-gov-west-1.amazonaws.com/my-bucket/a/b/",
            "https://s3.dualstack.eu-west-1.amazonaws.com/my-bucket/a/b/",
            "https://s3.cn-north-1.amazonaws.com.cn/my-bucket/a/b/",
            "https://my-bucket.s3.amazonaws.com/a/b/",
            "https://my-bucket.s3.us-west-2.amazonaws.com/a/b/",
            "https://my-bucket.s3-us-west-2.amazonaws.com/a/b/",
            "https://my-bucket.s3.dualstack.us-west-2.amazonaws.com/a/b/",
            "https://my-bucket.s3.cn-north-1.amazonaws.com.cn/a/b/",
            "https://MY-BUCKET.S3.amazonaws.com:443/a/b/",
            "https://127.0.0.1:8443/my-bucket/a/b/",
            "https://Models.Local/my-bucket/a/b/",
            "https://models.local/my%2Dbucket/a%2Fb/",
        ] {
            assert_eq!(parse(url).as_deref(), Ok("s3://my-bucket/a/b/"), "{url}");
        }
    }

    #[test]
    fn buckets_may_hold_dots_and_keys_anything() {
        let dotted = parse("https://my.s3.bucket.s3.us-west-2.amazonaws.com/a");
        assert_eq!(dotted.unwrap(), "s3://my.s3.bucket/a");
        let key = parse("https://bkt.s3.amazonaws.com/%C3%BC%20%25/x").unwrap();
        assert_eq!(key, "s3://bkt/ü %/x");
        assert_eq!(parse("https://s3.amazonaws.com/bkt/").unwrap(), "s3://bkt/");
        assert_eq!(parse("https://bkt.s3.amazonaws.com/").unwrap(), "s3://bkt/");
        // Plain concatenation: the missing slash stays missing. A key in s3:// form is not encoded.
        assert_eq!(parse("s3://bkt/a%20b").unwrap(), "s3://bkt/a%20b");
    }

    #[test]
    fn other_hosts_and_forms_are_refused() {
        for url in [
            "",
            "s3://",
            "s3://bkt",
            "s3://BUCKET/a",
            "file:///etc/",
            "http://s3.amazonaws.com/bkt/a",
            "https://example.com/bkt/a",
            "https://s3.amazonaws.com",
            "https://s3.amazonaws.com/bkt",
            "https://s3.amazonaws.com.evil.org/bkt/a",
            "https://evils3.amazonaws.com/bkt/a",
            "https://bkt.s3-accelerate.amazonaws.com/a",
            "https://s3.nowhere.amazonaws.com/bkt/a",
            "https://ec2.us-west-2.amazonaws.com/bkt/a",
            "https://user@s3.amazonaws.com/bkt/a",
            "https://s3.amazonaws.com:8443/bkt/a",
            "https://127.0.0.1/bkt/a",
            "https://s3.amazonaws.com/bkt/a?versionId=1",
            "https://s3.amazonaws.com/bkt/a#x",
            "https://s3.amazonaws.com/bkt/%zz",
            "https://s3.amazonaws.com/bkt/%ff",
            "https://s3.amazonaws.com/bkt/%0a",
            "s3://bkt/a\nb",
        ] {
            assert!(parse(url).is_err(), "{url}: {:?}", parse(url));
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_canonical(url in "(https|s3)://(s3|b-c|own|[a-z.%/]{0,9}|[.]amazonaws[.]com|us-east-1|/|\\PC{0,3}){0,6}") {
            if let Ok(canonical) = parse(&url) {
                prop_assert!(canonical.starts_with("s3://"));
                prop_assert_eq!(parse(&canonical), Ok(canonical.clone()));
            }
        }
    }
}
