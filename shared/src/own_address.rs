//! Under which address others reach this machine, where nobody has said it: a process that is bound to
//! every interface, in a container for example.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
};

/// Where Linux tells the host's name, that of the container in a container.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Returns the address that packets to the first peer carry to which there is a way, or else the one
/// that goes with this host's name. `bound` says which interfaces are listened on. Nothing is sent, but
/// names are looked up: it blocks.
pub fn reached_by<P: ToSocketAddrs>(
    peers: impl IntoIterator<Item = P>,
    bound: IpAddr,
) -> io::Result<IpAddr> {
    let mut failed = io::Error::other("there is nobody whom it could be found out by");
    for peer in peers {
        match towards(&peer, bound) {
            Ok(own) => return Ok(own),
            Err(error) => failed = error,
        }
    }
    // A peer that is down may have no name now, but this host has its own.
    host_name().and_then(|name| of_name(&name, bound)).map_err(|_| failed)
}

pub fn host_name() -> io::Result<String> {
    Ok(fs::read_to_string(HOST_NAME)?.trim().to_owned())
}

fn towards(peer: &impl ToSocketAddrs, bound: IpAddr) -> io::Result<IpAddr> {
    let mut failed = io::Error::other("the name has no address");
    for address in peer.to_socket_addrs()? {
        match source(address) {
            Ok(own) if is_served(own, bound) => return Ok(own),
            Ok(_) => {}
            // The host may have no IPv6, and the name both.
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Connecting a datagram socket sends nothing.
fn source(address: SocketAddr) -> io::Result<IpAddr> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether who is bound to every interface, as `bound` says, listens there: `[::]` takes both kinds,
/// `0.0.0.0` one.
fn is_served(own: IpAddr, bound: IpAddr) -> bool {
    own.is_ipv4() || bound.is_ipv6()
}

/// The address that goes with a host's name. Many hosts give theirs one of loopback, where nobody else
/// reaches them; one that holds on a single link needs more than an address to be reached.
fn of_name(host_name: &str, bound: IpAddr) -> io::Result<IpAddr> {
    let mut found = (host_name, 0).to_socket_addrs()?.map(|it| it.ip());
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let found = found.find(|ip| is_served(*ip, bound) && !ip.is_loopback() && !is_link_local(ip));
    found.ok_or_else(|| io::Error::other("this host's name has no address that others reach"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    #[test]
    fn who_is_on_this_machine_is_reached_from_this_machine() {
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(reached_by(["127.0.0.1:2379"], IPV4).unwrap(), own);
        assert_eq!(reached_by([("127.0.0.1", 2379)], IPV6).unwrap(), own);
    }

    #[test]
    fn a_peer_that_has_no_name_now_does_not_hide_the_next() {
        let peers = ["no port", "nobody.invalid:2379", "127.0.0.1:2379"];
        assert!(reached_by(peers, IPV4).unwrap().is_loopback());
    }

    #[test]
    fn where_no_peer_has_a_name_this_host_s_own_is_asked_and_never_loopback() {
        // What it has depends on the machine; a container has one.
        if let Ok(own) = reached_by(["nobody.invalid:2379"], IPV4) {
            assert!(!own.is_loopback() && !own.is_unspecified(), "{own}");
        }
        assert!(of_name("localhost", IPV6).is_err());
    }
}
