//! Finds out under which name and address a worker is known that is bound to every interface.
//!
//! In a container nobody can say beforehand: its name and address are given when it starts, and all
//! containers of a scaled service start alike.

use crate::config::{Config, MembershipConfig};
use actix_web::http::Uri;
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
};

/// Where Linux tells the host's name, that of the container in a container.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Adds the name and address that the flags leave open. What cannot be found out stays open: the
/// check of the flags then says what is missing.
pub fn fill_in(mut config: Config) -> Config {
    let address = config.address();
    let membership = &mut config.membership;
    let peers = peers(membership);
    if !address.ip().is_unspecified() || peers.is_empty() {
        return config;
    }
    let host_name = host_name().unwrap_or_default();
    if membership.instance_id.is_none() {
        membership.instance_id = host_name.parse().ok();
    }
    if membership.advertise.is_none() {
        // A peer that is down may have no name now, but this container has its own.
        let found = peers.iter().find_map(|peer| towards(peer, address.ip()).ok());
        let found = found.or_else(|| own(&host_name, address.ip()).ok().flatten());
        membership.advertise = found.map(|ip| SocketAddr::new(ip, address.port()));
    }
    config
}

fn host_name() -> io::Result<String> {
    Ok(fs::read_to_string(HOST_NAME)?.trim().to_owned())
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

/// The address that packets to a peer carry. Connecting a datagram socket sends none.
fn towards((host, port): &(String, u16), bound: IpAddr) -> io::Result<IpAddr> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for peer in (&**host, *port).to_socket_addrs()? {
        match source(peer) {
            Ok(own) if is_served(own, bound) => return Ok(own),
            Ok(_) => {}
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn source(peer: SocketAddr) -> io::Result<IpAddr> {
    let any = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether who is bound to every interface, as `bound` says, listens there: `[::]` takes both kinds,
/// `0.0.0.0` one.
fn is_served(own: IpAddr, bound: IpAddr) -> bool {
    own.is_ipv4() || bound.is_ipv6()
}

/// The address that goes with this host's name. Many hosts give it one of loopback, where nobody else
/// reaches them; one that holds on a single link needs more than an address to be reached.
fn own(host_name: &str, bound: IpAddr) -> io::Result<Option<IpAddr>> {
    let mut found = (host_name, 0).to_socket_addrs()?.map(|it| it.ip());
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    Ok(found.find(|ip| is_served(*ip, bound) && !ip.is_loopback() && !is_link_local(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

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
        assert_eq!(name.as_str(), host_name().unwrap());
    }

    #[test]
    fn a_worker_with_ipv6_alone_is_known_by_its_ipv6_address() {
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            eprintln!("SKIPPED: this machine has no IPv6");
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
