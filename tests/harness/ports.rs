//! Ports for programs that cannot choose their own.

use std::net::TcpListener;

/// Ports that nobody listened on a moment ago. They are none that the system gives to connections,
/// because one of those would take the port while its program is away.
pub(crate) fn free<const N: usize>() -> [u16; N] {
    let mut listeners = std::iter::repeat_with(|| rand::random_range(20_000..32_000))
        .filter_map(|port: u16| TcpListener::bind(("127.0.0.1", port)).ok());
    let listeners: [_; N] =
        std::array::from_fn(|_| listeners.next().expect("there are free ports"));
    listeners.map(|it| it.local_addr().expect("a listener has an address").port())
}
