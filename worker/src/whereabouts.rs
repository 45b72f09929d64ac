//! Finds out under which name and address a worker is known that is bound to every interface.
//!
//! In a container nobody can say beforehand: its name and address are given when it starts, and all
//! containers of a scaled service start alike.

use crate::config::{Config, MembershipConfig};
use actix_web::http::Uri;
use shared::own_address;
use std::net::SocketAddr;

/// Adds the name and address that the flags leave open. What cannot be found out stays open: the
/// check of the flags then says what is missing.
pub fn fill_in(mut config: Config) -> Config {
    let address = config.address();
    let membership = &mut config.membership;
    let peers = peers(membership);
    if !address.ip().is_unspecified() || peers.is_empty() {
        return config;
    }
    if membership.instance_id.is_none() {
        membership.instance_id = own_address::host_name().ok().and_then(|it| it.parse().ok());
    }
    if membership.advertise.is_none() {
        let peers = peers.iter().map(|(host, port)| (&**host, *port));
        let found = own_address::reached_by(peers, address.ip()).ok();
        membership.advertise = found.map(|ip| SocketAddr::new(ip, address.port()));
    }
    config
}

/// The routers, or where they are looked for.
fn peers(membership: &MembershipConfig) -> Vec<(String, u16)> {
    let MembershipConfig { routers, router_dns, cluster, .. } = membership;
    let etcd = cluster.cluster.iter().flat_map(|it| &it.hosts);
    let names = router_dns.iter().chain(etcd).filter_map(|it| {
        let (host, port) = it.rsplit_once(':')?;
        Some((bare(host), port.parse().ok()?))
    });
    routers.iter().filter_map(|url| authority(url)).chain(names).collect()
}

/// The host and port of a URL.
fn authority(url: &str) -> Option<(String, u16)> {
    let url: Uri = url.parse().ok()?;
    Some((bare(url.host()?), url.port_u16().unwrap_or(80)))
}

/// A host as it is resolved: IPv6 addresses stand in brackets where a port follows.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use std::net::{Ipv6Addr, UdpSocket};

    fn filled(flags: &[&str]) -> Config {
        let flags = ["manifold-worker"].iter().chain(flags);
        fill_in(Config::try_parse_from(flags).unwrap())
    }

    #[test]
    fn a_worker_on_every_interface_is_known_by_what_its_routers_see() {
        for peer in [
            ["--router", "http://127.0.0.1:8080"],
            ["--router-dns", "127.0.0.1:8080"],
            ["--cluster", "etcd://127.0.0.1"],
        ] {
            let found = filled(&[&["--bind", "0.0.0.0:7"], &peer[..]].concat());
            assert_eq!(
                found.membership.advertise,
                Some("127.0.0.1:7".parse().unwrap()),
                "{peer:?}"
            );
        }
        let found = filled(&["--bind", "0.0.0.0:7", "--router", "http://127.0.0.1:8080"]);
        let name = found.membership.instance_id.unwrap();
        assert_eq!(name.as_str(), own_address::host_name().unwrap());
    }

    #[test]
    fn a_worker_with_ipv6_alone_is_known_by_its_ipv6_address() {
        // Nothing can be found where there is none.
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            return;
        }
        let peers = [["--router", "http://[::1]:8080"], ["--router-dns", "[::1]:8080"]];
        for peer in peers {
            let found = filled(&[&["--bind", "[::]:7"], &peer[..]].concat());
            assert_eq!(found.membership.advertise, Some("[::1]:7".parse().unwrap()), "{peer:?}");
            // Bound to IPv4 alone, it is not there.
            let found = filled(&[&["--bind", "0.0.0.0:7"], &peer[..]].concat());
            assert!(found.membership.advertise.is_none_or(|it| it.is_ipv4()), "{peer:?}");
        }
        let found = filled(&["--bind", "[::]:7", "--router", "http://127.0.0.1:8080"]);
        assert_eq!(found.membership.advertise, Some("127.0.0.1:7".parse().unwrap()));
    }

    #[test]
    fn what_is_said_stays() {
        let everywhere = ["--bind", "0.0.0.0:7", "--router", "http://127.0.0.1:8080"];
        let said = ["--advertise", "10.0.0.9:80", "--instance-id", "a"];
        let membership = filled(&[&everywhere[..], &said].concat()).membership;
        assert_eq!(membership.advertise, Some("10.0.0.9:80".parse().unwrap()));
        assert_eq!(membership.instance_id.unwrap().as_str(), "a");
    }

    #[test]
    fn who_has_an_address_or_no_router_is_left_alone() {
        for flags in [
            &["--bind", "127.0.0.1:7", "--router", "http://127.0.0.1:8080"][..],
            &["--bind", "0.0.0.0:7"],
            &["--sagemaker-bind-to-port", "7"],
        ] {
            let membership = filled(flags).membership;
            assert_eq!((membership.advertise, membership.instance_id), (None, None));
        }
    }
}
