//! HTTPS as clients meet it: real ones (`curl`, `openssl s_client`) where they can show it, and one that speaks TLS byte
//! by byte where they cannot. Certificates are made by `openssl`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests have deadlines and threads of their own")]

mod support;

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion, version,
};
use serde_json::json;
use support::{Agent, DEADLINE, Home, Reply, connect, message, program, reply_of, request};
use tetherlet::config::tls::Material;
use tetherlet::config::{Inputs, load};
use tetherlet::inbound::io::Progress;
use tetherlet::inbound::service::Peer;
use tetherlet::inbound::tls::Tls;
use tetherlet::inbound::wire::Wire;
use tokio::io::AsyncWrite as _;

/// Both versions of TLS that there are, as rustls and as curl name them.
const VERSIONS: [(&SupportedProtocolVersion, &str); 2] =
    [(&version::TLS12, "1.2"), (&version::TLS13, "1.3")];

/// Made by the real `openssl`: a CA called `ca`, and whatever a test wants of it.
struct Pki {
    home: Home,
}

impl Pki {
    fn new() -> Self {
        let pki = Self { home: Home::new() };
        pki.ca("ca");
        pki.leaf("server", "ca", "DNS:localhost,IP:127.0.0.1");
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn openssl(&self, arguments: &str) -> String {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.home.0)
            .stdin(Stdio::null())
            .output()
            .expect("openssl is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn request(&self, kind: &str, name: &str, rest: &str) {
        self.openssl(&format!(
            "req {kind} -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -subj /CN={name} {rest}"
        ));
    }

    /// A root.
    fn ca(&self, name: &str) {
        self.request("-x509", name, &format!("-out {name}.crt -days 30"));
    }

    /// A certificate with these names, good for a month.
    fn leaf(&self, name: &str, ca: &str, names: &str) {
        let names = format!("-out {name}.csr -addext subjectAltName={names}");
        self.request("-new", name, &names);
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -set_serial 0x{} -days 30 -copy_extensions copy \
             -out {name}.crt",
            self.openssl("rand -hex 8").trim()
        ));
    }

    /// A certificate that ended before this test was written.
    fn expired(&self, name: &str) {
        self.leaf(name, "ca", "DNS:old.example");
        let config = "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n\
            default_md = sha256\npolicy = p\ncopy_extensions = copy\n[p]\ncommonName = supplied\n";
        self.home.file("ca.cnf", config);
        self.home.file("index.txt", "");
        self.openssl(&format!(
            "ca -batch -config ca.cnf -cert ca.crt -keyfile ca.key -in {name}.csr -out {name}.crt -notext \
             -startdate 20200101000000Z -enddate 20200201000000Z"
        ));
    }

    /// The section of an agent that serves with `server.crt`.
    fn section(&self, more: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "[tls]\ncert-file = \"{}\"\nkey-file = \"{}\"\n{more}\n",
            path("server.crt"),
            path("server.key")
        )
    }

    fn agent(&self, more: &str) -> Agent {
        Agent::configured(&self.section(more), &[])
    }

    /// An agent that knows clients of `ca`.
    fn agent_for_clients(&self, wanted: &str) -> Agent {
        let ca = self.path("ca.crt");
        self.agent(&format!("client-ca-file = \"{}\"\nclient-cert = \"{wanted}\"", ca.display()))
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let found = CertificateDer::pem_file_iter(self.path(&format!("{name}.crt"))).unwrap();
        found.map(Result::unwrap).collect()
    }

    /// A client that trusts `ca` and shows the certificate of this name.
    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        shows: Option<&str>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates("ca"));
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shows {
            None => config.with_no_client_auth(),
            Some(name) => {
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                config.with_client_auth_cert(self.certificates(name), key).unwrap()
            }
        })
    }

    /// curl, which trusts `ca` and ends in time.
    fn curl(&self, arguments: &[&str]) -> Output {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.path("ca.crt"))
            .args(arguments)
            .current_dir(&self.home.0)
            .output()
            .expect("curl is installed")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn https(agent: &Agent, path: &str) -> String {
    format!("https://{}{path}", agent.address)
}

fn client_of(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

type Line = StreamOwned<ClientConnection, TcpStream>;

fn dial(address: SocketAddr, config: &Arc<ClientConfig>) -> Line {
    StreamOwned::new(client_of(config), connect(address))
}

/// What a new client says first.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut bytes = Vec::new();
    client_of(config).write_tls(&mut bytes).unwrap();
    bytes
}

/// A request on a connection that stays open.
fn page(line: &mut Line, path: &str) -> Reply {
    line.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    one_reply(line)
}

fn one_reply(line: &mut Line) -> Reply {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        line.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    let mut reply = Reply::parse(&seen);
    let mut body = vec![0; reply.header("content-length").unwrap().parse().unwrap()];
    line.read_exact(&mut body).unwrap();
    reply.body = String::from_utf8(body).unwrap();
    reply
}

