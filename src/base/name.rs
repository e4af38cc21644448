//! What an agent is called: the name it gives itself and the URL it is published under.
//!
//! The name has the form that `codetether spawn` gives, so both kinds look alike in a list of
//! peers. Nothing here asks the system; host name, directory and process id come in.

use std::fmt;
use std::net::Ipv6Addr;

/// `HOST-DIRECTORY-PID`, for an agent that was given no name.
///
/// The host is cut at its first dot, the directory is the last part of a path and the process id is
/// its low 16 bits as four hex digits. Characters outside `[a-z0-9-]` become dashes, dashes are
/// never doubled, first or last, and an empty part is left out. At most 63 bytes, a DNS label: what
/// is too long loses its end, but never the process id.
pub fn auto_name(hostname: &str, directory: &str, pid: u32) -> String {
    let host = hostname.trim().split('.').next().unwrap_or_default();
    let directory = directory.trim().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let mut name = String::with_capacity(LABEL_BYTES);
    for part in [host, directory] {
        let mut gap = true;
        for char in part.chars() {
            let char = char.to_ascii_lowercase();
            if !matches!(char, 'a'..='z' | '0'..='9') {
                gap = true;
                continue;
            }
            let dash = gap && !name.is_empty();
            if name.len() + usize::from(dash) >= LABEL_BYTES - PID_BYTES {
                break;
            }
            if dash {
                name.push('-');
            }
            name.push(char);
            gap = false;
        }
    }
    let dash = if name.is_empty() { "" } else { "-" };
    name + &format!("{dash}{:04x}", pid & 0xffff)
}

/// The URL that an operator wrote, in the one form that is stored and compared.
///
/// White space around it is dropped, `http://` is added when there is no scheme, scheme and host
/// are lower case, slashes at the end are gone. A path stays as it is. At most 2048 bytes.
///
/// # Errors
/// Anything a base URL cannot have, see [`UrlError`]. The error never repeats the text, which may
/// hold a password.
pub fn normal_url(text: &str) -> Result<String, UrlError> {
    let text = text.trim();
    if text.len() > URL_BYTES {
        return Err(UrlError::TooLong);
    }
    if text.contains(char::is_whitespace) {
        return Err(UrlError::WhiteSpace);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return Err(UrlError::Character);
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        // A later `://` belongs to a path or a query, whose rules come below.
        Some((scheme, _)) if !scheme.contains(['/', '?', '#', '@']) => {
            return Err(UrlError::Scheme);
        }
        Some(_) | None => ("http", text),
    };
    if rest.contains('#') {
        return Err(UrlError::Fragment);
    }
    if rest.contains('?') {
        return Err(UrlError::Query);
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    check_authority(authority)?;
    let path = path.trim_end_matches('/');
    let url = format!("{scheme}://{}{path}", authority.to_ascii_lowercase());
    // The scheme may have come on top.
    if url.len() > URL_BYTES { Err(UrlError::TooLong) } else { Ok(url) }
}

/// Why a text is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    TooLong,
    WhiteSpace,
    /// Something outside printable ASCII, or a character that URLs must encode.
    Character,
    /// Neither http nor https.
    Scheme,
    /// A user or password before the host.
    UserInfo,
    Query,
    Fragment,
    EmptyHost,
    /// Neither a host name, an IPv4 address nor an IPv6 address in brackets.
    Host,
    /// Not a number from 1 to 65535.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the url is longer than 2048 bytes",
            Self::WhiteSpace => "the url contains white space",
            Self::Character => "the url contains a character that must be percent-encoded",
            Self::Scheme => "the url must begin with http:// or https://",
            Self::UserInfo => "the url must not contain a user name or password",
            Self::Query => "the url must not have a query",
            Self::Fragment => "the url must not have a fragment",
            Self::EmptyHost => "the url has no host",
            Self::Host => "the url's host is neither a name nor an address",
            Self::Port => "the url's port must be 1 to 65535",
        })
    }
}

impl std::error::Error for UrlError {}

const LABEL_BYTES: usize = 63;
/// The process id and the dash before it.
const PID_BYTES: usize = 5;
const URL_BYTES: usize = 2048;

