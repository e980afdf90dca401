//! Where datagrams come from: one loopback address for each exporter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use anyhow::Context as _;

/// First address that `text` (host:port) names.
pub(crate) fn resolve(text: &str) -> anyhow::Result<SocketAddr> {
    text.to_socket_addrs()
        .with_context(|| format!("cannot resolve {text}: give host:port"))?
        .next()
        .with_context(|| format!("{text} has no address"))
}

/// The address to send to `to` from, as the kernel chooses it.
pub(crate) fn unspecified(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// 127.x.y.z with the low three octets of `ip`: different exporters stay different.
pub(crate) fn loopback(ip: IpAddr) -> Ipv4Addr {
    let [b, c, d] = match ip {
        IpAddr::V4(v4) => {
            let [_, b, c, d] = v4.octets();
            [b, c, d]
        }
        IpAddr::V6(v6) => {
            let hash = v6
                .octets()
                .iter()
                .fold(0x811c_9dc5_u32, |hash, &octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
            let [_, b, c, d] = hash.to_be_bytes();
            [b, c, d]
        }
    };
    avoid_ends(b, c, d)
}

/// 127.0.0.0, 127.0.0.1 and 127.255.255.255 are not for exporters.
fn avoid_ends(b: u8, c: u8, d: u8) -> Ipv4Addr {
    match (b, c, d) {
        (0, 0, 0 | 1) => Ipv4Addr::new(127, 0, 1, d + 1),
        (255, 255, 255) => Ipv4Addr::new(127, 255, 255, 254),
        _ => Ipv4Addr::new(127, b, c, d),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_stay_different_and_within_loopback() {
        let ips = ["192.0.2.1", "192.0.2.2", "10.1.2.1", "0.0.0.1", "2001:db8::1", "2001:db8::2", "9.255.255.255"];
        let mapped: Vec<Ipv4Addr> = ips.iter().map(|ip| loopback(ip.parse().unwrap())).collect();
        for (index, address) in mapped.iter().enumerate() {
            assert!(address.is_loopback());
            assert_eq!(mapped.iter().position(|other| other == address), Some(index));
        }
    }
}