/// Everything up to the end, which must come in time.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        Ok(_) | Err(_) => rest,
    }
}

fn assert_works(pki: &Pki, agent: &Agent) {
    let card = pki.curl(&[&https(agent, "/.well-known/agent-card.json")]);
    assert!(card.status.success(), "{}", text(&card.stderr));
    assert!(text(&card.stdout).contains("\"skills\""));
}

#[test]
fn both_versions_and_plain_http_share_a_port() {
    let pki = Pki::new();
    let agent = pki.agent("");
    for (_, version) in VERSIONS {
        let card = pki.curl(&[
            "--verbose",
            "--tlsv1.2",
            "--tls-max",
            version,
            &https(&agent, "/.well-known/agent-card.json"),
        ]);
        let log = text(&card.stderr);
        assert!(log.contains(&format!("SSL connection using TLSv{version}")), "{log}");
        assert!(log.contains("ALPN: server accepted http/1.1"), "{log}");
        // Who reads the card learns the address that everybody can use.
        assert!(text(&card.stdout).contains(&https(&agent, "")), "{}", text(&card.stdout));
    }
    assert_eq!(agent.get("/health").body, "ok");
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    assert!(agent.log.contains("listening on https://127.0.0.1:"), "{}", agent.log);
    let tls = agent.status()["tls"].clone();
    assert_eq!((&tls["plain"], &tls["clientCert"]), (&json!("local"), &json!("none")));
    assert_eq!(tls["daysLeft"], 29);
    let said = text(&agent.run(&["status"]).stdout);
    assert!(
        said.contains("tls      certificate ends on 20") && said.contains(", in 29 days"),
        "{said}"
    );
}

#[test]
fn old_versions_are_refused_with_an_alert() {
    let pki = Pki::new();
    let agent = pki.agent("");
    for version in ["-tls1", "-tls1_1"] {
        let output = Command::new("openssl")
            // The level at which openssl itself would speak them.
            .args(["s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect"])
            .arg(agent.address.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(
            said.contains("alert protocol version") || said.contains("alert handshake failure"),
            "{said}"
        );
    }
    assert_works(&pki, &agent);
}

#[test]
fn renegotiation_is_refused() {
    let pki = Pki::new();
    let agent = pki.agent("");
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-quiet", "-no_ign_eof", "-connect"])
        .arg(agent.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A line with this letter alone is a command to it.
    client.stdin.as_mut().unwrap().write_all(b"R\n").unwrap();
    let mut log = String::new();
    client.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("no renegotiation"), "{log}");
    client.wait().unwrap();
    assert_works(&pki, &agent);
}

#[test]
fn plain_http_is_refused_where_it_is_not_wanted() {
    let pki = Pki::new();
    let agent = pki.agent("plain = \"none\"");
    let refusal = "plain HTTP is not spoken with you here: use https://";
    for path in ["/health", "/.well-known/agent-card.json"] {
        let reply = agent.get(path);
        assert_eq!((reply.status, &*reply.body), (400, refusal), "{reply:?}");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    let reply = agent.post("/", &request("message/send", message("25*4")));
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["message"], format!("Bad HTTP: {refusal}"));
    assert_works(&pki, &agent);
}

#[test]
fn plain_http_for_all_leaves_the_card_at_http() {
    let pki = Pki::new();
    let agent = pki.agent("plain = \"all\"");
    let card = pki.curl(&[&https(&agent, "/.well-known/agent-card.json")]);
    assert!(text(&card.stdout).contains(&agent.url()), "{}", text(&card.stdout));
}

#[test]
fn the_commands_for_this_machine_find_an_agent_that_speaks_tls() {
    let pki = Pki::new();
    let agent = pki.agent("");
    let port = agent.address.port();
    let file =
        pki.home.file("client.toml", &format!("{}[listen]\nport = {port}\n", pki.section("")));
    let run = |arguments: &[&str]| {
        program(&pki.home.0).args(arguments).env("TETHERLET_CONFIG", &file).output().unwrap()
    };
    let sent = run(&["send", "25*4"]);
    assert_eq!(text(&sent.stdout), "100\n", "{}", text(&sent.stderr));
    let status = run(&["status"]);
    assert!(text(&status.stdout).contains(&https(&agent, "")), "{}", text(&status.stderr));
    // Without plain HTTP they must speak TLS, and no longer are refused for what they speak.
    drop(agent);
    let agent = pki.agent("plain = \"none\"");
    let settings = pki.section("plain = \"none\"");
    let port = agent.address.port();
    let file = pki.home.file("client.toml", &format!("{settings}[listen]\nport = {port}\n"));
    let output = program(&pki.home.0).arg("status").env("TETHERLET_CONFIG", file).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains(&https(&agent, "")) && said.contains("certificate"), "{said}");
}

