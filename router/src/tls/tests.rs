use super::*;
use std::fs;

const FIRST: [&str; 2] = [
    include_str!("../../tests/face/certificates/first.pem"),
    include_str!("../../tests/face/certificates/first.key.pem"),
];
const SECOND: &str = include_str!("../../tests/face/certificates/second.pem");

fn read(chain_text: &str, key_text: &str) -> Result<CertifiedKey, TlsError> {
    let folder = tempfile::tempdir().unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|it| folder.path().join(it));
    fs::write(&chain, chain_text).unwrap();
    fs::write(&key, key_text).unwrap();
    CertificateFiles { chain, key }.read()
}

#[test]
fn a_chain_and_its_key_are_read() {
    let [chain, key] = FIRST;
    assert_eq!(read(chain, key).unwrap().cert.len(), 1);
    assert_eq!(read(&format!("{chain}{SECOND}"), key).unwrap().cert.len(), 2);
}

#[test]
fn what_does_not_fit_or_is_missing_is_refused() {
    let [chain, key] = FIRST;
    assert!(matches!(read(SECOND, key), Err(TlsError::Pair(_))));
    assert!(matches!(read("", key), Err(TlsError::Length(_))));
    assert!(matches!(read(&chain.repeat(MAX_CHAIN + 1), key), Err(TlsError::Length(_))));
    assert!(matches!(read(chain, "no key"), Err(TlsError::Key(..))));
    assert!(matches!(read(chain, &key[..80]), Err(TlsError::Key(..))));
    let cut = read(&chain[..200], key);
    assert!(matches!(cut, Err(TlsError::Chain(..) | TlsError::Length(_))), "{cut:?}");
}

#[test]
fn a_secret_key_is_not_in_a_debug_text() {
    let [chain, key] = FIRST;
    let text = format!("{:?}", Certificate::new(read(chain, key).unwrap()));
    let secret = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    assert!(!text.contains(&format!("{:?}", secret.secret_der())), "{text}");
}
