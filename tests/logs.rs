//! What the log does when nobody reads it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests fail the test, as everything else here does, and may have threads"
)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use support::{Home, exchange, message, post_bytes, program, reply_of, request};

/// An agent whose log nobody reads further than to where it listens; killed when dropped.
struct Unread<R> {
    child: Child,
    address: SocketAddr,
    log: Option<BufReader<R>>,
    _home: Home,
}

impl<R: Read> Unread<R> {
    /// Its log goes to `theirs`, of which `ours` is the other end.
    fn start(ours: R, theirs: OwnedFd) -> Self {
        let home = Home::new();
        let child = program(&home.0)
            .args(["run", "--port", "0", "--log-level", "debug"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let (address, log) = (([0, 0, 0, 0], 0).into(), BufReader::with_capacity(64, ours));
        let mut agent = Self { child, address, log: Some(log), _home: home };
        let mut line = String::new();
        while !line.contains("listening on http://") {
            line.clear();
            assert!(agent.log.as_mut().unwrap().read_line(&mut line).unwrap() > 0);
        }
        agent.address = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
        agent
    }

    /// A request that leaves a line in the log.
    fn call(&self) -> u16 {
        let request = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        exchange(self.address, request).status
    }
}

impl<R> Drop for Unread<R> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fills a log several times over, and reads it then.
fn fill(ours: impl Read + Send + 'static, theirs: OwnedFd) {
    let mut agent = Unread::start(ours, theirs);
    for _ in 0..5000 {
        assert_eq!(agent.call(), 404);
    }
    let body = request("message/send", message("25*4"));
    let reply = exchange(agent.address, post_bytes(agent.address, "/", &body).as_bytes());
    assert_eq!(reply_of(&reply.json()["result"]), "100");
    let (sender, lines) = std::sync::mpsc::channel();
    let log = agent.log.take().unwrap();
    let reader = std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let (mut whole, mut lost) = (0, 0);
    while lost == 0 {
        // There is room again: the next line says how many found none.
        assert_eq!(agent.call(), 404);
        for line in lines.try_iter() {
            assert!(line.starts_with("20") && line.contains("Z "), "{line}");
            whole += 1;
            if let Some((before, _)) = line.split_once(" lines of the log are lost") {
                lost = before.rsplit(' ').next().unwrap().parse().unwrap();
            }
        }
    }
    assert!(lost > 100 && whole > 100, "{lost} lost, {whole} read");
    drop(agent);
    reader.join().unwrap();
}

#[test]
fn a_pipe_that_nobody_reads_does_not_stop_the_agent() {
    let (ours, theirs) = std::io::pipe().unwrap();
    fill(ours, theirs.into());
}

#[test]
fn a_socket_that_nobody_reads_does_not_stop_the_agent() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    fill(ours, theirs.into());
}

#[test]
fn a_log_whose_reader_has_gone_does_not_stop_the_agent() {
    let (ours, theirs) = std::io::pipe().unwrap();
    let mut agent = Unread::start(ours, theirs.into());
    agent.log = None;
    for _ in 0..10 {
        assert_eq!(agent.call(), 404);
    }
}