#[test]
fn events_arrive_over_tls_as_they_come() {
    let pki = Pki::new();
    let agent = pki.agent("");
    let task = agent.send("remember door code");
    let body = request("tasks/resubscribe", json!({"id": task["id"]}));
    let mut curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "20", "--cacert"])
        .arg(pki.path("ca.crt"))
        .args(["-H", "Content-Type: application/json", "-d", &body, &https(&agent, "/")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut event = || lines.find(|line| line.starts_with("data: "));
    assert!(event().unwrap().contains("input-required"));
    // Only now there is something more to tell.
    agent.result("tasks/cancel", json!({"id": task["id"]}));
    assert!(event().unwrap().contains("canceled"));
    assert_eq!(event(), None);
    assert!(curl.wait().unwrap().success(), "the stream has an end");
}

#[test]
fn large_bodies_pass_both_ways() {
    let pki = Pki::new();
    let agent = pki.agent("");
    let words = "word ".repeat(40_000);
    let mut asked = message(&format!("Analyze text: {words}"));
    asked["configuration"] = json!({"historyLength": 1});
    let file = pki.home.file("large.json", &request("message/send", asked));
    for (_, version) in VERSIONS {
        let data = format!("@{}", file.display());
        let reply = pki.curl(&[
            "--tls-max",
            version,
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            &data,
            &https(&agent, "/"),
        ]);
        assert!(reply.status.success(), "{}", text(&reply.stderr));
        let said = text(&reply.stdout);
        assert!(said.contains("\"completed\"") && said.contains(&words), "{}", said.len());
    }
}

#[test]
fn a_client_certificate_is_verified_when_it_is_shown() {
    let pki = Pki::new();
    pki.leaf("client", "ca", "URI:spiffe://example/box,DNS:box.example");
    pki.ca("foreign");
    pki.leaf("stranger", "foreign", "URI:spiffe://example/box");
    pki.expired("old");
    let mut agent = pki.agent_for_clients("optional");
    assert_works(&pki, &agent);
    let url = https(&agent, "/health");
    for (_, version) in VERSIONS {
        let show = |name: &str| {
            let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
            pki.curl(&["--tls-max", version, "--cert", &cert, "--key", &key, &url])
        };
        assert_eq!(text(&show("client").stdout), "ok");
        let print = pki.openssl("x509 -in client.crt -noout -fingerprint -sha256");
        let print = print.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
        let line = agent.wait_for("certificate=");
        assert!(line.contains(&format!("certificate={print}")), "{line}");
        assert!(line.contains("names=[\"spiffe://example/box\", \"box.example\"]"), "{line}");
        // What curl says is what the alert says, which must have reached it. Of one of them it has its own idea.
        for (name, alerts) in [
            ("stranger", ["unknown ca"; 2]),
            ("old", ["certificate expired", "SSL certificate verification failed"]),
        ] {
            let refused = show(name);
            let said = text(&refused.stderr);
            assert!(!refused.status.success(), "{version} {name}");
            assert!(alerts.iter().any(|alert| said.contains(alert)), "{version} {name}: {said}");
        }
    }
    // Where certificates are known, callers must show one, or a token.
    let page = |path: &str, rest: &[&str]| {
        let url = https(&agent, path);
        text(&pki.curl(&[&["--write-out", "%{http_code}", &url], rest].concat()).stdout)
    };
    let client = ["--cert", "client.crt", "--key", "client.key"];
    assert!(page("/agents", &[]).ends_with("401"));
    assert!(page("/agents", &client).ends_with("200"));
    // A certificate that no section names may use tasks, and nothing more.
    assert!(page("/status.json", &client).ends_with("403"));
}

#[test]
fn a_required_client_certificate_is_required() {
    let pki = Pki::new();
    pki.leaf("client", "ca", "URI:spiffe://example/box");
    let agent = pki.agent_for_clients("required");
    for (_, version) in VERSIONS {
        let url = https(&agent, "/health");
        let refused = pki.curl(&["--tls-max", version, &url]);
        let said = text(&refused.stderr);
        assert!(!refused.status.success());
        assert!(said.contains("alert certificate required"), "{said}");
        let show = ["--tls-max", version, "--cert", "client.crt", "--key", "client.key", &url];
        assert_eq!(text(&pki.curl(&show).stdout), "ok");
    }
    // Callers on this machine may still be plain: nothing is asked of them here.
    assert_eq!(agent.get("/health").body, "ok");
}

#[test]
fn a_session_is_resumed_with_its_certificate() {
    let pki = Pki::new();
    pki.leaf("client", "ca", "URI:spiffe://example/box");
    let mut agent = pki.agent_for_clients("optional");
    for (version, name) in VERSIONS {
        let config = pki.client(version, Some("client"));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut line = dial(agent.address, &config);
            assert_eq!(page(&mut line, "/health").body, "ok");
            assert_eq!(line.conn.handshake_kind(), Some(kind), "{name}");
            assert!(agent.wait_for("certificate=").contains("spiffe://example/box"));
        }
    }
}

