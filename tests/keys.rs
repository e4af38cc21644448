//! `token new` and `cert self-signed`, judged by openssl and curl: what they make works, is closed to others, and is
//! never replaced unasked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "a test starts programs")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::{Agent, Home, exchange, program};

fn run(home: &Home, arguments: &[&str]) -> Output {
    program(&home.0).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What the program printed when it did what it should, without a word to stderr.
fn printed(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert_eq!((output.status.code(), err(&output)), (Some(0), ""), "{arguments:?}");
    out(&output).to_owned()
}

/// What it complained about.
fn complaint(home: &Home, arguments: &[&str], code: i32) -> String {
    let output = run(home, arguments);
    assert_eq!((output.status.code(), out(&output)), (Some(code), ""), "{arguments:?}");
    err(&output).to_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Names of the files in a directory, hidden ones too.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a tool of the machine says, which must be content.
fn tool(home: &Home, command: &str) -> String {
    let output = Command::new("sh")
        .args(["-euc", command])
        .current_dir(&home.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}{}", out(&output), err(&output));
    out(&output).to_owned()
}

#[test]
fn a_token_goes_to_stdout_alone_and_the_advice_elsewhere() {
    let home = Home::new();
    let output = run(&home, &["token", "new", "phone"]);
    assert_eq!(output.status.code(), Some(0));
    let token = out(&output).strip_suffix('\n').unwrap();
    let body = token.strip_prefix("tl_").unwrap();
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    assert!(body.len() == 43 && body.bytes().all(is_letter), "{token}");
    assert!(err(&output).contains("[callers.phone]\n"), "{}", err(&output));
    assert!(!err(&output).contains(body));
    assert!(files(&home.0).is_empty());
    assert_ne!(run(&home, &["token", "new", "phone"]).stdout, output.stdout);
}

#[test]
fn a_token_file_is_closed_and_its_token_is_printed_nowhere() {
    let home = Home::new();
    let said = printed(
        &home,
        &["token", "new", "phone", "--file", "my \"phone\".token", "--rights", "tasks,card"],
    );
    let file = home.0.join("my \"phone\".token");
    let token = std::fs::read_to_string(&file).unwrap();
    assert_eq!((mode(&file), token.len()), (0o600, 47));
    assert!(token.starts_with("tl_") && token.ends_with('\n'));
    assert!(!said.contains(token.trim()), "{said}");
    // The path is whole and fit for the configuration, the name fit for a shell.
    let path = home.0.to_str().unwrap();
    let wanted = format!(
        "    [callers.phone]\n    token-file = \"{path}/my \\\"phone\\\".token\"\n    rights = \"tasks,card\"\n"
    );
    assert!(said.contains(&wanted), "{said}");
    assert!(said.contains("tetherlet send --token-file 'my \"phone\".token' http://HOST:4097"));
    assert!(said.contains("curl -H \"Authorization: Bearer $(cat 'my \"phone\".token')\""));
    let said = complaint(&home, &["token", "new", "--file", "my \"phone\".token"], 1);
    assert!(said.contains("exists; --force replaces it"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
    printed(&home, &["token", "new", "--force", "--file", "my \"phone\".token"]);
    assert_ne!(std::fs::read_to_string(&file).unwrap(), token);
    assert_eq!((mode(&file), files(&home.0).len()), (0o600, 1));
}

#[test]
fn the_lines_it_prints_let_the_caller_in_and_nobody_else() {
    let home = Home::new();
    let said = printed(&home, &["token", "new", "phone", "--file", "phone.token"]);
    let lines: String = said
        .lines()
        .skip_while(|line| !line.contains("[callers.phone]"))
        .map_while(|line| line.strip_prefix("    "))
        .flat_map(|line| [line, "\n"])
        .collect();
    let file = home.file("agent.toml", &lines).to_str().unwrap().to_owned();
    let token = std::fs::read_to_string(home.0.join("phone.token")).unwrap();
    let agent = Agent::start_in(home, &["--config", &file], &[]);
    let status = |proof: &str| {
        let head =
            format!("GET /tasks HTTP/1.1\r\nHost: {}\r\nA2A-Version: 1.0\r\n", agent.address);
        exchange(agent.address, format!("{head}Connection: close\r\n{proof}\r\n").as_bytes()).status
    };
    assert_eq!(status(&format!("Authorization: Bearer {}\r\n", token.trim())), 200);
    assert_eq!(status("Authorization: Bearer tl_other\r\n"), 401);
    assert_eq!(status(""), 401);
}

#[test]
fn wrong_usage_names_what_is_wrong_and_writes_nothing() {
    let home = Home::new();
    let usage: &[(&[&str], &str)] = &[
        (&["token"], "`tetherlet token new`"),
        (&["token", "nwe"], "did you mean `token new`?"),
        (&["token", "new", "a", "b"], "b"),
        (&["token", "new", "My Phone"], "'My Phone': a caller's name is"),
        (&["token", "new", "--rights", "all"], "all: must be a list of tasks, push, card, status"),
        (&["token", "new", "1a"], "a caller's name is"),
        (&["cert"], "`tetherlet cert self-signed`"),
        (&["cert", "self-singed"], "did you mean `cert self-signed`?"),
        (&["cert", "--out", "x"], "`tetherlet cert self-signed`"),
        (&["cert", "self-signed", "a b"], "'a b' is neither a host name nor an address"),
        (&["cert", "self-signed", "spiffe://home/box"], "is neither a host name nor an address"),
        (&["cert", "self-signed", "--ip", "box"], "--ip: box is no address"),
        (&["cert", "self-signed", "--days", "0"], "--days: must be 1 to 36525"),
        (&["cert", "self-signed", "--days", "soon"], "soon"),
        (&["cert", "self-signed", "--client", "a", "b"], "--client: a client has one name"),
        (&["cert", "self-signed", "--client", ""], "'' is neither a host name nor an address"),
        (&["tokne"], "did you mean `token`?"),
    ];
    for (arguments, wanted) in usage {
        let said = complaint(&home, arguments, 2);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("box{number}")).collect();
    let many: Vec<&str> =
        ["cert", "self-signed"].into_iter().chain(many.iter().map(String::as_str)).collect();
    assert!(complaint(&home, &many, 2).contains("at most 64 names"));
    for arguments in [
        &["token", "new", "--file", "no/such/place"][..],
        &["cert", "self-signed", "--out", "no/such"],
    ] {
        let said = complaint(&home, arguments, 1);
        assert!(said.contains("cannot write") && said.contains("make its directory first"));
    }
    assert!(files(&home.0).is_empty());
}

#[test]
fn openssl_reads_the_certificate_as_it_was_meant() {
    let home = Home::new();
    let said =
        printed(&home, &["cert", "self-signed", "Box.lan", "192.0.2.7", "--ip", "2001:db8::7"]);
    assert_eq!(
        (mode(&home.0.join("key.pem")), files(&home.0)),
        (0o600, vec!["cert.pem".to_owned(), "key.pem".to_owned()])
    );
    let text = tool(&home, "openssl x509 -in cert.pem -noout -text");
    for wanted in [
        "Version: 3 (0x2)",
        "Issuer: CN = Box.lan",
        "Subject: CN = Box.lan",
        "Not Before: Jan  1 00:00:00 1970 GMT",
        "NIST CURVE: P-256",
        "DNS:Box.lan, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7\n",
        "TLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let same = tool(
        &home,
        "openssl verify -x509_strict -CAfile cert.pem -purpose sslserver cert.pem
         openssl verify -attime 1 -CAfile cert.pem -verify_hostname box.lan cert.pem
         openssl verify -CAfile cert.pem -verify_ip 2001:db8::7 cert.pem
         openssl pkey -in key.pem -check -noout
         openssl x509 -in cert.pem -noout -checkend $((3650 * 86400))
         openssl x509 -in cert.pem -noout -fingerprint -sha256 | cut -d= -f2
         openssl pkey -in key.pem -pubout -outform der | openssl dgst -sha256 -binary | base64
         openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform der |
            openssl dgst -sha256 -binary | base64",
    );
    let lines: Vec<&str> = same.lines().collect();
    let [.., fingerprint, of_key, of_certificate] = lines[..] else { panic!("{same}") };
    assert_eq!(of_key, of_certificate);
    assert!(said.contains(&format!("\nSHA-256 fingerprint {fingerprint}\n")), "{said}");
    assert!(said.contains(&format!("\npublic key sha256/{of_key}\n")), "{said}");
    let key = std::fs::read_to_string(home.0.join("key.pem")).unwrap();
    assert!(!said.contains(key.lines().nth(1).unwrap()));
    let trust = format!("tetherlet trust --fingerprint sha256/{of_key} https://Box.lan:4097\n");
    assert!(said.contains(&trust), "{said}");
}

#[test]
fn without_names_the_certificate_is_for_this_machine() {
    let home = Home::new();
    printed(&home, &["cert", "self-signed"]);
    let names = tool(&home, "openssl x509 -in cert.pem -noout -ext subjectAltName");
    for wanted in [".local", "DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1"]
    {
        assert!(names.contains(wanted), "{wanted}: {names}");
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(names.contains(&format!("DNS:{}", host.trim().to_ascii_lowercase())), "{names}");
}

#[test]
fn a_pair_is_replaced_as_a_pair_and_only_with_force() {
    let home = Home::new();
    home.file("cert.pem", "mine");
    let said = complaint(&home, &["cert", "self-signed"], 1);
    assert!(said.contains("cert.pem exists; --force replaces it"), "{said}");
    assert_eq!(files(&home.0), ["cert.pem"]);
    assert_eq!(std::fs::read_to_string(home.0.join("cert.pem")).unwrap(), "mine");
    printed(&home, &["cert", "self-signed", "--force", "box"]);
    tool(&home, "openssl verify -CAfile cert.pem cert.pem");
    assert_eq!((files(&home.0).len(), mode(&home.0.join("key.pem"))), (2, 0o600));
}

/// A server of openssl's; killed when dropped.
struct Served {
    child: Child,
    port: String,
}

impl Served {
    fn new(home: &Home, options: &str) -> Self {
        // Only this end of the pipe is line by line: openssl flushes the line with the port.
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www"])
            .args(options.split(' '))
            .current_dir(&home.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("ACCEPT")));
        let line = line.unwrap().unwrap();
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: line.rsplit(':').next().unwrap().to_owned() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn curl_trusts_a_server_with_the_certificate_and_its_pin_and_nobody_else() {
    let home = Home::new();
    let said = printed(&home, &["cert", "self-signed"]);
    let pin = said.lines().find_map(|line| line.strip_prefix("public key sha256/")).unwrap();
    let server = Served::new(&home, "-cert cert.pem -key key.pem");
    let url = |host: &str| format!("https://{host}:{}/", server.port);
    let get = "curl -sS --noproxy '*' -m 20 -o page -w '%{http_code}'";
    for host in ["localhost", "127.0.0.1"] {
        let command =
            format!("{get} --cacert cert.pem --pinnedpubkey 'sha256//{pin}' {}", url(host));
        assert_eq!(tool(&home, &command), "200");
    }
    // Another name, nobody's certificate, and a certificate of the same name with another key.
    let other = home.0.join("other");
    std::fs::create_dir(&other).unwrap();
    printed(&home, &["cert", "self-signed", "--out", "other"]);
    for (options, code) in [
        (
            format!(
                "--cacert cert.pem --resolve no.lan:{0}:127.0.0.1 {1}",
                server.port,
                url("no.lan")
            ),
            60,
        ),
        (format!("--cacert other/cert.pem {}", url("localhost")), 60),
        (url("localhost"), 60),
    ] {
        let command = format!("{get} {options} 2>&1 || echo \" exit $?\"");
        let said = tool(&home, &command);
        assert!(said.ends_with(&format!(" exit {code}\n")), "{command}: {said}");
    }
}

#[test]
fn the_fingerprint_it_prints_is_the_one_that_trust_takes() {
    let home = Home::new();
    let said = printed(&home, &["cert", "self-signed"]);
    let pin = said.lines().find_map(|line| line.strip_prefix("public key ")).unwrap();
    let print = said.lines().find_map(|line| line.strip_prefix("SHA-256 fingerprint ")).unwrap();
    let server = Served::new(&home, "-cert cert.pem -key key.pem");
    let url = format!("https://localhost:{}", server.port);
    let trusted = |fingerprint: &str| {
        let mut command = program(&home.0);
        command.args(["trust", "--fingerprint", fingerprint, &url]);
        command.env("TETHERLET_OUTBOUND_PINS_FILE", home.0.join("pins"));
        command.stdin(Stdio::null()).output().unwrap().status.success()
    };
    assert!(!trusted(&pin.replacen("sha256/", "sha256/A", 1)));
    assert!(!home.0.join("pins").exists());
    assert!(trusted(pin) && trusted(print));
    assert!(std::fs::read_to_string(home.0.join("pins")).unwrap().contains(pin));
}

#[test]
fn a_client_is_known_by_its_certificate() {
    let home = Home::new();
    printed(&home, &["cert", "self-signed"]);
    let said = printed(&home, &["cert", "self-signed", "--client", "spiffe://home/phone"]);
    assert!(said.contains("    certificate = \"spiffe://home/phone\"\n"), "{said}");
    assert!(said.contains("    client-ca-file = "), "{said}");
    assert_eq!(mode(&home.0.join("client-key.pem")), 0o600);
    let text = tool(&home, "openssl x509 -in client-cert.pem -noout -text");
    assert!(text.contains("URI:spiffe://home/phone\n"), "{text}");
    assert!(text.contains("                TLS Web Client Authentication\n"), "{text}");
    let said = printed(&home, &["cert", "self-signed", "--client", "phone", "--force"]);
    assert!(said.contains("    [callers.phone]\n    certificate = \"phone\"\n"), "{said}");
    let server = Served::new(
        &home,
        "-cert cert.pem -key key.pem -Verify 1 -CAfile client-cert.pem -verify_return_error",
    );
    let get = format!(
        "curl -sS --noproxy '*' -m 20 -o page -w '%{{http_code}}' --cacert cert.pem https://localhost:{}/",
        server.port
    );
    let known = format!("{get} --cert client-cert.pem --key client-key.pem");
    assert_eq!(tool(&home, &known), "200");
    let unknown = tool(&home, &format!("{get} 2>&1 || echo refused"));
    assert!(unknown.ends_with("refused\n"), "{unknown}");
}
