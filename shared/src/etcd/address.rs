//! `etcd://host:port,host:port/prefix`: where the cluster's etcd is, parsed once at the edge.

use std::{fmt, str::FromStr};

/// Below which keys lie if the address does not say.
const PREFIX: &str = "manifold";

/// etcd's own client port.
const PORT: u16 = 2379;

/// More hosts than any etcd cluster has members.
const MAX_HOSTS: usize = 16;

/// Where etcd is. `etcds://` is over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterAddress {
    pub is_tls: bool,
    /// `host:port` each; never empty.
    pub hosts: Vec<String>,
    /// Between slashes: `/manifold/`.
    pub prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClusterAddress {
    #[error("`{0}` does not begin with etcd:// or etcds://")]
    Scheme(String),
    #[error("`{0}` is not host:port")]
    Host(String),
    #[error("it names {0} hosts; there may be 1 to {MAX_HOSTS}")]
    Count(usize),
    #[error("the key prefix `{0}` may have letters, digits, `-`, `_`, `.` and `/`")]
    Prefix(String),
}

impl FromStr for ClusterAddress {
    type Err = InvalidClusterAddress;

    fn from_str(text: &str) -> Result<Self, InvalidClusterAddress> {
        let plain = text.strip_prefix("etcd://").map(|rest| (false, rest));
        let (is_tls, rest) = plain
            .or_else(|| text.strip_prefix("etcds://").map(|rest| (true, rest)))
            .ok_or_else(|| InvalidClusterAddress::Scheme(text.to_owned()))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > MAX_HOSTS {
            return Err(InvalidClusterAddress::Count(hosts.len()));
        }
        let prefix = match prefix.trim_matches('/') {
            "" => PREFIX,
            prefix => prefix,
        };
        let is_legal = |it: char| it.is_ascii_alphanumeric() || "-_./".contains(it);
        if !prefix.chars().all(is_legal) {
            return Err(InvalidClusterAddress::Prefix(prefix.to_owned()));
        }
        Ok(Self { is_tls, hosts, prefix: format!("/{prefix}/") })
    }
}

fn host(text: &str) -> Result<String, InvalidClusterAddress> {
    let invalid = || InvalidClusterAddress::Host(text.to_owned());
    // The colons of a bare IPv6 address are no port's.
    let has_port = match text.rfind(']') {
        Some(end) => text[end..].contains(':'),
        None => text.contains(':'),
    };
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if has_port => (name, port.parse::<u16>().map_err(|_| invalid())?),
        _ => (text, PORT),
    };
    let is_bracketed = name.starts_with('[') && name.ends_with(']');
    let is_legal = |it: char| {
        it.is_ascii_alphanumeric() || "-_.".contains(it) || (is_bracketed && "[]:".contains(it))
    };
    if name.is_empty() || port == 0 || !name.chars().all(is_legal) {
        return Err(invalid());
    }
    Ok(format!("{name}:{port}"))
}

impl ClusterAddress {
    pub(super) fn url(&self, host: &str) -> String {
        format!("{}://{host}", if self.is_tls { "https" } else { "http" })
    }
}

impl fmt::Display for ClusterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}{}", self.hosts.join(","), self.prefix.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, is_tls: bool, hosts: &[&str], prefix: &str) {
        let address: ClusterAddress = text.parse().unwrap();
        assert_eq!((address.is_tls, &*address.prefix), (is_tls, prefix), "{text}");
        assert_eq!(address.hosts, hosts, "{text}");
        assert_eq!(address.to_string().parse(), Ok(address), "{text}");
    }

    #[test]
    fn addresses_name_hosts_a_prefix_and_whether_there_is_tls() {
        check("etcd://127.0.0.1:2379", false, &["127.0.0.1:2379"], "/manifold/");
        check("etcd://etcd", false, &["etcd:2379"], "/manifold/");
        check("etcds://a:1,b.c:2/here", true, &["a:1", "b.c:2"], "/here/");
        check("etcd://[::1]:2379/a/b/", false, &["[::1]:2379"], "/a/b/");
        check("etcd://[::1]", false, &["[::1]:2379"], "/manifold/");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for text in ["127.0.0.1:2379", "http://a:1", "etcd://", "etcd://a:1,,b:1", "etcd://a:0"] {
            assert!(text.parse::<ClusterAddress>().is_err(), "{text}");
        }
        for text in ["etcd://a:70000", "etcd://a b:1", "etcd://u:p@a:1", "etcd://::1", "etcd://a/ü"]
        {
            assert!(text.parse::<ClusterAddress>().is_err(), "{text}");
        }
        let many = format!("etcd://{}", vec!["a:1"; 17].join(","));
        assert_eq!(many.parse::<ClusterAddress>(), Err(InvalidClusterAddress::Count(17)));
    }
}