#[test]
fn the_end_is_said() {
    let pki = Pki::new();
    let agent = Agent::configured(
        &format!("{}[limits]\nidle-wait-s = 1\nheader-wait-s = 1\n", pki.section("")),
        &[],
    );
    for (version, _) in VERSIONS {
        let config = pki.client(version, None);
        let mut line = dial(agent.address, &config);
        line.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        // `read_to_end` fails when the connection ends without close_notify.
        let mut reply = Vec::new();
        line.read_to_end(&mut reply).unwrap();
        assert!(reply.ends_with(b"\r\n\r\nok"));
        let mut idle = dial(agent.address, &config);
        assert_eq!(page(&mut idle, "/health").body, "ok");
        let mut half = dial(agent.address, &config);
        half.write_all(b"GET /hea").unwrap();
        for mut line in [idle, half] {
            let mut reply = Vec::new();
            line.read_to_end(&mut reply).unwrap();
            assert_eq!(text(&reply), "");
        }
    }
}

#[test]
fn half_a_record_is_no_way_to_stay() {
    let pki = Pki::new();
    let agent = Agent::configured(
        &format!("{}[limits]\nidle-wait-s = 600\nheader-wait-s = 1\n", pki.section("")),
        &[],
    );
    let mut line = dial(agent.address, &pki.client(&version::TLS13, None));
    assert_eq!(page(&mut line, "/health").body, "ok");
    // A record of data that never comes whole.
    line.sock.write_all(&[0x17, 3, 3, 0x10, 0]).unwrap();
    rest(&mut line.sock);
    assert_works(&pki, &agent);
}

#[test]
fn garbage_after_the_first_byte_has_an_alert_and_an_end() {
    let pki = Pki::new();
    let agent = pki.agent("");
    let mut huge = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0];
    huge.resize(5 + 0x4000, 0);
    for (bytes, alert) in [
        (b"\x16hello, is this the door?".as_slice(), true),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00".as_slice(), true),
        (b"\x16\x03\x01\xff\xff".as_slice(), true),
        // Records that begin a message of 64 KiB and go on with it.
        (huge.repeat(4).as_slice(), false),
    ] {
        let mut stream = connect(agent.address);
        let _ = stream.write_all(bytes);
        if alert {
            let said = rest(&mut stream);
            assert_eq!((said.len(), said.first()), (7, Some(&0x15)), "{bytes:x?}: {said:x?}");
        } else {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            rest(&mut stream);
        }
    }
    // What is neither TLS nor HTTP.
    assert_eq!(Reply::parse(&rest_of(agent.address, b"\x15\x03\x01\r\n\r\n")).status, 400);
    assert_works(&pki, &agent);
}

fn rest_of(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    rest(&mut stream)
}

#[test]
fn who_does_not_finish_the_handshake_is_closed_in_time() {
    let pki = Pki::new();
    let agent =
        Agent::configured(&format!("{}[limits]\nheader-wait-s = 1\n", pki.section("")), &[]);
    let hello = hello(&pki.client(&version::TLS13, None));
    let begun = Instant::now();
    let silent = connect(agent.address);
    let mut streams = vec![silent];
    // One byte, half a message, and a whole one whose answer nobody takes.
    for sent in [1, hello.len() / 2, hello.len()] {
        let mut stream = connect(agent.address);
        stream.write_all(&hello[..sent]).unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        rest(stream);
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_works(&pki, &agent);
}

#[test]
fn fifty_stuck_handshakes_hold_nobody_else_up() {
    let pki = Pki::new();
    let agent =
        Agent::configured(&format!("{}[limits]\nheader-wait-s = 120\n", pki.section("")), &[]);
    let hello = hello(&pki.client(&version::TLS13, None));
    let stuck: Vec<TcpStream> = (0..50)
        .map(|number| {
            let mut stream = connect(agent.address);
            stream.write_all(&hello[..number * hello.len() / 50]).unwrap();
            stream
        })
        .collect();
    assert_works(&pki, &agent);
    assert_eq!(reply_of(&agent.send("25*4")), "100");
    // They count as what they are, and go when they go.
    assert!(agent.status()["http"]["connections"].as_u64().unwrap() > 50);
    drop(stuck);
    until(|| agent.status()["http"]["connections"] == 1);
}

fn until(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "never");
        std::thread::yield_now();
    }
}

