//! Finds the addresses of this machine in the kernel's own text, and the one a neighbour can use.
//!
//! Only text is judged here; whoever calls has read `/proc/net/fib_trie`, `/proc/net/route` and
//! `/proc/net/if_inet6`. Those files are the way around `getifaddrs`, which needs unsafe code. An
//! absent file is an empty text and costs the facts it would have held, nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::order::sorted;

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    pub addr: IpAddr,
    /// The interface that carries it, `None` when the routes do not tell or name two.
    pub interface: Option<String>,
}

/// Every address of this machine except loopback, at most 32.
///
/// IPv4 stands first: addresses outside container networks before those inside, private ranges
/// before public ones, the interface of the default route before others, then ascending. IPv6
/// follows with link-local addresses last. What does not fit is cut off at the end of that order.
///
/// `/proc/net/fib_trie` names no interfaces, so an IPv4 address gets the interface of the most
/// specific directly connected network in `/proc/net/route` that contains it.
pub fn local_addresses(fib_trie: &str, route: &str, if_inet6: &str) -> Vec<Local> {
    let mut found: Vec<Candidate<'_>> = Vec::new();
    for addr in LocalLeaves::new(fib_trie) {
        if found.len() == CANDIDATES {
            break;
        }
        if !addr.is_loopback() && !found.iter().any(|known| known.addr == addr) {
            found.push(Candidate { addr, prefix: 0, interface: None });
        }
    }
    let default = connect(&mut found, route);
    let rank = |candidate: &Candidate<'_>| {
        let on_default = default.is_some() && candidate.interface == default;
        (remoteness(candidate.addr, candidate.interface), !candidate.addr.is_private(), !on_default)
    };
    // Equals keep the ascending order of the trie.
    let mut all: Vec<Local> = sorted(found, |a, b| rank(a) < rank(b))
        .iter()
        .map(|candidate| Local {
            addr: IpAddr::V4(candidate.addr),
            interface: candidate.interface.map(str::to_owned),
        })
        .collect();
    all.extend(ipv6_addresses(if_inet6));
    all.truncate(ADDRESSES);
    all
}

/// The first IPv4 address that a neighbour on the LAN can reach.
///
/// Never loopback or link-local. Container networks (`br-*`, `cni*`, `docker*`, `flannel*`,
/// `veth*`) and 172.16.0.0/12 are taken only when there is nothing else, and of these 172.16.0.0/12
/// on an interface of its own before a container network.
pub fn lan_ipv4(locals: &[Local]) -> Option<Ipv4Addr> {
    let reachable = locals.iter().filter_map(|local| match local.addr {
        IpAddr::V4(addr)
            if !addr.is_loopback() && !addr.is_link_local() && !addr.is_unspecified() =>
        {
            Some((remoteness(addr, local.interface.as_deref()), addr))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    // `min_by_key` returns the first of equals.
    reachable.min_by_key(|(remoteness, _)| *remoteness).map(|(_, addr)| addr)
}

/// Under which address a caller is counted: IPv4 under its own, IPv6 under its network of 64 bits, because whoever
/// has one address of such a network can have them all. Link-local and unique local addresses are a neighbour's, whose
/// network others share: they are counted one by one.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) if address.is_unicast_link_local() || address.is_unique_local() => {
            address.into()
        }
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

const ADDRESSES: usize = 32;
/// Addresses looked at before the order decides which stay: a container host has its many bridges
/// below 192.168.0.0 in the trie.
const CANDIDATES: usize = 256;
/// `IFNAMSIZ` without the NUL.
const INTERFACE_BYTES: usize = 15;

// Flags of a route, `linux/route.h`.
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;
/// Duplicate address detection failed, `linux/if_addr.h`.
const DAD_FAILED: u32 = 0x08;

struct Candidate<'a> {
    addr: Ipv4Addr,
    /// Prefix length of the network that chose the interface; 0 when none did.
    prefix: u32,
    interface: Option<&'a str>,
}

/// 0 for an ordinary address, 1 for 172.16.0.0/12, 2 for a container network.
fn remoteness(addr: Ipv4Addr, interface: Option<&str>) -> u8 {
    const CONTAINERS: [&str; 5] = ["br-", "cni", "docker", "flannel", "veth"];
    let [first, second, ..] = addr.octets();
    // OpenWrt calls its LAN bridge so; Docker's bridges have hexadecimal names.
    let is_lan = interface == Some("br-lan");
    let is_container =
        interface.is_some_and(|name| CONTAINERS.iter().any(|start| name.starts_with(start)));
    if is_container && !is_lan { 2 } else { u8::from(first == 172 && second & 0xf0 == 16) }
}

/// Leaves of the trie that are addresses of this machine: `|-- ADDRESS`, then `/32 host LOCAL`
/// among the lines below it. The file prints tables twice, so do expect repetitions.
struct LocalLeaves<'a> {
    lines: std::str::Lines<'a>,
    leaf: Option<Ipv4Addr>,
}

