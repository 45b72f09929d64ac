//! STS: who the caller is. Everyone is the same role, assumed: SDKs make an execution role of it.

use super::query::Answer;

pub(super) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The role that callers have assumed, by name.
const ROLE: &str = "manifold";

/// `GetCallerIdentity`
pub(super) fn caller_identity(account_id: &str) -> Answer {
    let result = format!(
        "<Arn>arn:aws:sts::{account_id}:assumed-role/{ROLE}/session</Arn>\
         <UserId>AROAMANIFOLDLOCALROLE:session</UserId><Account>{account_id}</Account>"
    );
    Answer { namespace: NAMESPACE, action: "GetCallerIdentity", result }
}
