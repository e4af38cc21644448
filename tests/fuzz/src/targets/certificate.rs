//! Certificates, of which some come from strangers, and the PEM files of operators.

use tetherlet::base::pem::sections;
use tetherlet::base::x509::{Certificate, Name, is_host};

/// Bytes are read as a certificate, and as text with sections of PEM, whose bytes are read as certificates in turn.
pub fn certificate(input: &[u8]) {
    look(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    match sections(text) {
        Ok(found) => {
            assert!(!found.is_empty(), "a text without sections is no PEM");
            let lines: Vec<&str> = text.lines().collect();
            for section in found {
                let begin = lines[section.line - 1];
                assert!(
                    begin.contains(section.label),
                    "line {} begins no such section",
                    section.line
                );
                assert!(section.bytes.len() < text.len());
                look(&section.bytes);
            }
        }
        Err(error) => {
            let line = error.line().unwrap_or(1);
            assert!(line >= 1 && line <= text.lines().count().max(1), "no line {line}");
        }
    }
}

fn look(der: &[u8]) {
    let Some(certificate) = Certificate::read(der) else { return };
    assert!(certificate.key.len() < der.len());
    for shown in
        [certificate.subject(), certificate.issuer()].into_iter().chain(certificate.names())
    {
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
    let names = certificate.alt_names();
    assert!(names.len() <= 64);
    for name in &names {
        match name {
            Name::Dns(host) => {
                assert!(!host.is_empty() && host.len() <= 2048 && !host.contains([':', '/']));
                assert!(host.starts_with("*.") || is_host(&names, host), "{host}");
            }
            Name::Uri(uri) => assert!(uri.contains(':') && uri.len() <= 2048),
            Name::Ip(ip) => assert!(is_host(&names, &ip.to_string())),
        }
    }
}
