//! STS: who the caller is. Without credentials everyone is the same role, assumed: SDKs make an
//! execution role of it.

use super::query::{Answer, escaped};

pub(super) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The role that callers have assumed whom nobody knows.
const ROLE: &str = "manifold";

/// Ids of the form that AWS gives: of roles, and of users.
const ROLE_ID: &str = "AROAMANIFOLDLOCALROLE";
const USER_ID: &str = "AIDAMANIFOLDLOCALUSER";

/// `GetCallerIdentity`, for a caller with this ARN.
pub(super) fn caller_identity(account_id: &str, caller: Option<&str>) -> Answer {
    let anybody = format!("arn:aws:sts::{account_id}:assumed-role/{ROLE}/session");
    let arn = caller.unwrap_or(&anybody);
    // Users have an id alone; whoever has assumed a role has its id and the name of a session.
    let user_id = match arn.rsplit_once('/') {
        Some((rest, session)) if rest.contains(":assumed-role/") => format!("{ROLE_ID}:{session}"),
        _ => USER_ID.to_owned(),
    };
    let (arn, user_id) = (escaped(arn), escaped(&user_id));
    let result =
        format!("<Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>{account_id}</Account>");
    Answer { namespace: NAMESPACE, action: "GetCallerIdentity", result }
}
