//! A client of other A2A agents: versions 0.3 and 1.0, each over JSON-RPC and over REST (HTTP+JSON), as the agent's
//! card says. The command line uses it, and other programs can.
//!
//! Calls block, on one connection that is kept between them. A reply, and each event of a stream, may have 8 MiB and
//! hold 65,536 parts, messages and tasks; a card may have 1 MiB. Every read waits at most 15 minutes, for a card half
//! a minute. Redirects are not followed, and [`Credentials`] go nowhere but to the scheme, host and port given.
//!
//! ```
//! use tetherlet::outbound::client::{Client, ClientError, Event, Outgoing};
//!
//! fn main() -> Result<(), ClientError> {
//!     # let url = agent();
//!     // let url = "http://127.0.0.1:4097";
//!     let client = Client::connect(&url)?;
//!     let reply = client.send(&Outgoing::text("Calculate 25 * 4"))?;
//!     assert_eq!(reply.text(), "100");
//!
//!     for event in client.stream(&Outgoing::text("Calculate 25 * 4"))? {
//!         if let Event::Artifact(piece) = event? {
//!             print!("{}", piece.artifact.text());
//!         }
//!     }
//!     Ok(())
//! }
//! # // An agent that answers these three requests.
//! # fn agent() -> String {
//! #     use std::io::{BufRead, BufReader, Read, Write};
//! #     let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! #     let url = format!("http://{}", listener.local_addr().unwrap());
//! #     let card = format!(r#"{{"name":"box","supportedInterfaces":[
//! #         {{"url":"{url}/rpc","protocolBinding":"JSONRPC","protocolVersion":"1.0"}}]}}"#);
//! #     let artifact = r#""artifactId":"a","parts":[{"text":"100"}]"#;
//! #     let task = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"task":{{"id":"t","contextId":"c",
//! #         "status":{{"state":"TASK_STATE_COMPLETED"}},"artifacts":[{{{artifact}}}]}}}}}}"#);
//! #     let events = format!("data: {{\"result\":{{\"artifactUpdate\":{{\"taskId\":\"t\",\
//! #         \"artifact\":{{{artifact}}}}}}}}}\n\n\
//! #         data: {{\"result\":{{\"statusUpdate\":{{\"taskId\":\"t\",\
//! #         \"status\":{{\"state\":\"TASK_STATE_COMPLETED\"}}}}}}}}\n\n");
//! #     let json = "application/json";
//! #     let replies = [(json, card), (json, task), ("text/event-stream", events)];
//! #     std::thread::spawn(move || {
//! #         let mut stream = BufReader::new(listener.accept().unwrap().0);
//! #         for (media_type, reply) in replies {
//! #             let (mut line, mut length) = (String::new(), 0);
//! #             while stream.read_line(&mut line).unwrap() > 2 {
//! #                 if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
//! #                     length = value.trim().parse().unwrap();
//! #                 }
//! #                 line.clear();
//! #             }
//! #             stream.read_exact(&mut vec![0; length]).unwrap();
//! #             write!(stream.get_mut(), "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n\
//! #                 Content-Length: {}\r\n\r\n{reply}", reply.len()).unwrap();
//! #         }
//! #     });
//! #     url
//! # }
//! ```
//!
//! [`Client::call`] and [`Events::next_raw`] give what the agent sent as JSON. Which of the interfaces on a card is
//! used, and when its URL is not: [`AgentCard::choose`].

mod card;
mod credentials;
mod error;
mod events;
mod members;
mod types;
mod wire;

use std::io::Read;
use std::time::Duration;

use ureq::http::Response;
use ureq::http::header::{HeaderName, HeaderValue};
use ureq::{Agent, Body};

pub use crate::outbound::client::card::{
    AgentCard, AgentSkill, Binding, Interface, Offer, Version, Wanted,
};
pub use crate::outbound::client::credentials::{Credentials, origin};
pub use crate::outbound::client::error::ClientError;
pub use crate::outbound::client::events::Events;
pub use crate::outbound::client::types::{
    Artifact, ArtifactUpdate, Content, Event, Message, Page, Part, Raw, Reply, Role, State, Status,
    StatusUpdate, Task, joined,
};
pub use crate::outbound::client::wire::{Call, Filter, Outgoing};

