//! STS: who the caller is. Without credentials everyone is the same role, assumed: SDKs make an
//! execution role of it.

use super::query::{Answer, escaped};

pub(super) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The role that callers have assumed whom nobody knows.
const ROLE: &str = "manifold";

/// `GetCallerIdentity`, for a caller with this ARN.
pub(super) fn caller_identity(account_id: &str, caller: Option<&str>) -> Answer {
    let anybody = format!("arn:aws:sts::{account_id}:assumed-role/{ROLE}/session");
    let arn = escaped(caller.unwrap_or(&anybody));
    let result = format!(
        "<Arn>{arn}</Arn><UserId>AROAMANIFOLDLOCALROLE:session</UserId><Account>{account_id}</Account>"
    );
    Answer { namespace: NAMESPACE, action: "GetCallerIdentity", result }
}