#[test]
fn above_the_limit_a_tls_connection_is_told_that_the_agent_is_busy() {
    let pki = Pki::new();
    let limits = "[limits]\nconnections = 4\nstreams = 4\nper-address = 4\n";
    let agent = Agent::configured(&(pki.section("") + limits), &[]);
    let config = pki.client(&version::TLS13, None);
    let mut lines: Vec<Line> = (0..4).map(|_| dial(agent.address, &config)).collect();
    for line in &mut lines {
        assert_eq!(page(line, "/health").body, "ok");
    }
    assert_eq!(page(&mut dial(agent.address, &config), "/health").body, "ok");
    let card = page(&mut dial(agent.address, &config), "/.well-known/agent-card.json");
    assert_eq!(card.status, 503, "{card:?}");
}

#[test]
fn a_reader_that_takes_nothing_is_dropped_over_tls_as_well() {
    let pki = Pki::new();
    let mut agent =
        Agent::configured(&format!("{}[limits]\nwrite-wait-s = 1\n", pki.section("")), &[]);
    let task = agent.send(&format!("Analyze text: {}", "word ".repeat(40_000)));
    let body = request("tasks/get", json!({"id": task["id"]}));
    let one = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut greedy = dial(agent.address, &pki.client(&version::TLS13, None));
    greedy.write_all(one.repeat(200).as_bytes()).unwrap();
    assert_works(&pki, &agent);
    agent.wait_for(&format!("peer={} connection: ", greedy.sock.local_addr().unwrap()));
    let status = agent.status();
    assert_eq!(status["http"]["connections"], 1);
    assert!(status["residentBytes"].as_u64().unwrap() < 32 * 1024 * 1024);
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    let pki = Pki::new();
    pki.leaf("other", "ca", "DNS:other.example");
    let good = pki.text("server.crt");
    let third = good.lines().nth(2).unwrap();
    pki.home
        .file("damaged.crt", &good.replace(third, &third.replacen(char::is_alphanumeric, "!", 1)));
    pki.home.file("cut.crt", &good[..good.len() / 2]);
    pki.home.file("backwards.crt", &(pki.text("ca.crt") + &good));
    pki.home.file("der.crt", "");
    pki.openssl("x509 -in server.crt -outform DER -out der.crt");
    pki.openssl("pkcs8 -topk8 -in server.key -out locked.key -passout pass:secret");
    for (cert, key, rule) in [
        ("missing.crt", "server.key", "missing.crt cannot be read: No such file"),
        ("server.key", "server.key", "server.key:1: a private key, where only certificates belong"),
        ("damaged.crt", "server.key", "damaged.crt:3: this line is not base64"),
        ("cut.crt", "server.key", "cut.crt:1: what begins here has no -----END line"),
        ("der.crt", "server.key", "`openssl x509 -inform DER -in OLD -out NEW` makes PEM"),
        ("server.crt", "server.crt", "server.crt:1: a certificate, where only a private key"),
        ("server.crt", "locked.key", "locked.key:1: this key is locked with a pass phrase"),
        ("server.crt", "other.key", "other.key:1: the key does not belong to the certificate in"),
        ("backwards.crt", "server.key", "server.key:1: the key belongs to the certificate at"),
    ] {
        // openssl closes keys itself; the certificate is only one by its use here.
        close(&pki.path(key));
        let mut command = program(&pki.home.0);
        command.arg("check-config");
        command.env("TETHERLET_TLS_CERT_FILE", pki.path(cert));
        command.env("TETHERLET_TLS_KEY_FILE", pki.path(key));
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(rule) && said.lines().count() == 1, "{rule}: {said}");
    }
}

fn close(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_that_is_over_is_told_and_served() {
    let pki = Pki::new();
    pki.expired("server");
    let mut agent = pki.agent("");
    let complaint = agent.wait_for("ended on 2020-02-01, and this machine's clock says");
    assert!(complaint.contains("WARN"), "{complaint}");
    let status = agent.status();
    assert!(status["warnings"][0].as_str().unwrap().contains("ended on 2020-02-01"), "{status}");
    assert_eq!(status["tls"]["daysLeft"], 0);
    let said = text(&agent.run(&["status"]).stdout);
    assert!(said.contains("WARNING: the TLS certificate in "), "{said}");
    let refused = pki.curl(&[&https(&agent, "/health")]);
    assert!(text(&refused.stderr).contains("certificate has expired"));
}

#[test]
fn a_certificate_for_another_host_is_warned_about() {
    let pki = Pki::new();
    pki.leaf("server", "ca", "DNS:box.example");
    let mut agent = pki.agent("");
    agent.wait_for("the TLS certificate does not name the host of https://127.0.0.1");
}

/// What a configuration with these files leads to.
fn material(pki: &Pki) -> Arc<Material> {
    let file = pki.home.file("material.toml", &pki.section(""));
    let inputs = Inputs {
        file: Some(&file),
        env: &|_| None,
        env_names: &[],
        flags: &[],
        root: false,
        etc: Path::new("/nonexistent"),
    };
    load(&inputs).unwrap_or_else(|problems| panic!("{problems}")).tls.unwrap()
}

/// What [`Tls`] does with connections that a thread opens, one after the other.
struct Doors {
    tls: Tls,
    listener: TcpListener,
    runtime: tokio::runtime::Runtime,
}

impl Doors {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { tls: Tls::default(), listener: TcpListener::bind("127.0.0.1:0").unwrap(), runtime }
    }

    /// The next connection, which seems to be from `ip`, and what is known of it.
    fn next(&self, ip: Ipv4Addr) -> (Wire, Peer) {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut peer = Peer {
            address: (ip, 40_000).into(),
            local: Ipv4Addr::LOCALHOST.into(),
            is_tls: false,
            progress: Progress::new(),
            surplus: false,
            certificate: None,
            unwelcome: false,
        };
        self.runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let wire = self.tls.welcome(stream, &mut peer, DEADLINE).await.unwrap();
            (wire, peer)
        })
    }

    fn write(&self, wire: &mut Wire, bytes: &[u8]) {
        self.runtime.block_on(async {
            let written = poll_fn(|context| Pin::new(&mut *wire).poll_write(context, bytes)).await;
            assert_eq!(written.unwrap(), bytes.len());
            poll_fn(|context| Pin::new(&mut *wire).poll_flush(context)).await.unwrap();
        });
    }
}