fn check_authority(authority: &str) -> Result<(), UrlError> {
    let port = if let Some(rest) = authority.strip_prefix('[') {
        let (addr, port) = rest.split_once(']').ok_or(UrlError::Host)?;
        addr.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(UrlError::Host),
            port => port,
        }
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if host.is_empty() {
            return Err(UrlError::EmptyHost);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !host.bytes().all(allowed) {
            return Err(UrlError::Host);
        }
        port
    };
    match port {
        // `parse` alone would take a plus sign.
        Some(port) if !port.bytes().all(|byte| byte.is_ascii_digit()) => Err(UrlError::Port),
        Some(port) if !port.parse::<u16>().is_ok_and(|port| port > 0) => Err(UrlError::Port),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_host_directory_and_process() {
        assert_eq!(auto_name("ubuntu-dev.lan", "repo-a", 0x1_dcd8), "ubuntu-dev-repo-a-dcd8");
        assert_eq!(auto_name("Pi\n", "/home/pi/My Project/", 10), "pi-my-project-000a");
    }

    #[test]
    fn dashes_are_never_doubled_first_or_last() {
        assert_eq!(auto_name("--a__b--", "..é.c d..", 1), "a-b-c-d-0001");
    }

    #[test]
    fn empty_parts_are_left_out() {
        assert_eq!(auto_name("", "/", 0xffff_ffff), "ffff");
        assert_eq!(auto_name("pi", "", 2), "pi-0002");
        assert_eq!(auto_name(".lan", "äöü", 2), "0002");
        assert_eq!(auto_name("", "work", 2), "work-0002");
    }

    #[test]
    fn a_long_name_keeps_its_process() {
        let name = auto_name(&"h".repeat(70), &"d".repeat(70), 0xbeef);
        assert_eq!(name, format!("{}-beef", "h".repeat(58)));
        let name = auto_name(&"h".repeat(56), "directory", 0xbeef);
        assert_eq!(name, format!("{}-d-beef", "h".repeat(56)));
        let name = auto_name(&"h".repeat(57), "directory", 0xbeef);
        assert_eq!(name, format!("{}-beef", "h".repeat(57)));
    }

    #[test]
    fn every_name_is_a_dns_label() {
        for length in 0..80 {
            for text in ["a-", "-a", "é", "aB9", "_"] {
                let name = auto_name(&text.repeat(length), &text.repeat(80 - length), 7);
                assert!(name.len() <= 63 && name.ends_with("0007"), "{name}");
                assert!(!name.contains("--") && !name.starts_with('-'), "{name}");
            }
        }
    }

    #[test]
    fn urls_get_one_form() {
        for (given, normal) in [
            (" pi.lan:8080/ ", "http://pi.lan:8080"),
            ("192.168.1.23", "http://192.168.1.23"),
            ("HTTPS://Agents.Example/Path//", "https://agents.example/Path"),
            ("http://[FD00::1]:80/a2a", "http://[fd00::1]:80/a2a"),
            ("[::1]", "http://[::1]"),
            ("http://host/a@b:c", "http://host/a@b:c"),
            ("host/http://inner", "http://host/http://inner"),
        ] {
            assert_eq!(normal_url(given).as_deref(), Ok(normal), "{given}");
            assert_eq!(normal_url(normal).as_deref(), Ok(normal), "{given}");
        }
    }

    #[test]
    fn what_a_base_url_cannot_have_is_named() {
        for (given, error) in [
            ("", UrlError::EmptyHost),
            ("http://", UrlError::EmptyHost),
            ("https:///path", UrlError::EmptyHost),
            ("//host", UrlError::EmptyHost),
            ("http://:80", UrlError::EmptyHost),
            ("ftp://host", UrlError::Scheme),
            ("://host", UrlError::Scheme),
            ("mailto:me", UrlError::Port),
            ("http://user:secret@host", UrlError::UserInfo),
            ("user:secret@host", UrlError::UserInfo),
            ("user@x://host", UrlError::UserInfo),
            ("http://host?x=1", UrlError::Query),
            ("host?to=http://x", UrlError::Query),
            ("http://host/#top", UrlError::Fragment),
            ("http://ho st", UrlError::WhiteSpace),
            ("http://host/a\u{a0}b", UrlError::WhiteSpace),
            ("http://host\\evil", UrlError::Character),
            ("http://hé", UrlError::Character),
            ("http://host\u{0}", UrlError::Character),
            ("http://::1", UrlError::EmptyHost),
            ("http://fd00::1", UrlError::Port),
            ("http://[fd00", UrlError::Host),
            ("http://[fe80::1%25eth0]", UrlError::Host),
            ("http://[::1]80", UrlError::Host),
            ("http://a,b", UrlError::Host),
            ("http://host:", UrlError::Port),
            ("http://host:0", UrlError::Port),
            ("http://host:+80", UrlError::Port),
            ("http://host:65536", UrlError::Port),
        ] {
            assert_eq!(normal_url(given), Err(error), "{given}");
        }
        assert_eq!(normal_url(&"a".repeat(2049)), Err(UrlError::TooLong));
        assert_eq!(normal_url(&"a".repeat(2042)), Err(UrlError::TooLong));
    }

    #[test]
    fn an_error_repeats_nothing_of_the_url() {
        let error = normal_url("http://user:canary@host").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
