//! What a host says of itself: its name, size, system, and where others reach it.

use std::net::{IpAddr, SocketAddr};
use straas_schemas::pool::HostFacts;
use sysinfo::System;
use tokio::net::{UdpSocket, lookup_host};

/// The host's name.
pub fn hostname() -> String {
    System::host_name().unwrap_or_default()
}

/// Everything but its name; `address` if it was configured, `controller` else to find out.
pub async fn facts(address: Option<IpAddr>, controller: &str) -> HostFacts {
    let address = match address {
        Some(address) => Some(address),
        None => towards(controller).await,
    };
    let mut system = System::new().ok();
    if let Some(system) = &mut system {
        system.refresh_memory();
    }
    let bytes = system.map_or(0, |system| system.total_memory());
    let vcpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    HostFacts {
        address: address.map(|address| address.to_string()).unwrap_or_default(),
        memory_mib: u32::try_from(bytes >> 20).unwrap_or(u32::MAX),
        vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX),
        os: System::long_os_version().unwrap_or_default(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The address that this host talks to a controller from: the way is looked up, nothing is sent.
async fn towards(controller: &str) -> Option<IpAddr> {
    let uri: http::Uri = controller.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let to: SocketAddr = lookup_host((host, uri.port_u16().unwrap_or(443))).await.ok()?.next()?;
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(to).await.ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_address_is_the_one_towards_the_controller() {
        let facts = facts(None, "https://127.0.0.1:7443").await;
        assert_eq!(facts.address, "127.0.0.1");
        assert!(facts.memory_mib > 0 && facts.vcpus > 0, "{facts:?}");
        let configured = super::facts("10.0.0.9".parse().ok(), "https://127.0.0.1:7443").await;
        assert_eq!(configured.address, "10.0.0.9");
    }
}
