//! Starts the real program and talks to it over sockets, byte by byte where a test needs that.
//!
//! No sleeps and no fixed ports: tests wait for a line, an event or an end of file, each with a deadline that is
//! far above what they expect.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::must_use_candidate,
    reason = "every test file uses its own part of this, and a test may do what the program may not"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for anything that must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The program under test, with an environment of its own: nothing of the machine's settings reaches it.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tetherlet"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).current_dir(home);
    command
}

/// A fresh directory, removed when dropped.
#[derive(Debug)]
pub struct Home(pub PathBuf);

impl Home {
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("tetherlet-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file readable by its owner alone and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    pub address: SocketAddr,
    pub home: Home,
    child: Child,
    lines: Receiver<String>,
    pub log: String,
}

impl Agent {
    /// `tetherlet run --port 0` with these further arguments and variables.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_in(Home::new(), arguments, variables)
    }

    /// An agent with this configuration.
    pub fn configured(toml: &str, variables: &[(&str, &str)]) -> Self {
        let home = Home::new();
        let file = home.file("agent.toml", toml);
        let file = file.to_str().unwrap().to_owned();
        Self::start_in(home, &["--config", &file], variables)
    }

    /// The same with this home directory; what it says on standard output is in the file `stdout` there.
    pub fn start_in(home: Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let flags = ["run", "--port", "0", "--log-level", "debug"];
        Self::start_as(home, &[&flags, arguments].concat(), variables)
    }

    /// An agent with exactly these arguments; it must say where it listens.
    pub fn start_as(home: Home, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let stdout = std::fs::File::create(home.0.join("stdout")).unwrap();
        let mut child = program(&home.0)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let address = ([0, 0, 0, 0], 0).into();
        let mut agent = Self { address, home, child, lines, log: String::new() };
        let line = agent.wait_for("listening on http");
        let address = line.rsplit("://").next().unwrap();
        agent.address = address.trim().trim_end_matches(['"', '}']).parse().unwrap();
        agent
    }

    /// Waits for a log line that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.log.push_str(&line);
                    self.log.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no log line with {text:?} ({error}); log:\n{}", self.log),
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end and returns the exit status and everything that was logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + DEADLINE;
        let mut log = std::mem::take(&mut self.log);
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            log.push_str(&line);
            log.push('\n');
        }
        assert!(Instant::now() < end, "the agent did not end; log:\n{log}");
        (self.child.wait().unwrap(), log)
    }

    /// SIGTERM, then [`Agent::wait`].
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Calls a JSON-RPC method and returns the whole reply.
    pub fn rpc(&self, method: &str, params: Value) -> Value {
        let reply = self.post("/", &request(method, params));
        // A stream that was refused.
        let text = reply.body.strip_prefix("data: ").unwrap_or(&reply.body);
        serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {reply:?}"))
    }

    /// Calls a method that succeeds and returns its result.
    pub fn result(&self, method: &str, params: Value) -> Value {
        let mut reply = self.rpc(method, params);
        assert!(reply["error"].is_null(), "{reply}");
        reply["result"].take()
    }

    /// Sends a text and waits for the task.
    pub fn send(&self, text: &str) -> Value {
        self.result("message/send", message(text))
    }

    /// Opens an event stream.
    pub fn stream(&self, method: &str, params: Value) -> Events {
        Events::open(self.address, &request(method, params))
    }

    pub fn get(&self, path: &str) -> Reply {
        exchange(
            self.address,
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)
                .as_bytes(),
        )
    }

    pub fn post(&self, path: &str, body: &str) -> Reply {
        exchange(self.address, post_bytes(self.address, path, body).as_bytes())
    }

    /// `tetherlet status --json`'s object.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status.json").body).unwrap()
    }

    /// Runs the program as a client of this agent.
    pub fn run(&self, arguments: &[&str]) -> Output {
        program(&self.home.0)
            .args(arguments)
            .env("TETHERLET_URL", self.url())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A JSON-RPC request with id 1.
pub fn request(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

/// `message/send` params with one text part.
pub fn message(text: &str) -> Value {
    json!({"message": {"kind": "message", "messageId": "m", "role": "user",
        "parts": [{"kind": "text", "text": text}]}})
}

/// The text of a task's first artifact.
pub fn reply_of(task: &Value) -> &str {
    task["artifacts"][0]["parts"][0]["text"].as_str().unwrap_or_default()
}

/// The bytes of a JSON POST on a connection of its own.
pub fn post_bytes(address: SocketAddr, path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// An HTTP reply.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    /// Reads what a server sent on one connection until it closed it; empty when it sent nothing.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// Connects with a deadline on every read and write.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends bytes and reads until the other side closes.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Reply {
    exchange_on(connect(address), bytes)
}

/// The same on a connection that is open already.
pub fn exchange_on(mut stream: TcpStream, bytes: &[u8]) -> Reply {
    // A server may refuse and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    Reply::parse(&reply)
}

/// An open event stream.
#[derive(Debug)]
pub struct Events {
    reader: BufReader<TcpStream>,
    /// Status line and headers, in lower case.
    pub head: String,
}

impl Events {
    pub fn open(address: SocketAddr, body: &str) -> Self {
        let mut stream = connect(address);
        stream.write_all(post_bytes(address, "/", body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "no head: {head}");
        }
        Self { reader, head: head.to_ascii_lowercase() }
    }

    /// The next event's JSON-RPC result, or `None` at the end of the stream.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("an event in time") == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let mut reply: Value = serde_json::from_str(data.trim_end()).unwrap();
                assert!(reply["error"].is_null(), "{reply}");
                return Some(reply["result"].take());
            }
        }
    }

    /// Everything up to the end of the stream.
    pub fn rest(mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Leaves without a word.
    pub fn hang_up(self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// Text of all artifact pieces in a list of events.
pub fn streamed(events: &[Value]) -> String {
    events
        .iter()
        .filter(|event| event["kind"] == "artifact-update")
        .flat_map(|event| event["artifact"]["parts"].as_array().cloned().unwrap_or_default())
        .filter_map(|part| part["text"].as_str().map(str::to_owned))
        .collect()
}