#[test]
fn new_terms_are_for_new_connections() {
    let pki = Pki::new();
    let doors = Doors::new();
    let address = doors.listener.local_addr().unwrap();
    doors.tls.replace(Some(material(&pki))).unwrap();
    let config = pki.client(&version::TLS13, None);
    // Reads one word, so that the client has its ticket, and keeps the connection.
    let open = || {
        let config = config.clone();
        std::thread::spawn(move || {
            let mut line = dial(address, &config);
            let mut word = [0; 5];
            line.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"hello");
            line
        })
    };
    let visit = || {
        let client = open();
        let (mut socket, _) = doors.next(Ipv4Addr::LOCALHOST);
        doors.write(&mut socket, b"hello");
        (socket, client.join().unwrap())
    };
    let shown = |line: &Line| line.conn.peer_certificates().unwrap()[0].clone();
    let (mut old_socket, mut old) = visit();
    assert_eq!(visit().1.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    pki.leaf("server", "ca", "DNS:localhost");
    doors.tls.replace(Some(material(&pki))).unwrap();
    let (_socket, new) = visit();
    // Nobody goes on with a session of the certificate that was taken away.
    assert_eq!(new.conn.handshake_kind(), Some(HandshakeKind::Full));
    assert_ne!(shown(&new), shown(&old));
    assert_eq!(shown(&new), pki.certificates("server")[0]);
    doors.write(&mut old_socket, b"still");
    let mut word = [0; 5];
    old.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"still");
    doors.tls.replace(None).unwrap();
    assert!(doors.tls.material().is_none());
}

#[test]
fn plain_http_is_for_this_machine_unless_told_otherwise() {
    let pki = Pki::new();
    let doors = Doors::new();
    let address = doors.listener.local_addr().unwrap();
    doors.tls.replace(Some(material(&pki))).unwrap();
    let foreign = Ipv4Addr::new(192, 0, 2, 7);
    for (ip, unwelcome) in [(Ipv4Addr::LOCALHOST, false), (foreign, true)] {
        let mut client = connect(address);
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert_eq!(doors.next(ip).1.unwelcome, unwelcome);
    }
    doors.tls.replace(None).unwrap();
    let _client = connect(address);
    assert!(!doors.next(foreign).1.unwelcome);
}

#[test]
fn the_public_url_can_be_a_name_of_the_certificate() {
    let pki = Pki::new();
    let mut settings = pki.section("");
    write!(settings, "[listen]\npublic-url = \"https://localhost:1\"\n").unwrap();
    let agent = Agent::configured(&settings, &[]);
    let card = pki.curl(&[&https(&agent, "/.well-known/agent-card.json")]);
    assert!(text(&card.stdout).contains("https://localhost:1"));
    assert!(!agent.stop().1.contains("does not name"));
}

/// The certificate that a new client sees, as openssl prints it.
fn seen_by_openssl(pki: &Pki, agent: &Agent) -> String {
    let said = pki.openssl(&format!("s_client -connect {} -CAfile ca.crt", agent.address));
    let begin = said.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
    let end = "-----END CERTIFICATE-----\n";
    said[begin..said.find(end).unwrap() + end.len()].to_owned()
}

/// Sends SIGHUP and returns the line that says how that went.
fn reload(agent: &mut Agent, end: &str) -> String {
    agent.signal(Signal::HUP);
    agent.wait_for(end)
}

