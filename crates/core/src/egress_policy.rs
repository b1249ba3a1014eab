//! Which addresses messages may be sent to. Pure: names are resolved elsewhere.
//!
//! vetwatch runs inside a protected network, and a URL makes it connect on behalf of the author of the URL or the owner
//! of its name. So public addresses are permitted, addresses of this machine or network only if the configuration names
//! them, and some never: a program that can reach a cloud's metadata service can act as that machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The class of an address; the text describes it for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    Public,
    /// On this machine or network, or of unknown owner: only if the configuration names it.
    Inner(&'static str),
    /// Never, whatever the configuration says.
    Never(&'static str),
}

use AddressClass::{Inner, Never, Public};

const LINK_LOCAL: AddressClass = Never("a link-local address, where clouds keep their metadata");
const METADATA: AddressClass = Never("the address of a cloud's metadata");
const MULTICAST: AddressClass = Never("a multicast address");
const UNSPECIFIED: AddressClass = Never("an unspecified address");
const LOOPBACK: AddressClass = Inner("a loopback address");
const PRIVATE: AddressClass = Inner("a private address");
const DOCUMENTATION: AddressClass = Inner("an address for documentation");
const RESERVED: AddressClass = Inner("a reserved address");

/// The first match counts; without one the address is public. Two clouds' metadata addresses look public.
const V4: [(Ipv4Net, AddressClass); 20] = [
    (v4([0, 0, 0, 0], 8), UNSPECIFIED),
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (v4([100, 100, 100, 200], 32), METADATA), // Alibaba
    (v4([168, 63, 129, 16], 32), METADATA),   // Azure
    (v4([192, 0, 0, 192], 32), METADATA),     // Oracle
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v4([255, 255, 255, 255], 32), Never("the broadcast address")),
    (v4([127, 0, 0, 0], 8), LOOPBACK),
    (v4([10, 0, 0, 0], 8), PRIVATE),
    (v4([172, 16, 0, 0], 12), PRIVATE),
    (v4([192, 168, 0, 0], 16), PRIVATE),
    (v4([100, 64, 0, 0], 10), Inner("an address of a carrier's own network")),
    (v4([192, 0, 0, 0], 24), RESERVED),
    (v4([192, 0, 2, 0], 24), DOCUMENTATION),
    (v4([198, 51, 100, 0], 24), DOCUMENTATION),
    (v4([203, 0, 113, 0], 24), DOCUMENTATION),
    (v4([198, 18, 0, 0], 15), Inner("an address for measurements")),
    (v4([192, 88, 99, 0], 24), RESERVED),
    (v4([192, 52, 193, 0], 24), RESERVED),
    (v4([240, 0, 0, 0], 4), RESERVED),
];

/// The first match counts; without one the address is reserved, since only `2000::/3` has been assigned.
const V6: [(Ipv6Net, AddressClass); 15] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), UNSPECIFIED),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), LOOPBACK),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), LINK_LOCAL),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), MULTICAST),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), METADATA), // Amazon
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), METADATA), // Google
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), METADATA), // Oracle
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), METADATA), // Scaleway
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), PRIVATE),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), PRIVATE), // "site-local", which private addresses were called once
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), RESERVED), // Teredo (2001::/32) and measurements (2001:2::/48) among it
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), DOCUMENTATION),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), DOCUMENTATION),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), RESERVED), // 6to4
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Public),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(at: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7]), length)
}

/// Classifies an address. An IPv6 address that carries an IPv4 address is at least as restricted as that one.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match effective(address) {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => {
            let own = V6.iter().find(|(net, _)| net.contains(&v6)).map_or(RESERVED, |(_, class)| *class);
            // Of two classes the stricter counts.
            embedded_ipv4(v6).into_iter().map(of_v4).fold(own, Ord::max)
        }
    }
}

fn of_v4(address: Ipv4Addr) -> AddressClass {
    V4.iter().find(|(net, _)| net.contains(&address)).map_or(Public, |(_, class)| *class)
}

/// The address that is reached: an IPv4 one behind `::ffff:0:0/96` (the same socket) and `64:ff9b::/96` (NAT64, the
/// only way to IPv4 in some networks).
fn effective(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => IpAddr::V4(last(v6)),
        other => other,
    }
}

