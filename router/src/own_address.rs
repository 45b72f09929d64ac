//! Under which address this machine is reached, seen from somebody it can reach.

use std::{io, net::IpAddr};
use tokio::net::{UdpSocket, lookup_host};

/// Returns the address that packets to `host:port` leave from. Nothing is sent.
pub async fn towards(host: &str) -> io::Result<IpAddr> {
    let mut failed = io::Error::other("the name has no address");
    for address in lookup_host(host).await? {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket.local_addr()?.ip()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_on_this_machine_is_reached_from_this_machine() {
        assert!(towards("127.0.0.1:2379").await.unwrap().is_loopback());
        assert!(towards("no port").await.is_err());
    }
}