#[test]
fn a_new_certificate_is_shown_after_sighup_and_open_connections_go_on() {
    let pki = Pki::new();
    let mut agent = pki.agent("");
    for (version, name) in VERSIONS {
        let config = pki.client(version, None);
        let mut open = dial(agent.address, &config);
        assert_eq!(page(&mut open, "/health").body, "ok");
        let mut again = dial(agent.address, &config);
        assert_eq!(page(&mut again, "/health").body, "ok");
        assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed), "{name}");
        let old = pki.text("server.crt");
        assert_eq!(seen_by_openssl(&pki, &agent), old, "{name}");

        pki.leaf("server", "ca", "DNS:localhost,IP:127.0.0.1");
        let line = reload(&mut agent, "configuration reloaded");
        assert!(line.ends_with(", changed: tls.cert-file"), "{line}");
        let new = pki.text("server.crt");
        assert_ne!(new, old);
        assert_eq!(seen_by_openssl(&pki, &agent), new, "{name}");
        // Nobody resumes a session of the certificate that is gone, and nobody is cut off.
        let mut line = dial(agent.address, &config);
        assert_eq!(page(&mut line, "/health").body, "ok");
        assert_eq!(line.conn.handshake_kind(), Some(HandshakeKind::Full), "{name}");
        for line in [&mut open, &mut again] {
            assert_eq!(page(line, "/.well-known/agent-card.json").status, 200, "{name}");
        }
    }
    assert_eq!(agent.status()["warnings"], json!([]));
}

#[test]
fn a_bad_certificate_or_key_is_not_taken_at_sighup_and_is_named_with_its_line() {
    let pki = Pki::new();
    pki.leaf("other", "ca", "DNS:localhost");
    let (cert, key) = (pki.text("server.crt"), pki.text("server.key"));
    let mut agent = pki.agent("");
    for (file, bad, rule) in [
        (
            "server.crt",
            cert[..cert.len() / 2].to_owned(),
            "server.crt:1: what begins here has no -----END line",
        ),
        (
            "server.key",
            pki.text("other.key"),
            "server.key:1: the key does not belong to the certificate in",
        ),
    ] {
        let config = pki.client(&version::TLS13, None);
        let mut open = dial(agent.address, &config);
        assert_eq!(page(&mut open, "/health").body, "ok");
        pki.home.file(file, &bad);
        let begun = agent.log.len();
        reload(&mut agent, "reload failed");
        let log = &agent.log[begun..];
        let place = format!("{}/{rule}", pki.home.0.display());
        assert!(log.lines().any(|it| it.contains("ERROR") && it.contains(&place)), "{log}");
        let status = agent.status();
        let warnings = status["warnings"].as_array().unwrap();
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        let warning = warning.as_str().unwrap();
        assert!(warning.starts_with("reload at 2") && warning.contains(&place), "{warning}");
        let said = text(&agent.run(&["status"]).stdout);
        assert!(said.contains(&format!("WARNING: {warning}")), "{said}");
        assert_eq!(seen_by_openssl(&pki, &agent), cert);
        // Not even a session has ended.
        let mut line = dial(agent.address, &config);
        for line in [&mut open, &mut line] {
            assert_eq!(page(line, "/health").body, "ok");
        }
        assert_eq!(line.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        for (name, text) in [("server.crt", &cert), ("server.key", &key)] {
            pki.home.file(name, text);
        }
        let line = reload(&mut agent, "configuration reloaded");
        assert!(line.ends_with("nothing has changed"), "{line}");
        assert_eq!(agent.status()["warnings"], json!([]));
    }
}

#[test]
fn clients_of_an_authority_taken_away_at_sighup_do_not_come_in_again() {
    let pki = Pki::new();
    for name in ["staying", "leaving"] {
        pki.ca(name);
        pki.leaf(&format!("{name}-box"), name, &format!("URI:spiffe://example/{name}"));
    }
    for wanted in ["optional", "required"] {
        let both = pki.text("staying.crt") + &pki.text("leaving.crt");
        let authorities = pki.home.file("clients.crt", &both);
        let mut agent = pki.agent(&format!(
            "client-ca-file = \"{}\"\nclient-cert = \"{wanted}\"",
            authorities.display()
        ));
        let clients = VERSIONS.map(|(version, name)| {
            let client = |it| pki.client(version, Some(it));
            (name, client("staying-box"), client("leaving-box"), client("leaving-box"))
        });
        let mut open = Vec::new();
        for (name, staying, leaving, _) in &clients {
            for config in [staying, leaving] {
                for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                    let mut line = dial(agent.address, config);
                    assert_eq!(page(&mut line, "/agents").status, 200, "{name}");
                    assert_eq!(line.conn.handshake_kind(), Some(kind), "{name}");
                    open.push(line);
                }
            }
        }

        pki.home.file("clients.crt", &pki.text("staying.crt"));
        let line = reload(&mut agent, "configuration reloaded");
        assert!(line.ends_with(", changed: tls.client-ca-file"), "{line}");
        // Whoever is inside goes, too, and may come in again.
        for mut line in open.drain(..) {
            let mut rest = Vec::new();
            let _ = line.read_to_end(&mut rest);
            assert_eq!(rest, b"");
        }
        for (name, staying, leaving, fresh) in &clients {
            let mut line = dial(agent.address, staying);
            assert_eq!(page(&mut line, "/agents").status, 200, "{name}");
            assert_eq!(line.conn.handshake_kind(), Some(HandshakeKind::Full), "{name}");
            // Once with what it kept of its session, once with nothing.
            for config in [leaving, fresh] {
                let mut line = dial(agent.address, config);
                let asked = b"GET /agents HTTP/1.1\r\nHost: localhost\r\n\r\n";
                let error = line
                    .write_all(asked)
                    .and_then(|()| line.read_exact(&mut [0]))
                    .expect_err("nothing but an alert");
                assert!(error.to_string().contains("UnknownCA"), "{wanted} {name}: {error}");
            }
        }
        // A session that began under the old terms ends with its connection.
        for line in &mut open {
            assert_eq!(page(line, "/health").body, "ok");
        }
    }
}

