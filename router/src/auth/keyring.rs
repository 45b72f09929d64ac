//! The keys that callers sign with, and what each may do.

use super::{pattern::Pattern, scope::CredentialScope, secret::Secret, signature::SigningKey};
use arc_swap::ArcSwap;
use std::{collections::HashMap, sync::Arc};
use time::OffsetDateTime;

/// Derived keys that are kept for each key: two days around midnight, for a few regions of the five
/// APIs. Who signs for more pays a microsecond.
const MAX_DERIVED: usize = 16;

/// An access key.
#[derive(Debug)]
pub struct Key {
    pub access_key_id: String,
    pub secret: Secret,
    /// `None`: it is not temporary, and no token may come with it.
    pub session_token: Option<Secret>,
    pub expires: Option<OffsetDateTime>,
    /// Who signs with it.
    pub arn: String,
    pub actions: Vec<Pattern>,
    /// Of invocations alone.
    pub target_models: Vec<Pattern>,
    derived: ArcSwap<Vec<Arc<Derived>>>,
}

/// A signing key, kept because deriving it costs more than using it.
#[derive(Debug)]
struct Derived {
    date: String,
    region: String,
    service: String,
    key: SigningKey,
}

impl Derived {
    fn is_for(&self, scope: &CredentialScope) -> bool {
        self.date == scope.date && self.region == scope.region && self.service == scope.service
    }
}

impl Key {
    /// A key that may do everything for ever.
    pub fn new(access_key_id: String, secret: Secret, arn: String) -> Self {
        Self {
            access_key_id,
            secret,
            session_token: None,
            expires: None,
            arn,
            actions: vec![Pattern::any()],
            target_models: vec![Pattern::any()],
            derived: ArcSwap::default(),
        }
    }

    /// Returns the signing key for a scope, and whether it was kept.
    pub fn signing_key(&self, scope: &CredentialScope) -> (SigningKey, bool) {
        match self.derived.load().iter().find(|it| it.is_for(scope)) {
            Some(derived) => (derived.key.clone(), true),
            None => (SigningKey::derive(self.secret.expose(), scope), false),
        }
    }

    /// Keeps a signing key. Only for one that proved a signature: strangers must not fill the room.
    pub fn keep(&self, scope: &CredentialScope, key: &SigningKey) {
        let CredentialScope { access_key_id: _, date, region, service } = scope;
        let (date, region, service) = (date.clone(), region.clone(), service.clone());
        let derived = Arc::new(Derived { date, region, service, key: key.clone() });
        // Two that do so at once may lose one of theirs: it is derived again.
        let kept = self.derived.load();
        let newest = kept.iter().filter(|it| !it.is_for(scope)).take(MAX_DERIVED - 1);
        let newest: Vec<_> = std::iter::once(derived).chain(newest.cloned()).collect();
        self.derived.store(Arc::new(newest));
    }

    /// Whether this key may do `action`. A `target_model` is what an invocation is for.
    pub fn may(&self, action: &str, target_model: Option<&str>) -> bool {
        let is_invocation = action.starts_with("sagemaker:InvokeEndpoint");
        let may_act = self.actions.iter().any(|pattern| pattern.matches_action(action));
        let may_have = |target_model: &str| {
            self.target_models.iter().any(|pattern| pattern.matches(target_model))
        };
        // Without a target model nothing restricts which one it is: an empty name tells whether
        // the key may have any.
        may_act && (!is_invocation || may_have(target_model.unwrap_or_default()))
    }
}

/// Every key that is in force.
#[derive(Debug, Default)]
pub struct Keyring(HashMap<String, Arc<Key>>);

/// Two keys have the same id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access key id {0} comes twice")]
pub struct Twice(String);

impl Keyring {
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, Twice> {
        let mut keyring = HashMap::new();
        for key in keys {
            let id = key.access_key_id.clone();
            if keyring.insert(id.clone(), Arc::new(key)).is_some() {
                return Err(Twice(id));
            }
        }
        Ok(Self(keyring))
    }

    pub fn get(&self, access_key_id: &str) -> Option<&Arc<Key>> {
        self.0.get(access_key_id)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new("AK".to_owned(), Secret::new("secret"), "arn".to_owned())
    }

    fn scope(date: &str) -> CredentialScope {
        CredentialScope::parse(&format!("AK/{date}/us-east-1/s3/aws4_request")).unwrap()
    }

    #[test]
    fn derived_keys_are_kept_within_bounds() {
        let key = key();
        for day in 10..60 {
            let scope = scope(&format!("202611{day}"));
            let (derived, was_kept) = key.signing_key(&scope);
            assert!(!was_kept);
            key.keep(&scope, &derived);
            assert!(key.signing_key(&scope).1);
            assert!(key.derived.load().len() <= MAX_DERIVED);
        }
        assert!(!key.signing_key(&scope("20261110")).1);
        assert!(key.signing_key(&scope("20261145")).1);
    }

    #[track_caller]
    fn check(key: &Key, action: &str, target_model: Option<&str>, expected: bool) {
        assert_eq!(key.may(action, target_model), expected, "{action} {target_model:?}");
    }

    #[test]
    fn actions_and_target_models_restrict_a_key() {
        let patterns = |texts: &[&str]| texts.iter().map(|it| Pattern::new(it)).collect();
        let all = key();
        check(&all, "sagemaker:CreateModel", None, true);
        check(&all, "sagemaker:InvokeEndpoint", None, true);
        let key = Key {
            actions: patterns(&["sagemaker:invoke*", "s3:*", "sagemaker:List*"]),
            target_models: patterns(&["team-a/*", "shared_?.tar.gz"]),
            ..key()
        };
        check(&key, "sagemaker:InvokeEndpoint", Some("team-a/x.tar.gz"), true);
        check(&key, "sagemaker:InvokeEndpoint", Some("shared_1.tar.gz"), true);
        check(&key, "sagemaker:InvokeEndpoint", Some("team-b/x.tar.gz"), false);
        check(&key, "sagemaker:InvokeEndpointAsync", Some("team-b/x"), false);
        // A condition on what is not there does not hold.
        check(&key, "sagemaker:InvokeEndpoint", None, false);
        check(&key, "sagemaker:ListModels", None, true);
        check(&key, "sagemaker:CreateModel", None, false);
        check(&key, "s3:GetObject", None, true);
        check(&Key { actions: Vec::new(), ..key }, "s3:GetObject", None, false);
    }

    #[test]
    fn no_two_keys_share_an_id() {
        assert_eq!(Keyring::new([key(), key()]).unwrap_err(), Twice("AK".to_owned()));
    }
}
