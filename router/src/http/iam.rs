//! IAM: a role of any valid name is there. No role means anything here, but SDKs look theirs up.

use super::query::{Answer, QueryError};

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// IAM's bound for the name of a role.
const MAX_NAME_CHARS: usize = 64;

/// Whom a role of `SageMaker` trusts, as IAM spells it: percent-encoded JSON.
const TRUST_POLICY: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect\
    %22%3A%22Allow%22%2C%22Principal%22%3A%7B%22Service%22%3A%22sagemaker.amazonaws.com%22%7D%2C%22\
    Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D";

/// `GetRole`
pub(super) fn role(name: &str, account_id: &str) -> Result<Answer, QueryError> {
    if name.len() > MAX_NAME_CHARS || !name.bytes().all(is_of_a_name) {
        return Err(QueryError::Invalid(
            "The specified value for roleName is invalid. It must contain only alphanumeric \
             characters and/or the following: +=,.@_-"
                .to_owned(),
        ));
    }
    let result = format!(
        "<Role><Path>/</Path><RoleName>{name}</RoleName><RoleId>AROAMANIFOLDLOCALROLE</RoleId>\
         <Arn>arn:aws:iam::{account_id}:role/{name}</Arn>\
         <CreateDate>2020-01-01T00:00:00Z</CreateDate>\
         <AssumeRolePolicyDocument>{TRUST_POLICY}</AssumeRolePolicyDocument>\
         <MaxSessionDuration>3600</MaxSessionDuration></Role>"
    );
    Ok(Answer { namespace: NAMESPACE, action: "GetRole", result })
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)
}
