//! Certificates as operators make them, with openssl, and a server that shows them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "every test file uses its own part; these are tests, with threads and programs of their own"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

/// A certificate and its key, in files `NAME.pem` and `NAME.key`.
#[derive(Clone, Debug)]
pub struct Pair {
    pub pem: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    pub fn pem(&self) -> &str {
        self.pem.to_str().unwrap()
    }

    pub fn key(&self) -> &str {
        self.key.to_str().unwrap()
    }
}

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub name: &'a str,
    /// Itself when `None`.
    pub issuer: Option<&'a Pair>,
    /// `subjectAltName` and further lines of extensions.
    pub extensions: &'a str,
    /// `YYYYMMDDHHMMSSZ`
    pub from: &'a str,
    pub to: &'a str,
}

/// Good for a server on this machine, for long, by itself.
pub const HERE: Wish<'_> = Wish {
    name: "pi.local",
    issuer: None,
    extensions: "subjectAltName=DNS:localhost,IP:127.0.0.1",
    from: "20200101000000Z",
    to: "20700101000000Z",
};

/// An authority.
pub const AUTHORITY: Wish<'_> = Wish {
    name: "Test Root",
    extensions: "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign",
    ..HERE
};

/// Makes a certificate in `folder` with openssl; `file` is the beginning of its files' names.
pub fn make(folder: &Path, file: &str, wish: Wish<'_>) -> Pair {
    let at = |end: &str| folder.join(format!("{file}.{end}"));
    let (key, request, pem, settings) = (at("key"), at("csr"), at("pem"), at("cnf"));
    let Wish { name, issuer, extensions, from, to } = wish;
    let base = folder.display();
    let text = format!(
        "[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN={name}\n[extensions]\n{extensions}\n\
         [ca]\ndefault_ca=ours\n[ours]\ndatabase={base}/{file}.db\nnew_certs_dir={base}\nrand_serial=yes\n\
         default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
    );
    std::fs::write(&settings, text).unwrap();
    std::fs::write(at("db"), "").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let settings = path(&settings);
    let curve = "ec_paramgen_curve:prime256v1";
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", &path(&key)]);
    let (own, asked, out) = (path(&key), path(&request), path(&pem));
    openssl(&["req", "-new", "-config", &settings, "-key", &own, "-out", &asked]);
    let mut sign = vec!["ca", "-batch", "-notext", "-config", &settings, "-in", &asked];
    sign.extend(["-out", &out, "-startdate", from, "-enddate", to, "-extensions", "extensions"]);
    match issuer {
        Some(issuer) => sign.extend(["-cert", issuer.pem(), "-keyfile", issuer.key()]),
        None => sign.extend(["-selfsign", "-keyfile", &own]),
    }
    openssl(&sign);
    Pair { pem, key }
}

/// Runs openssl and returns what it printed.
pub fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A server with TLS that gives every request the same reply. Its threads end with the test.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Shows the certificates in `chain`, with the key of the first.
    pub fn start(chain: &[&Pair], reply: &str) -> Self {
        Self::with(chain, None, rustls::ALL_VERSIONS, reply)
    }

    /// Takes only clients with a certificate from `clients`.
    pub fn asking(pair: &Pair, clients: &Pair, version: &'static SupportedProtocolVersion) -> Self {
        Self::with(&[pair], Some(clients), &[version], &card())
    }

    /// The same, with another reply and any version.
    pub fn asking_with(pair: &Pair, clients: &Pair, reply: &str) -> Self {
        Self::with(&[pair], Some(clients), rustls::ALL_VERSIONS, reply)
    }

    fn with(
        chain: &[&Pair],
        clients: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
        reply: &str,
    ) -> Self {
        let load = |pair: &&Pair| CertificateDer::from_pem_file(&pair.pem).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(load(&authority)).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_file(&chain[0].key).unwrap();
        let config = builder.with_single_cert(chain.iter().map(load).collect(), key).unwrap();
        let (config, reply) = (Arc::new(config), reply.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = heads.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, reply, log) = (config.clone(), reply.clone(), log.clone());
                std::thread::spawn(move || serve(stream, config, &reply, &log));
            }
        });
        Self { address, heads }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The heads of the requests that came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// An agent card without interfaces.
pub fn card() -> String {
    reply("application/json", r#"{"name":"behind TLS"}"#)
}

/// A reply that ends with its connection.
pub fn reply(media_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, reply: &str, log: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut connection = ServerConnection::new(config).unwrap();
    let mut head = Vec::new();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(tls.read(&mut byte), Ok(1)) {
            // What went wrong, the client is to learn.
            while connection.wants_write() && connection.write_tls(&mut stream).is_ok() {}
            linger(&mut stream);
            return;
        }
        head.push(byte[0]);
    }
    log.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    let _ = tls.write_all(reply.as_bytes());
    tls.conn.send_close_notify();
    let _ = tls.flush();
    linger(&mut stream);
}

/// Closing with bytes unread would reset the connection, and the reply with it.
fn linger(stream: &mut TcpStream) {
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = std::io::copy(stream, &mut std::io::sink());
}
