//! Listening TCP sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// A peer that is gone without a word is noticed after two minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
const PROBE: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
const BACKLOG: i32 = 128;

/// A non-blocking listener whose connections are probed while they are idle. With `dual_stack` one on `[::]`
/// takes IPv4 too.
pub fn listen_tcp(address: SocketAddr, dual_stack: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // Connections of an earlier process that have not timed out do not hold the port.
    socket.set_reuse_address(true)?;
    // Inherited by what is accepted.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(PROBE).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn both_families_connect_where_that_is_wanted() {
        let both = listen_tcp("[::]:0".parse().unwrap(), true).unwrap();
        let port = both.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        TcpStream::connect(("::1", port)).unwrap();
        assert!(listen_tcp(SocketAddr::from(([0, 0, 0, 0], port)), false).is_err(), "the port is taken");
        let one = listen_tcp("[::]:0".parse().unwrap(), false).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", one.local_addr().unwrap().port())).is_err());
    }
}