use crate::base::clock::Now;
use crate::config::url::Url;
use crate::outbound::client::error::{cut, refusal};
use crate::outbound::client::events::Watch;
use crate::outbound::client::members::Members;
use crate::outbound::failure::Failure;
use crate::outbound::http::{Timeouts, agent};
use crate::outbound::tls::Tls;

/// Bytes of a reply, and of one event.
const REPLY: usize = 8 * 1024 * 1024;
/// Bytes of a card and of other pages.
const PAGE: usize = 1024 * 1024;

/// A task may take its time: this is for one read, and streams show every fifteen seconds that they live.
const READ: Duration = Duration::from_mins(15);
/// For a page as a whole.
const PAGE_WAIT: Duration = Duration::from_secs(30);

/// A line to one agent.
#[derive(Debug)]
pub struct Client {
    /// What was given: pages are below it.
    url: String,
    at: Interface,
    card: Option<AgentCard>,
    /// For `url`.
    pages: Agent,
    /// For `at`; the same where the host is.
    calls: Agent,
    /// What every request carries, and where that was found.
    token: Option<(HeaderName, HeaderValue)>,
    source: String,
    tls: Tls,
}

impl Client {
    /// Fetches the card below `url` and chooses how to talk to the agent. An agent without a card is taken for one of
    /// 0.3 over JSON-RPC at `url`.
    ///
    /// # Errors
    /// `Unusable` for what is no http or https URL, and for a card without an interface that can be used.
    pub fn connect(url: &str) -> Result<Self, ClientError> {
        Self::connect_as(url, &Wanted::default())
    }

    /// [`Client::connect`], restricted to what is wanted.
    ///
    /// # Errors
    /// As [`Client::connect`]; `Unusable` also when the card does not offer what is wanted.
    pub fn connect_as(url: &str, wanted: &Wanted) -> Result<Self, ClientError> {
        Self::connect_with(url, wanted, &Credentials::default())
    }