impl<'a> LocalLeaves<'a> {
    fn new(fib_trie: &'a str) -> Self {
        Self { lines: fib_trie.lines(), leaf: None }
    }
}

impl Iterator for LocalLeaves<'_> {
    type Item = Ipv4Addr;

    fn next(&mut self) -> Option<Ipv4Addr> {
        for line in self.lines.by_ref() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("|--") => self.leaf = words.next().and_then(|addr| addr.parse().ok()),
                Some("/32") if words.next() == Some("host") && words.next() == Some("LOCAL") => {
                    if let Some(addr) = self.leaf.take() {
                        return Some(addr);
                    }
                }
                Some(word) if word.starts_with('/') => {}
                _ => self.leaf = None,
            }
        }
        None
    }
}

/// Gives every candidate its interface and returns the one of the best default route.
fn connect<'a>(candidates: &mut [Candidate<'a>], routes: &'a str) -> Option<&'a str> {
    let mut default: Option<(u32, &str)> = None;
    for route in routes.lines().filter_map(Route::read) {
        if route.mask == 0 {
            if default.is_none_or(|(metric, _)| route.metric < metric) {
                default = Some((route.metric, route.interface));
            }
            continue;
        }
        if route.flags & GATEWAY != 0 {
            continue;
        }
        let prefix = route.mask.count_ones();
        for candidate in &mut *candidates {
            if u32::from(candidate.addr) & route.mask != route.destination {
                continue;
            }
            if prefix > candidate.prefix {
                candidate.prefix = prefix;
                candidate.interface = Some(route.interface);
            } else if prefix == candidate.prefix && candidate.interface != Some(route.interface) {
                // Two interfaces in one network, such as cable and radio: no route can tell.
                candidate.interface = None;
            }
        }
    }
    default.map(|(_, interface)| interface)
}

/// A line of `/proc/net/route` that is up; numbers in the order of the address, first octet
/// highest.
struct Route<'a> {
    interface: &'a str,
    destination: u32,
    mask: u32,
    flags: u32,
    metric: u32,
}

impl<'a> Route<'a> {
    /// Columns: Iface Destination Gateway Flags `RefCnt` Use Metric Mask. The heading is no route,
    /// for its numbers do not parse.
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let interface = words.next().filter(|name| name.len() <= INTERFACE_BYTES)?;
        let destination = address(words.next()?)?;
        let flags = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        let metric = words.nth(2)?.parse().ok()?;
        let mask = address(words.next()?)?;
        let usable = flags & UP != 0 && flags & REJECT == 0;
        usable.then_some(Self { interface, destination, mask, flags, metric })
    }
}

/// The kernel prints the four octets as one number of its own byte order: 192.168.1.0 is `0001A8C0`
/// on a little-endian machine and `C0A80100` on a big-endian one.
fn address(hex: &str) -> Option<u32> {
    u32::from_str_radix(hex, 16).ok().map(|number| u32::from_be_bytes(number.to_ne_bytes()))
}