#[test]
fn every_form_of_the_card_says_that_client_certificates_are_taken() {
    let pki = Pki::new();
    pki.leaf("client", "ca", "URI:spiffe://example/box");
    let (old, new) = (json!({"type": "mutualTLS"}), json!({"mtlsSecurityScheme": {}}));
    let both = json!({"type": "mutualTLS", "mtlsSecurityScheme": {}});
    for (form, scheme) in [("union", &both), ("1.0", &new), ("0.3", &old)] {
        let more = format!(
            "client-ca-file = \"{}\"\n[card]\nextended = true\nform = \"{form}\"\n\
             [callers.box]\ncertificate = \"spiffe://example/box\"",
            pki.path("ca.crt").display()
        );
        let agent = pki.agent(&more);
        let card = |path: &str, version: &str| {
            let (url, version) = (https(&agent, path), format!("A2A-Version: {version}"));
            let show = ["-H", &version, "--cert", "client.crt", "--key", "client.key", &url];
            let said = text(&pki.curl(&show).stdout);
            serde_json::from_str::<serde_json::Value>(&said).unwrap_or_else(|_| panic!("{said}"))
        };
        let public = card("/.well-known/agent-card.json", "1.0");
        assert_eq!(public, agent.get("/.well-known/agent-card.json").json());
        assert_eq!(public["securitySchemes"], json!({"mutualTLS": scheme}), "{form}");
        let v03 = if form == "1.0" { json!(null) } else { json!([{"mutualTLS": []}]) };
        assert_eq!(public["security"], v03, "{form}");
        assert_eq!(public["securityRequirements"].is_null(), form == "0.3", "{form}");
        // An old reader takes the extended card by either spelling.
        for (path, version, scheme) in
            [("/extendedAgentCard", "1.0", &new), ("/v1/card", "0.3", &both)]
        {
            let schemes = &card(path, version)["securitySchemes"];
            assert_eq!(*schemes, json!({"mutualTLS": scheme}), "{form} {path}");
        }
    }
    assert!(pki.agent("").get("/.well-known/agent-card.json").json()["securitySchemes"].is_null());
}

#[test]
fn more_stuck_handshakes_than_there_is_room_for_hold_no_monitor_up() {
    let pki = Pki::new();
    let agent =
        Agent::configured(&format!("{}[limits]\nheader-wait-s = 120\n", pki.section("")), &[]);
    let hello = hello(&pki.client(&version::TLS13, None));
    // 96 connections and a reserve of 8 are exceeded.
    let stuck: Vec<TcpStream> = (0..120)
        .map(|number| {
            let mut stream = connect(agent.address);
            // Those at the end find others crowding them out.
            let _ = stream.write_all(&hello[..number * hello.len() / 120]);
            stream
        })
        .collect();
    let card = "/.well-known/agent-card.json";
    for _ in 0..3 {
        for (_, version) in VERSIONS {
            let health = pki.curl(&["--tls-max", version, &https(&agent, "/health")]);
            assert_eq!(text(&health.stdout), "ok", "{}", text(&health.stderr));
            // The card is no monitor's page: whoever asks for it learns at once to come again.
            let busy = pki.curl(&["--include", "--tls-max", version, &https(&agent, card)]);
            let busy = Reply::parse(&busy.stdout);
            assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")), "{busy:?}");
        }
        assert_eq!(agent.get("/health").body, "ok");
        let busy = agent.get(card);
        assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")), "{busy:?}");
    }
    drop(stuck);
    until(|| agent.get(card).status == 200);
    assert_works(&pki, &agent);
}
