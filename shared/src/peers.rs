//! How many connections each peer has, so that no address takes all that there may be.
//!
//! What a peer does with its connections need not be judged then: requests that never end, or nothing
//! at all, take from others no more than the bound.

use parking_lot::Mutex;
use rustix::net::{Shutdown, shutdown};
use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    os::fd::AsFd,
    sync::Arc,
};
use tracing::{debug, warn};

/// An owner of IPv6 addresses has this many bits of them to choose from, or more.
const CHOSEN_BITS: u32 = 64;

/// The connections of every peer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_each: usize,
    /// Those that have any.
    open: Mutex<HashMap<IpAddr, Open>>,
}

#[derive(Debug, Default)]
struct Open {
    n_connections: usize,
    /// Whether it was refused one since it had none: that is logged once.
    is_refused: bool,
}

/// One connection of a peer, counted until it is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    /// Allows each peer half of what there may be: then another finds a place whatever it does. It is
    /// not less, because what comes through a balancer comes from one address.
    pub fn sharing(max_connections: usize) -> Self {
        let max_each = max_connections.div_ceil(2).max(1);
        Self(Arc::new(Inner { max_each, open: Mutex::default() }))
    }

    /// Counts a connection, for as long as its place is kept. Closes it if the peer has enough.
    pub fn admit(&self, socket: impl AsFd, address: IpAddr) -> Option<Place> {
        let place = self.place(peer_of(address));
        if place.is_none()
            && let Err(error) = shutdown(socket, Shutdown::Both)
        {
            // Then the peer has closed it already.
            debug!(%error, "a connection too many was not closed");
        }
        place
    }

    fn place(&self, peer: IpAddr) -> Option<Place> {
        let mut every = self.0.open.lock();
        let open = every.entry(peer).or_default();
        if open.n_connections < self.0.max_each {
            open.n_connections += 1;
            return Some(Place { peers: self.clone(), peer });
        }
        let is_first = !std::mem::replace(&mut open.is_refused, true);
        drop(every);
        if is_first {
            warn!(%peer, max_each = self.0.max_each, "a peer has all the connections that one may");
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut every = self.peers.0.open.lock();
        if let Entry::Occupied(mut open) = every.entry(self.peer) {
            open.get_mut().n_connections -= 1;
            if open.get().n_connections == 0 {
                open.remove();
            }
        }
    }
}

/// Whom an address counts for: itself, or the network that its owner chose it from.
fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> CHOSEN_BITS << CHOSEN_BITS;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> IpAddr {
        peer_of(address.parse().unwrap())
    }

    #[test]
    fn a_peer_gets_half_and_leaves_half() {
        let peers = Peers::sharing(5);
        let (one, two) = (peer("10.0.0.1"), peer("10.0.0.2"));
        let mut places: Vec<_> = (0..3).map(|_| peers.place(one).unwrap()).collect();
        assert!(peers.place(one).is_none());
        assert!(peers.place(two).is_some());
        places.pop();
        assert!(peers.place(one).is_some());
    }

    #[test]
    fn peers_that_left_are_forgotten() {
        let peers = Peers::sharing(2);
        let place = peers.place(peer("::1")).unwrap();
        assert!(peers.place(peer("::1")).is_none());
        drop(place);
        assert!(peers.0.open.lock().is_empty());
    }

    #[test]
    fn one_connection_is_allowed_where_there_are_hardly_any() {
        assert!(Peers::sharing(0).place(peer("::1")).is_some());
    }

    #[test]
    fn the_addresses_of_one_owner_count_as_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
    }
}