/// Lines are: address as 32 hex digits, interface index, prefix length, scope, flags, interface.
fn ipv6_addresses(if_inet6: &str) -> Vec<Local> {
    let mut found: Vec<(Ipv6Addr, Option<&str>)> = Vec::new();
    for line in if_inet6.lines() {
        if found.len() == CANDIDATES {
            break;
        }
        let mut words = line.split_whitespace();
        let Some(digits) = words.next().filter(|digits| digits.len() == 32) else { continue };
        let Ok(number) = u128::from_str_radix(digits, 16) else { continue };
        let flags = words.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let interface = words.next().filter(|name| name.len() <= INTERFACE_BYTES);
        let entry = (Ipv6Addr::from(number), interface);
        let failed = flags.is_some_and(|flags| flags & DAD_FAILED != 0);
        // A link-local address may stand on several interfaces; each is an address of its own.
        if !failed && !entry.0.is_loopback() && !found.contains(&entry) {
            found.push(entry);
        }
    }
    let is_near = |entry: &(Ipv6Addr, Option<&str>)| entry.0.is_unicast_link_local();
    let found = sorted(found, |a, b| !is_near(a) && is_near(b));
    let local = |(addr, interface): (Ipv6Addr, Option<&str>)| Local {
        addr: IpAddr::V6(addr),
        interface: interface.map(str::to_owned),
    };
    found.into_iter().take(ADDRESSES).map(local).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const PI_TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /32 link BROADCAST
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.168.1.0/24 2 0 2
        |-- 192.168.1.0
           /24 link UNICAST
        |-- 192.168.1.23
           /32 host LOCAL
        |-- 192.168.1.255
           /32 link BROADCAST
Local:
  +-- 127.0.0.0/8 2 0 2
     |-- 127.0.0.1
        /32 host LOCAL
  +-- 192.168.1.0/24 2 0 2
     |-- 192.168.1.23
        /32 host LOCAL
     |-- 192.168.1.255
        /32 link BROADCAST
";
    const PI_INET6: &str = "\
fe80000000000000dea632fffe010203 03 40 20 80    wlan0
fd5500000000000000000000000000aa 03 40 00 00    wlan0
fd5500000000000000000000000000ab 03 40 00 48    wlan0
00000000000000000000000000000001 01 80 10 80       lo
";

    /// Interface, destination, gateway, metric and mask.
    type Line = (&'static str, [u8; 4], [u8; 4], u32, [u8; 4]);

    /// `/proc/net/route` as this machine's byte order prints it.
    fn routes(lines: &[Line]) -> String {
        let mut text = String::from(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
        );
        for (interface, destination, gateway, metric, mask) in lines {
            let hex = |octets: &[u8; 4]| format!("{:08X}", u32::from_ne_bytes(*octets));
            let flags = if *gateway == [0; 4] { "0001" } else { "0003" };
            let (destination, gateway, mask) = (hex(destination), hex(gateway), hex(mask));
            let _ = writeln!(
                text,
                "{interface}\t{destination}\t{gateway}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0"
            );
        }
        text
    }

    fn trie(addresses: &[&str]) -> String {
        addresses.iter().fold(String::from("Main:\n"), |mut text, address| {
            let _ = writeln!(text, "     |-- {address}\n        /32 host LOCAL");
            text
        })
    }

    fn pi_routes() -> String {
        routes(&[
            ("wlan0", [0; 4], [192, 168, 1, 1], 600, [0; 4]),
            ("wlan0", [192, 168, 1, 0], [0; 4], 600, [255, 255, 255, 0]),
        ])
    }

    fn local(addr: &str, interface: Option<&str>) -> Local {
        Local { addr: addr.parse().unwrap(), interface: interface.map(str::to_owned) }
    }

    #[test]
    fn ipv6_is_counted_by_network_and_ipv4_by_address() {
        for (address, counted) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("fe80::1", "fe80::1"),
            ("fd00::1", "fd00::1"),
        ] {
            let address = counted_as(address.parse().unwrap());
            assert_eq!(address, counted.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn a_pi_on_radio_has_one_ipv4_and_two_ipv6_addresses() {
        let all = local_addresses(PI_TRIE, &pi_routes(), PI_INET6);
        let expected = [
            local("192.168.1.23", Some("wlan0")),
            local("fd55::aa", Some("wlan0")),
            local("fe80::dea6:32ff:fe01:203", Some("wlan0")),
        ];
        assert_eq!(all, expected);
        assert_eq!(lan_ipv4(&all), Some(Ipv4Addr::new(192, 168, 1, 23)));
    }

    #[test]
    fn a_container_host_publishes_its_cable() {
        let trie = trie(&["10.42.0.1", "172.17.0.1", "172.18.0.1", "192.168.0.1", "192.168.50.7"]);
        let routes = routes(&[
            ("eth0", [0; 4], [192, 168, 50, 1], 100, [0; 4]),
            ("cni0", [10, 42, 0, 0], [0; 4], 0, [255, 255, 255, 0]),
            ("docker0", [172, 17, 0, 0], [0; 4], 0, [255, 255, 0, 0]),
            ("br-5f1d2c3b4a59", [172, 18, 0, 0], [0; 4], 0, [255, 255, 0, 0]),
            ("br-0123456789ab", [192, 168, 0, 0], [0; 4], 0, [255, 255, 240, 0]),
            ("eth0", [192, 168, 50, 0], [0; 4], 100, [255, 255, 255, 0]),
        ]);
        let all = local_addresses(&trie, &routes, "");
        assert_eq!(all.len(), 5);
        assert_eq!(all[0], local("192.168.50.7", Some("eth0")));
        assert_eq!(all[1], local("10.42.0.1", Some("cni0")));
        assert_eq!(lan_ipv4(&all), Some(Ipv4Addr::new(192, 168, 50, 7)));
    }

    #[test]
    fn the_default_route_decides_between_lan_and_tunnel() {
        let trie = trie(&["10.8.0.2", "100.101.102.103", "192.168.1.23"]);
        let mut routes = pi_routes();
        routes.push_str("wg0\t0008000A\tbad line\n");
        routes.push_str(&self::routes(&[("wg0", [10, 8, 0, 0], [0; 4], 0, [255, 255, 255, 0])]));
        let all = local_addresses(&trie, &routes, "");
        let order: Vec<String> = all.iter().map(|local| local.addr.to_string()).collect();
        assert_eq!(order, ["192.168.1.23", "10.8.0.2", "100.101.102.103"]);
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_is_the_default() {
        let trie = trie(&["10.0.0.5", "192.168.1.23"]);
        let routes = routes(&[
            ("eth0", [0; 4], [10, 0, 0, 1], 700, [0; 4]),
            ("wlan0", [0; 4], [192, 168, 1, 1], 600, [0; 4]),
            ("eth0", [10, 0, 0, 0], [0; 4], 700, [255, 0, 0, 0]),
            ("wlan0", [192, 168, 1, 0], [0; 4], 600, [255, 255, 255, 0]),
        ]);
        let all = local_addresses(&trie, &routes, "");
        assert_eq!(all[0], local("192.168.1.23", Some("wlan0")));
    }

    #[test]
    fn a_private_address_stands_before_a_public_one() {
        let trie = trie(&["192.168.1.1", "203.0.113.5"]);
        let routes = routes(&[("wan", [0; 4], [203, 0, 113, 1], 0, [0; 4])]);
        let all = local_addresses(&trie, &routes, "");
        assert_eq!(lan_ipv4(&all), Some(Ipv4Addr::new(192, 168, 1, 1)));
    }

    #[test]
    fn two_interfaces_in_one_network_leave_the_interface_open() {
        let mask = [255, 255, 255, 0];
        let routes = routes(&[
            ("eth0", [192, 168, 1, 0], [0; 4], 100, mask),
            ("wlan0", [192, 168, 1, 0], [0; 4], 600, mask),
        ]);
        let all = local_addresses(&trie(&["192.168.1.23"]), &routes, "");
        assert_eq!(all, [local("192.168.1.23", None)]);
    }

    #[test]
    fn the_most_specific_network_names_the_interface() {
        let routes = routes(&[
            ("eth1", [10, 0, 0, 0], [0; 4], 0, [255, 0, 0, 0]),
            ("eth0", [10, 1, 2, 0], [0; 4], 0, [255, 255, 255, 0]),
            ("eth2", [10, 1, 2, 0], [10, 0, 0, 9], 0, [255, 255, 255, 128]),
        ]);
        let all = local_addresses(&trie(&["10.1.2.3"]), &routes, "");
        assert_eq!(all, [local("10.1.2.3", Some("eth0"))]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_little_endian_kernel_prints_the_last_octet_first() {
        let route = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let all = local_addresses(&trie(&["192.0.2.2"]), route, "");
        assert_eq!(all, [local("192.0.2.2", Some("eth0"))]);
    }

    #[test]
    fn without_a_network_there_is_no_address() {
        let trie = "Main:\n  |-- 127.0.0.1\n     /32 host LOCAL\n";
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(local_addresses(trie, "Iface\tDestination\n", inet6), []);
        assert_eq!(local_addresses("", "", ""), []);
        assert_eq!(lan_ipv4(&[]), None);
    }

    #[test]
    fn link_local_is_never_published() {
        let all = [local("169.254.10.1", Some("eth0")), local("fe80::1", Some("eth0"))];
        assert_eq!(lan_ipv4(&all), None);
    }

    #[test]
    fn without_anything_else_a_172_address_beats_a_bridge() {
        let all = [local("10.42.0.1", Some("cni0")), local("172.20.5.5", Some("eth0"))];
        assert_eq!(lan_ipv4(&all), Some(Ipv4Addr::new(172, 20, 5, 5)));
        assert_eq!(lan_ipv4(&all[..1]), Some(Ipv4Addr::new(10, 42, 0, 1)));
        let beyond = [local("172.32.0.1", None), local("172.16.0.1", None)];
        assert_eq!(lan_ipv4(&beyond), Some(Ipv4Addr::new(172, 32, 0, 1)));
    }

    #[test]
    fn more_than_32_addresses_keep_the_lan() {
        let mut addresses: Vec<String> = (16..80).map(|i| format!("172.17.0.{i}")).collect();
        addresses.push("192.168.1.23".to_owned());
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let all = local_addresses(&trie(&addresses), "", PI_INET6);
        assert_eq!(all.len(), 32);
        assert_eq!(all[0], local("192.168.1.23", None));
    }

    #[test]
    fn torn_text_is_passed_over() {
        for cut in 0..PI_TRIE.len() {
            assert!(local_addresses(&PI_TRIE[..cut], "", "").len() <= 1);
        }
        for cut in 0..PI_INET6.len() {
            assert!(local_addresses("", "x\ty", &PI_INET6[..cut]).len() <= 3);
        }
    }
}