/// The IPv4 addresses that an IPv6 address may carry, by any mapping that was ever specified. None of these needs to be
/// reached from here, so a wrong guess costs nothing.
fn embedded_ipv4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |[a, b, c, d]: [usize; 4]| Ipv4Addr::new(octets[a], octets[b], octets[c], octets[d]);
    match address.segments() {
        // Local NAT64, with a prefix of any length (RFC 6052 skips octet 8). The shorter ones leave zeros.
        [0x64, 0xff9b, 1, ..] => {
            let ways = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
            ways.map(at).into_iter().filter(|v4| v4.octets()[0] != 0).collect()
        }
        [0x2002, ..] => vec![at([2, 3, 4, 5])], // 6to4
        // Teredo: the server, and the obfuscated client.
        [0x2001, 0, ..] => vec![at([4, 5, 6, 7]), Ipv4Addr::from_bits(!last(address).to_bits())],
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        // "IPv4-compatible"; "translated"; ISATAP within any network.
        [0, 0, 0, 0, 0 | 0xffff, 0, ..] | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => {
            vec![last(address)]
        }
        _ => Vec::new(),
    }
}

fn last(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// Why no address in this network is ever permitted; `None` if some are. Allowing such a network would be a mistake.
#[must_use]
pub fn forbidden_reason(net: IpNet) -> Option<&'static str> {
    let of = |within: bool, class: AddressClass| match class {
        Never(why) if within => Some(why),
        _ => None,
    };
    match net {
        IpNet::V4(net) => V4.iter().find_map(|(known, class)| of(known.contains(&net), *class)),
        IpNet::V6(net) => V6.iter().find_map(|(known, class)| of(known.contains(&net), *class)),
    }
}

/// Checks a URL: https, or plain http to this machine, and no forbidden address. It may be a private address.
///
/// # Errors
/// What is wrong, worded to follow the URL in a sentence.
pub fn check_url(url: &Url) -> Result<(), &'static str> {
    match (url.scheme(), is_loopback(url)) {
        ("https", _) | ("http", true) => {}
        _ => return Err("is not https"),
    }
    check_host(url)
}

/// Checks that the host, if it is an address, is not one that is never permitted.
///
/// # Errors
/// As [`check_url`].
pub fn check_host(url: &Url) -> Result<(), &'static str> {
    let address = match url.host() {
        Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
        Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
        Some(Host::Domain(_)) => return Ok(()),
        None => return Err("names no host"),
    };
    if let Never(_) = classify(address) { Err("names an address that vetwatch never talks to") } else { Ok(()) }
}

/// True for `localhost`, 127.0.0.0/8 and `::1`, which do not leave this machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(v4)) => v4.is_loopback(),
        Some(Host::Ipv6(v6)) => v6.to_canonical().is_loopback(),
        None => false,
    }
}

/// True for `localhost` and the names below it (RFC 6761): this machine, whatever DNS says.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = name.len().checked_sub("localhost".len()).and_then(|at| name.split_at_checked(at));
    below.is_some_and(|(below, last)| {
        last.eq_ignore_ascii_case("localhost") && (below.is_empty() || below.ends_with('.'))
    })
}

/// The addresses that an endpoint's names may resolve to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressPolicy {
    /// Public addresses, and these networks.
    Public { and: Vec<IpNet> },
    /// All but those that are never permitted: for a URL that only an administrator can set.
    Chosen,
    /// The same for this name, which is a proxy's; any other name is resolved by the proxy.
    Proxy(String),
}

impl EgressPolicy {
    /// The addresses of a name that may be connected to; at least one.
    ///
    /// # Errors
    /// Why there is none, with the first one that was rejected.
    pub fn permitted(&self, name: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, String> {
        if let Self::Proxy(proxy) = self
            && proxy != name
        {
            return Err(format!("{name} is looked up by the proxy only"));
        }
        let mut why = None;
        let mut permitted = found;
        permitted.retain(|address| match self.refusal(name, *address) {
            None => true,
            Some(reason) => {
                why.get_or_insert_with(|| format!("{name} is {address}, {reason}"));
                false
            }
        });
        if permitted.is_empty() { Err(why.unwrap_or_else(|| format!("{name} has no address"))) } else { Ok(permitted) }
    }

    fn refusal(&self, name: &str, address: IpAddr) -> Option<String> {
        if is_localhost(name) {
            let here = address.to_canonical().is_loopback();
            return (!here).then(|| "which is not this machine".into());
        }
        match (classify(address), self) {
            (Never(kind), _) => Some(format!("{kind}: vetwatch never talks to it")),
            (Inner(kind), Self::Public { and }) => {
                let allowed = and.iter().any(|net| net.contains(&address) || net.contains(&effective(address)));
                (!allowed).then(|| format!("{kind}: it is reached only if allow_networks or the URL itself names it"))
            }
            (Inner(_) | Public, _) => None,
        }
    }
}

#[cfg(test)]
mod tests;