    /// [`Client::connect_as`], with credentials.
    ///
    /// # Errors
    /// As [`Client::connect_as`]; `Unusable` also where the credentials must not be sent.
    pub fn connect_with(
        url: &str,
        wanted: &Wanted,
        credentials: &Credentials,
    ) -> Result<Self, ClientError> {
        if wanted.tenant.is_some() && wanted.version == Some(Version::V0_3) {
            return Err(ClientError::Unusable("A2A 0.3 has no tenants".to_owned()));
        }
        let mut client = Self::at(url, credentials)?;
        client.at = wanted.assumed(&client.url);
        let card = match client.card_json() {
            Ok(json) => AgentCard::read(&json).map(Some),
            Err(ClientError::Http { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let card = match card {
            Ok(Some(card)) => card,
            Ok(None) => return Ok(client),
            // Everything that the card could tell is known.
            Err(ClientError::Http { .. } | ClientError::Broken(_))
                if wanted.version.is_some() && wanted.binding.is_some() =>
            {
                return Ok(client);
            }
            Err(error) => return Err(error),
        };
        client.at = card.choose(&client.url, wanted)?;
        credentials.stay(&client.url, &client.at.url)?;
        let host = |url| Url::read(url).map(|url: Url<'_>| (url.is_https, url.host.to_owned()));
        if host(&client.at.url) != host(&client.url) {
            client.calls = agent_for(&client.at.url, &credentials.tls);
        }
        client.card = Some(card);
        Ok(client)
    }

    /// A client of 0.3 over JSON-RPC at `url`, without asking for a card. Nothing is sent yet.
    ///
    /// # Errors
    /// `Unusable` for what is no http or https URL, or has a user name, and where the credentials must not be sent.
    pub fn at(url: &str, credentials: &Credentials) -> Result<Self, ClientError> {
        let plain = url.trim_end_matches('/');
        if Url::read(plain).is_none() {
            // A URL may hold a password: it is not repeated.
            let what = "the agent's URL is no http or https URL, or holds a user name";
            return Err(ClientError::Unusable(what.to_owned()));
        }
        let token = credentials.for_url(plain)?;
        let pages = agent_for(plain, &credentials.tls);
        let at = Wanted::default().assumed(plain);
        let (url, calls, source) = (plain.to_owned(), pages.clone(), credentials.source.clone());
        let tls = credentials.tls.clone();
        Ok(Self { url, at, card: None, pages, calls, token, source, tls })
    }

    /// The URL that was given, without `/` at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where and how this client talks.
    pub const fn interface(&self) -> &Interface {
        &self.at
    }

    /// The agent's card, if it has one and was asked for it.
    pub const fn card(&self) -> Option<&AgentCard> {
        self.card.as_ref()
    }

    /// Fetches the card anew, as JSON: from where A2A 0.3 and 1.0 have it, else from where 0.2 had it.
    ///
    /// # Errors
    /// `Http` with status 404 when there is none.
    pub fn card_json(&self) -> Result<String, ClientError> {
        match self.page("/.well-known/agent-card.json") {
            Err(ClientError::Http { status: 404, .. }) => self.page("/.well-known/agent.json"),
            card => card,
        }
    }

    /// Fetches a page below the URL that was given.
    ///
    /// # Errors
    /// `Http` for every status but 200.
    pub fn page(&self, path: &str) -> Result<String, ClientError> {
        let mut request = self.pages.get(format!("{}{path}", self.url));
        if let Some((name, value)) = &self.token {
            request = request.header(name, value);
        }
        let request = request.config().timeout_global(Some(PAGE_WAIT)).build();
        let response = request.call().map_err(|error| unreachable(&self.url, &error))?;
        let status = response.status().as_u16();
        let retry_after = header(&response, "retry-after").map(str::to_owned);
        if let Some(moved) = moved(&response) {
            return Err(moved);
        }
        let body = whole(response, PAGE)?;
        match status {
            200 => Ok(body),
            _ => match refusal(&body, status, retry_after.as_deref(), self.at.version) {
                error @ ClientError::Denied { .. } => Err(self.denied(error)),
                _ => Err(ClientError::Http { status, body: cut(&body) }),
            },
        }
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// Any [`ClientError`]. A task that failed is an answer, not an error.
    pub fn send(&self, message: &Outgoing) -> Result<Reply, ClientError> {
        self.call(&Call::Send(message))?.reply()
    }

    /// Sends a message and gives out what comes as it comes.
    ///
    /// # Errors
    /// Any [`ClientError`] before the first item; later ones come as items.
    pub fn stream(&self, message: &Outgoing) -> Result<Events, ClientError> {
        self.events(&Call::Stream(message))
    }

    /// A task as it stands, with at most so many of its latest messages.
    ///
    /// # Errors
    /// `Refused` with code -32001 when there is none.
    pub fn task(&self, id: &str, history_length: Option<u32>) -> Result<Task, ClientError> {
        self.call(&Call::Get { id, history_length })?.task()
    }

    /// A page of tasks.
    ///
    /// # Errors
    /// `Unusable` over 0.3, which has no lists.
    pub fn tasks(&self, filter: &Filter) -> Result<Page, ClientError> {
        self.call(&Call::List(filter))?.page()
    }

    /// Ends a task.
    ///
    /// # Errors
    /// `Refused` with code -32001 when there is none, with -32002 when it has ended.
    pub fn cancel(&self, id: &str) -> Result<Task, ClientError> {
        self.call(&Call::Cancel { id })?.task()
    }

    /// What happens to a task from now on; with 1.0 the first item is the task as it stands.
    ///
    /// # Errors
    /// `Refused` with code -32001 when there is none, with -32004 (0.3: often -32602) when it has ended.
    pub fn subscribe(&self, id: &str) -> Result<Events, ClientError> {
        self.events(&Call::Subscribe { id })
    }

    /// Makes a call that is answered once; the answer as the agent sent it.
    ///
    /// # Errors
    /// Any [`ClientError`] but `Lost`.
    pub fn call(&self, call: &Call<'_>) -> Result<Raw, ClientError> {
        self.result(self.open(call)?)
    }

    /// Makes a call that is answered with a stream.
    ///
    /// # Errors
    /// Any [`ClientError`] before the first item; later ones come as items.
    pub fn events(&self, call: &Call<'_>) -> Result<Events, ClientError> {
        let asked = Now::read().mono;
        let response = self.open(call)?;
        let is_stream = header(&response, "content-type")
            .is_some_and(|value| value.to_ascii_lowercase().starts_with("text/event-stream"));
        if is_stream {
            let watch = Watch::new(asked, matches!(call, Call::Subscribe { .. }));
            return Ok(Events::stream(response, self.at.clone(), watch));
        }
        // Agents of 0.3 put a refusal into a stream as well. CodeTether's spawn answers a stream's call with one task.
        Ok(Events::one(self.result(response)?, self.at.clone()))
    }

    fn open(&self, call: &Call<'_>) -> Result<Response<Body>, ClientError> {
        call.check()?;
        let Some(mut request) = call.request(&self.at) else {
            let what = "this agent is talked to over A2A 0.3, which has no list of tasks";
            return Err(ClientError::Unusable(what.to_owned()));
        };
        let mut response = self.exchange(&request)?;
        // The prose of A2A 1.0 subscribes with POST, its protocol buffers and the SDK's 0.3 servers with GET.
        if response.status().as_u16() == 405
            && matches!(call, Call::Subscribe { .. })
            && self.at.binding == Binding::Rest
        {
            request.post = false;
            response = self.exchange(&request)?;
        }
        Ok(response)
    }

    fn exchange(&self, request: &wire::Request) -> Result<Response<Body>, ClientError> {
        let accept = "application/json, application/a2a+json, text/event-stream";
        let version = (self.at.version == Version::V1_0).then_some(("a2a-version", "1.0"));
        let sent = if request.post {
            let mut post = self.calls.post(&request.url).header("accept", accept);
            if let Some((name, value)) = version {
                post = post.header(name, value);
            }
            if let Some((name, value)) = &self.token {
                post = post.header(name, value);
            }
            post.header("content-type", "application/json").send(&request.body)
        } else {
            let mut get = self.calls.get(&request.url).header("accept", accept);
            if let Some((name, value)) = version {
                get = get.header(name, value);
            }
            if let Some((name, value)) = &self.token {
                get = get.header(name, value);
            }
            get.call()
        };
        sent.map_err(|error| unreachable(&self.at.url, &error))
    }

    fn result(&self, response: Response<Body>) -> Result<Raw, ClientError> {
        let status = response.status().as_u16();
        let retry_after = header(&response, "retry-after").map(str::to_owned);
        if let Some(moved) = moved(&response) {
            return Err(moved);
        }
        let body = whole(response, REPLY)?;
        let result = result_of(&body, status, retry_after.as_deref(), &self.at);
        result.map_err(|error| self.denied(error))
    }

    /// A refusal for want of credentials says which were shown.
    fn denied(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Denied { status, message, retry_after_s, .. } => {
                let sent = self.token.is_some().then(|| self.source.clone());
                let unasked = status == 401 && self.tls.has_identity() && !self.tls.was_asked();
                ClientError::Denied { status, message, sent, unasked, retry_after_s }
            }
            other => other,
        }
    }
}

/// The error for a redirect: whoever follows it gives away what was meant for the first.
fn moved(response: &Response<Body>) -> Option<ClientError> {
    let status = response.status().as_u16();
    let to = header(response, "location").filter(|_| (300..400).contains(&status))?;
    Some(ClientError::Moved { status, to: cut(to) })
}

/// The result in a reply's body, or in an event of a stream.
fn result_of(
    body: &str,
    status: u16,
    retry_after: Option<&str>,
    at: &Interface,
) -> Result<Raw, ClientError> {
    let members = Members::read(body);
    let member = |name: &str| members.as_ref().and_then(|members| members.raw(&[name]));
    let result = match at.binding {
        Binding::JsonRpc if member("error").is_none() => member("result"),
        Binding::Rest if (200..300).contains(&status) && member("error").is_none() => {
            members.is_some().then_some(body)
        }
        Binding::JsonRpc | Binding::Rest => None,
    };
    match result {
        Some(result) => Ok(Raw::new(result, at.version, at.binding)),
        None => Err(refusal(body, status, retry_after, at.version)),
    }
}

fn agent_for(url: &str, tls: &Tls) -> Agent {
    let (connect, write) = (Duration::from_secs(10), Duration::from_secs(30));
    agent(url, Timeouts { connect, read: READ, write }, tls)
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

fn unreachable(url: &str, error: &ureq::Error) -> ClientError {
    ClientError::Connect { url: url.to_owned(), why: Failure::of(error) }
}

fn whole(mut response: Response<Body>, limit: usize) -> Result<String, ClientError> {
    let mut bytes = Vec::new();
    response
        .body_mut()
        .as_reader()
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ClientError::Broken(error.to_string()))?;
    if bytes.len() > limit {
        return Err(ClientError::Broken(format!("longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| ClientError::Broken("not UTF-8".to_owned()))
}
