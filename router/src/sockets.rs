//! What the operating system is asked for: how soon a silent peer counts as gone.

use rustix::{io::Errno, net::sockopt};
use std::{io, os::fd::AsFd, time::Duration};

/// Silence after which an instance's machine is asked whether it is still there, and how often:
/// with a heartbeat, so that both find out together.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Questions that may go unanswered.
const KEEP_ALIVE_PROBES: u32 = 2;

/// How long what was sent to an instance may stay unacknowledged: the default lease. An instance
/// reads a body as it comes, so a window that stays closed for as long is a dead process.
pub const INSTANCE_PATIENCE: Duration = Duration::from_secs(3);

/// Makes a connection end when its peer's machine is gone without a word (one that lost power or its
/// network closes nothing), or takes nothing of what was sent for as long as `patience`.
pub fn notice_loss(socket: impl AsFd + Copy, patience: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES)?;
    limit_stall(socket, patience)
}

/// Makes a connection end when its peer takes nothing of what was sent for as long as `patience`.
pub fn limit_stall(socket: impl AsFd, patience: Duration) -> io::Result<()> {
    let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(socket, patience_ms)?)
}

/// Whether a connection failed for what this machine lacks: that says nothing about the peer.
pub fn is_own_lack(error: &io::Error) -> bool {
    let own = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    own.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_silent_instance_is_asked_and_given_up_within_the_lease() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        notice_loss(&socket, INSTANCE_PATIENCE).unwrap();
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let idle = sockopt::tcp_keepidle(&socket).unwrap();
        let asked = sockopt::tcp_keepintvl(&socket).unwrap();
        let n_asked = sockopt::tcp_keepcnt(&socket).unwrap();
        assert_eq!(idle + asked * n_asked, Duration::from_secs(3));
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 3000);
    }

    #[test]
    fn what_we_lack_is_told_from_what_the_peer_does() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL] {
            assert!(is_own_lack(&errno.into()), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            assert!(!is_own_lack(&errno.into()), "{errno}");
        }
        assert!(!is_own_lack(&io::Error::other("no errno")));
    }
}
