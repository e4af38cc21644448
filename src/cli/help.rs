//! The help texts. Every flag that a command takes stands here; a test compares.

/// `tetherlet --help`
pub const HELP: &str = "\
tetherlet: an A2A agent for small boxes

usage: tetherlet [COMMAND] [OPTIONS]

  run                   start the agent (the default) on 127.0.0.1:4097
  spawn                 start it on a port that the system chooses
  send [URL] TEXT       send a message and print the reply (TEXT - reads standard input)
  get [URL] ID          print a task
  list [URL]            print the agent's tasks, one a line
  cancel [URL] ID       end a task
  subscribe [URL] ID    print a task as it goes on
  card [URL]            print an agent card, or verify its signatures
  status [URL]          what the agent does: tasks, memory, model, warnings
  trust URL             look at a server's certificate and pin its key
  check-config [FILE]   all problems of a configuration at once, and the memory it may take
  token new [NAME]      make a token for a caller
  cert self-signed      make a key and a certificate for this machine, or for a client
  help COMMAND          the options of a command

Without URL the agent of this machine is meant (TETHERLET_URL, else listen.host and listen.port
of the configuration).

Try it, in two terminals:
  tetherlet run
  tetherlet send 'Calculate 25 * 4'
and with a model for what no skill takes:
  OPENAI_API_KEY=... tetherlet run
  tetherlet send --stream 'Explain mDNS in two sentences.'

