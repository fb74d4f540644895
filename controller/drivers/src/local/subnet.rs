//! The addresses of one driver instance: which are ours, who gets which.
//!
//! Addresses are given out lowest first from [`FIRST_HOST`], which keeps them readable
//! (`10.77.0.11` is the first host) and interface names short. A freed address is free at once:
//! MAC addresses are made from IP addresses, so no neighbour holds a wrong one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::error::HostError;

/// The lowest host number given out; below it stand the gateway and what operators put beside it.
pub const FIRST_HOST: u32 = 11;
/// Smallest and largest subnets: room for a few hosts; host numbers that fit an interface name.
const PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 16..=27;

/// An IPv4 subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: u32,
    prefix_length: u8,
}

impl Subnet {
    /// `10.77.0.0/24`.
    pub const DEFAULT: Self = Self { network: 0x0a4d_0000, prefix_length: 24 };

    /// Number of leading bits.
    pub fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// The first address: the bridge itself.
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address with this host number.
    pub fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.network + number)
    }

    /// The host number of an address that a host may have.
    pub fn number(&self, address: Ipv4Addr) -> Option<u32> {
        let number = u32::from(address).checked_sub(self.network)?;
        (2..self.broadcast()).contains(&number).then_some(number)
    }

    /// Chooses the lowest free address.
    pub fn allocate(&self, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, HostError> {
        (FIRST_HOST..self.broadcast())
            .map(|number| self.address(number))
            .find(|address| !taken.contains(address))
            .ok_or_else(|| HostError::NoAddress(format!("all {} addresses of {self} are in use", taken.len())))
    }

    /// Checks an address that somebody asked for.
    pub fn claim(&self, wanted: Ipv4Addr, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, HostError> {
        if self.number(wanted).is_none() {
            return Err(HostError::NoAddress(format!("{wanted} is not a host address of {self}")));
        }
        if taken.contains(&wanted) {
            return Err(HostError::NoAddress(format!("{wanted} belongs to another host")));
        }
        Ok(wanted)
    }

    fn broadcast(&self) -> u32 {
        (1 << (32 - self.prefix_length)) - 1
    }
}

impl FromStr for Subnet {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let invalid = |reason: &str| HostError::Invalid { field: "subnet", reason: format!("{text:?} {reason}") };
        let (network, length) = text.split_once('/').ok_or_else(|| invalid("is not like 10.77.0.0/24"))?;
        let network: Ipv4Addr = network.parse().map_err(|_| invalid("does not start with an IPv4 address"))?;
        let prefix_length: u8 = length.parse().map_err(|_| invalid("does not end in a number of bits"))?;
        if !PREFIX_LENGTHS.contains(&prefix_length) {
            return Err(invalid("must have 16 to 27 bits"));
        }
        let subnet = Self { network: u32::from(network), prefix_length };
        if subnet.network & subnet.broadcast() != 0 {
            return Err(invalid("has bits set behind the prefix"));
        }
        Ok(subnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_address_is_given_out() {
        let net = subnet("10.77.0.0/24");
        let mut taken = BTreeSet::new();
        for last in [11, 12, 13] {
            let address = net.allocate(&taken).unwrap();
            assert_eq!(address, Ipv4Addr::new(10, 77, 0, last));
            taken.insert(address);
        }
        taken.remove(&Ipv4Addr::new(10, 77, 0, 12));
        assert_eq!(net.allocate(&taken).unwrap(), Ipv4Addr::new(10, 77, 0, 12));
    }

    #[test]
    fn a_full_subnet_says_so() {
        let net = subnet("10.0.0.0/27");
        let taken: BTreeSet<_> = (11..31).map(|n| net.address(n)).collect();
        assert!(matches!(net.allocate(&taken), Err(HostError::NoAddress(_))));
    }

    #[test]
    fn wanted_addresses_must_be_free_and_inside() {
        let net = subnet("10.77.0.0/24");
        let taken = BTreeSet::from([net.address(20)]);
        assert!(net.claim(net.address(21), &taken).is_ok());
        for bad in [net.address(20), net.gateway(), net.address(0), net.address(255), Ipv4Addr::new(10, 78, 0, 2)] {
            assert!(net.claim(bad, &taken).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_subnets_are_refused() {
        for bad in ["", "10.77.0.0", "10.77.0.0/8", "10.77.0.1/24", "10.77.0.0/x", "a/24", "10.0.0.0/28"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
