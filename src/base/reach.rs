//! How far an IP address reaches: what the whole world may be asked to call, what lies in somebody's own network, and
//! what nobody is to be called at. Facts: the special-purpose registries of IANA (RFC 6890 and its successors).
//!
//! An IPv6 address that stands for an IPv4 one is judged as that one, whichever of the ways it is written in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One host of the Internet.
    Public,
    /// This machine, its network, or one that exists on paper only.
    Private,
    /// No single host that could be meant: unspecified, multicast, reserved, or the fixed addresses at which clouds
    /// hand out their machines' credentials.
    Never,
}

/// How far `address` reaches.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // "This network"; multicast and all above it; the old relays between IPv4 and IPv6.
        [0 | 224..=255, ..] | [192, 88, 99, _]
        // Credentials of cloud machines; one cloud has its settings' server at an address that looks public.
        | [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [169, 254, 42, 42]
        | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Reach::Never,
        // Private (RFC 1918) and loopback.
        [10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..]
        // Link-local; shared by a provider's customers (RFC 6598).
        | [169, 254, ..] | [100, 64..=127, ..]
        // Protocol assignments; documentation; benchmarks.
        | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [198, 18 | 19, ..] => {
            Reach::Private
        }
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let v4 = |high: u16, low: u16| reach_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // ::ffff:a.b.c.d, and 64:ff9b::a.b.c.d where a network translates (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 6to4 carries its IPv4 address in front.
        | [0x2002, high, low, ..] => v4(high, low),
        // Credentials of cloud machines; protocol assignments, among them Teredo.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
        | [0x2001, 0..=0x01ff, ..] => Reach::Never,
        // Loopback; unique local; link-local and what was site-local; a network's own translator.
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff | 0xfe80..=0xfeff, ..] | [0x64, 0xff9b, 1, ..]
        // Documentation.
        | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Private,
        [0x2000..=0x3fff, ..] => Reach::Public,
        // Unspecified, IPv4-compatible, multicast, and what nobody has been given.
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reach: Reach, addresses: &[&str]) {
        for text in addresses {
            assert_eq!(super::reach(text.parse().unwrap()), reach, "{text}");
        }
    }

    #[test]
    fn one_host_of_the_internet_is_public() {
        all(
            Reach::Public,
            &[
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "191.255.255.255",
                "192.0.1.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2606:4700::1111",
                "2001:200::1",
                "2a00::1",
                "3ffe::1",
                "::ffff:8.8.8.8",
                "64:ff9b::8.8.8.8",
                "2002:808:808::1",
            ],
        );
    }

    #[test]
    fn somebodys_own_network_is_private() {
        all(
            Reach::Private,
            &[
                "127.0.0.1",
                "127.255.255.254",
                "10.0.0.1",
                "10.255.255.255",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.0.1",
                "169.254.0.1",
                "169.254.169.253",
                "100.64.0.1",
                "100.127.255.255",
                "192.0.0.8",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "198.18.0.1",
                "198.19.255.255",
                "::1",
                "fc00::1",
                "fd12:3456::1",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "2001:db8::1",
                "3fff:fff::1",
                "64:ff9b:1::1",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::ffff:c0a8:1",
                "64:ff9b::192.168.0.1",
                "2002:7f00:1::",
                "2002:a00:1::1",
            ],
        );
    }

    #[test]
    fn what_is_no_host_is_never_called() {
        all(
            Reach::Never,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "169.254.42.42",
                "100.100.100.200",
                "192.0.0.192",
                "168.63.129.16",
                "::ffff:168.63.129.16",
                "192.88.99.1",
                "224.0.0.1",
                "239.255.255.250",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "::127.0.0.1",
                "::8.8.8.8",
                "::ffff:0.0.0.0",
                "::ffff:169.254.169.254",
                "::ffff:224.0.0.1",
                "::ffff:0:127.0.0.1",
                "64:ff9b::169.254.169.254",
                "2002:a9fe:a9fe::1",
                "fd00:ec2::254",
                "fd20:ce::254",
                "fd00:42::42",
                "ff02::1",
                "ff0e::1",
                "100::1",
                "2001::1",
                "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                "2001:20::1",
                "4000::1",
                "5f00::1",
                "fe00::1",
            ],
        );
    }
}