Configuration: /etc/tetherlet/tetherlet.toml, /etc/tetherlet/conf.d/*.toml, then
$XDG_CONFIG_HOME/tetherlet/tetherlet.toml; environment variables TETHERLET_SECTION_KEY over
them, options over all. Keys of providers come from their usual variables (OPENAI_API_KEY,
ANTHROPIC_API_KEY, ...), from VARIABLE_FILE, or from systemd credentials.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

const RUN: &str = "\
usage: tetherlet run [OPTIONS] [-- PROJECT]
       tetherlet spawn [OPTIONS] [-- PROJECT]

Starts the agent in the foreground; spawn takes a port that the system chooses. The log says
`listening on http://ADDRESS:PORT` once it listens, https with tls.cert-file. SIGTERM and Ctrl-C
let running tasks finish.
SIGHUP reads files, environment and options again: what is wrong is logged and changes nothing,
what needs a restart is named in the log and in `tetherlet status`.

  -n, --name NAME          the agent's name (default: HOST-DIRECTORY-PID)
      --hostname ADDRESS   where to listen (default: 127.0.0.1)
  -p, --port PORT          0 lets the system choose (default: 4097, spawn: 0)
      --public-url URL     the URL on the card (default: from the listening address)
  -d, --description TEXT   the description on the card
      --model MODEL        provider/model for what no skill takes (default: the one provider
                           that has a key)
      --trust-lan          listen beyond loopback without authentication
      --state-dir DIR      keep state here, mode 0700 (default: STATE_DIRECTORY, else none)
      --config FILE        read this file instead of the usual ones (or TETHERLET_CONFIG)
      --log-level LEVEL    error, warn, info, debug or trace (default: info)
      --log-format FORMAT  auto, human, journal or json (default: auto)
      --print-logs         accepted for CodeTether's sake: logs always go to stderr
  PROJECT                  the directory to work in (default: the current one)";

/// What every command takes that reaches an agent.
macro_rules! reach {
    () => {
        "      --token-file F  the token to show, in a file of mode 600 (or in TETHERLET_TOKEN,
                      TETHERLET_TOKEN_FILE, A2A_API_KEY or a systemd credential tetherlet_token)
      --ca FILE       trust these certificates as well (PEM); see also `tetherlet help trust`
      --cert FILE     show this client certificate (PEM), with its key in the same file
      --config FILE   where the local agent's address, and whom to trust, is read from"
    };
}

/// What every command takes that calls an agent.
macro_rules! wire {
    () => {
        concat!(
            "      --protocol V    speak A2A 0.3 or 1.0 (default: 1.0 if the agent's card has it)
      --binding B     jsonrpc or rest (default: jsonrpc if the agent's card has it)
      --tenant NAME   which of several agents behind one URL is meant; 1.0 only
",
            reach!(),
            "
      --key FILE      the client certificate's key, if it is in another file"
        )
    };
}

const SEND: &str = concat!(
    "\
usage: tetherlet send [OPTIONS] [URL] TEXT

Sends TEXT and prints the reply; TEXT - reads standard input. Exit code 1 when the task neither
completed nor asked for input.

      --stream        print the reply as it is written
      --json          print the task, or with --stream each event, as the agent wrote it, one a
                      line
      --skill ID      choose a skill of the agent's card, for example calculator
      --context ID    the conversation this message belongs to
      --task ID       the task that asked for input
",
    wire!()
);

const GET: &str = concat!(
    "\
usage: tetherlet get [OPTIONS] [URL] ID
       tetherlet cancel [OPTIONS] [URL] ID
       tetherlet subscribe [OPTIONS] [URL] ID

Prints a task as it stands; cancel ends it first, subscribe goes on printing until it has ended.
Exit code 1 when there is no such task; for cancel, when it has ended already; for subscribe, as
for send.

      --json          print the task, for subscribe each event, as the agent wrote it, one a line
",
    wire!()
);

const LIST: &str = concat!(
    "\
usage: tetherlet list [OPTIONS] [URL]

Prints the agent's tasks, the latest first: id, state, time, and the first line of the reply or of
the message. A2A 0.3 has no lists: the agent must speak 1.0.

      --json          print each task as the agent wrote it, one a line
      --context ID    only tasks of this conversation
      --status STATE  only tasks in this state, for example working or input-required
      --limit N       at most so many (default: 50)
",
    wire!()
);

const CARD: &str = concat!(
    "\
usage: tetherlet card [URL]
       tetherlet card --verify [--key FILE] [URL]

Prints the agent card, as JSON, or says which of its signatures hold, what they cover, and by
which key. Exit code 1 when the card is not signed, or no signature holds.

      --verify        check the signatures (ES256, EdDSA, RS256)
      --key FILE      with this public key: PEM (Ed25519, P-256) or a JWK set. Without it the key
                      comes from the card's own host, which shows that the card is whole, not
                      whose it is
      --json          accepted: a card is always JSON
",
    reach!(),
    "

To sign the card of an agent, make a key and name it as card.key-file of the configuration:
  openssl genpkey -algorithm ed25519 -out card.key
  openssl pkey -in card.key -pubout -out card.pub    (for others, as their FILE)"
);

const STATUS: &str = "\
usage: tetherlet status [--json] [URL]
       tetherlet status --config

Prints what the running agent does. Exit code 1 when none answers.

      --json          the same as one JSON object
      --token-file F  the token to show, in a file of mode 600 (or in TETHERLET_TOKEN, ...)
      --ca FILE       trust these certificates as well (PEM)
      --cert FILE     show this client certificate (PEM), with its key in the same file
      --key FILE      or in this one
      --config        instead print every setting, its value and where it came from, as `run`
                      would read them now (TETHERLET_CONFIG names another file)";

const TRUST: &str = "\
usage: tetherlet trust [OPTIONS] https://HOST[:PORT]

Shows the certificate of a server and, once you have compared it, pins its key: HOST then has that
one key at that port, whatever name, dates or issuer its certificate bears, and any other key is
refused. Nothing but a TLS handshake is sent. Pins are kept in /etc/tetherlet/pins by root, else in
~/.config/tetherlet/pins (outbound.pins-file names another place).

      --fingerprint X  do not ask: pin the key if it is X, sha256/BASE64 of the key or the SHA-256
                       of the certificate as `openssl x509 -noout -fingerprint -sha256` prints it
      --yes            do not ask: trust what is there
      --list           print the pins
      --remove         forget the pin of HOST:PORT
      --config FILE    read this configuration in place of the usual ones";

const CHECK: &str = "\
usage: tetherlet check-config [FILE]

Reads the configuration as `run` would, or only FILE, and prints every problem at once as
FILE:LINE:COLUMN: key: rule. Exit code 2 when there is one; otherwise prints the memory table.

      --config FILE   the same as FILE";

const TOKEN: &str = "\
usage: tetherlet token new [OPTIONS] [NAME]

Makes a token for the caller NAME (default: client) and prints it, or writes it to a file; then
says what to put into the agent's configuration, and how the caller uses it. Without --file only
the token goes to standard output, so that $(tetherlet token new) works.

      --file FILE     write it there, mode 0600, and print where instead
      --rights LIST   what the caller may do, for the configuration line: any of tasks, push,
                      card, status, parted by commas (default: all)
      --force         replace FILE if it exists";

const CERT: &str = "\
usage: tetherlet cert self-signed [OPTIONS] [NAME...]
       tetherlet cert self-signed --client NAME [OPTIONS]

Makes a P-256 key and a certificate signed with it, as key.pem (mode 0600) and cert.pem, and
says what to put into the configuration and how callers trust it. NAME is a host name or address
under which callers reach this machine (default: the host name, HOST.local, localhost and the
addresses this machine has now). It is valid from 1970, for machines without a clock.

      --out DIR       write the files there (default: the current directory)
      --days N        valid for so long (default: 3652, ten years)
      --ip ADDRESS    one address more, for example that of the router in front; may be repeated
      --client NAME   for a caller that shows it in place of a token: NAME is a host name or a
                      URI such as spiffe://home/phone; client-key.pem and client-cert.pem
      --force         replace files that exist";

/// The help of one command.
pub fn help_of(verb: &str) -> Option<&'static str> {
    match verb {
        "run" | "spawn" => Some(RUN),
        "send" => Some(SEND),
        "get" | "cancel" | "subscribe" => Some(GET),
        "list" => Some(LIST),
        "card" => Some(CARD),
        "status" => Some(STATUS),
        "trust" => Some(TRUST),
        "check-config" => Some(CHECK),
        "token" => Some(TOKEN),
        "cert" => Some(CERT),
        "help" | "version" => Some(HELP),
        _ => None,
    }
}
