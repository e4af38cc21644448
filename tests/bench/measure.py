"""What tests/bench/run measures. Standard library only; all traffic stays on loopback."""

import json
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def start(*command, **variables):
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **variables}
    process = subprocess.Popen(command, env=environment, cwd="/", stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        found = re.search(r"listening on (https?://[\d.]+:(\d+))", line)
        if found:
            threading.Thread(target=lambda: [None for _ in process.stderr], daemon=True).start()
            return process, found.group(1), int(found.group(2))
    raise SystemExit(f"{command[0]} did not start")


def cpu_ns(process):
    total = 0
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


def load(url, seconds, connections):
    printed = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", f"{HERE}/send.lua", url],
        capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in printed:
        raise SystemExit(printed)
    return int(re.search(r"(\d+) requests in", printed).group(1))


def per_request(folder, connections):
    """Nanoseconds of server CPU for one request: ours and bare hyper's, five rounds in turn."""
    ours, url, port = start(f"{folder}/tetherlet", "run", "--port", "0")
    with socket.create_connection(("127.0.0.1", port)) as probe:
        with open(f"{HERE}/send.lua", encoding="utf-8") as file:
            body = "".join(re.findall(r"'([^']*)'", file.read())).encode()
        probe.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        reply = b""
        while more := probe.recv(65536):
            reply += more
    size = len(reply.split(b"\r\n\r\n", 1)[1])
    bare, bare_url, _ = start(f"{folder}/examples/bare", str(size))
    ratios = []
    for process, at in ((ours, url), (bare, bare_url)):
        load(at, 1, connections)
    for _ in range(5):
        spent = []
        for process, at in ((ours, url), (bare, bare_url)):
            before = cpu_ns(process)
            count = load(at, 2, connections)
            spent.append((cpu_ns(process) - before) / count)
        ratios.append(spent[0] / spent[1])
        print(f"  {connections:3} connections: {spent[0] / 1000:6.2f} us, bare hyper {spent[1] / 1000:6.2f} us, ratio {ratios[-1]:.2f}")
    ours.kill()
    bare.kill()
    return statistics.median(ratios)


class Provider:
    """Answers every request with `tokens` tokens: the first at once, the others as fast as they are taken."""

    def __init__(self, tokens):
        self.server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.first = 0.0
        event = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
        chunk = b"%x\r\n%s\r\n" % (len(event), event)
        self.head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.begin, self.rest = chunk, chunk * (tokens - 1)
        end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        self.end = b"%x\r\n%s\r\n0\r\n\r\n" % (len(end), end)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.reply, args=(connection,), daemon=True).start()

    def reply(self, connection):
        while True:
            data = b""
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head, body = data.split(b"\r\n\r\n", 1)
            length = int(re.search(rb"content-length: (\d+)", head.lower()).group(1))
            while len(body) < length:
                body += connection.recv(65536)
            connection.sendall(self.head)
            self.first = time.monotonic()
            connection.sendall(self.begin)
            connection.sendall(self.rest + self.end)


def ask(port, text):
    """Streams one message; the moment of the first word, and the whole stream."""
    message = {"kind": "message", "messageId": "m", "role": "user", "parts": [{"kind": "text", "text": text}]}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": message}}).encode()
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        seen, first = b"", None
        while more := caller.recv(1 << 18):
            seen += more
            if first is None and b"artifact-update" in seen:
                first = time.monotonic()
        return first, seen


def relay(folder):
    provider = Provider(1)
    agent, _, port = start(f"{folder}/tetherlet", "run", "--port", "0", OPENAI_API_KEY="sk-none", OPENAI_BASE_URL=provider.url)
    added = []
    for number in range(200):
        first, _ = ask(port, f"hello {number}")
        added.append((first - provider.first) * 1000)
    agent.kill()
    print(f"  added first-token latency, median of 200: {statistics.median(added):.2f} ms (bound 2)")
    tokens = 60_000
    provider = Provider(tokens)
    agent, _, port = start(f"{folder}/tetherlet", "run", "--port", "0", OPENAI_API_KEY="sk-none", OPENAI_BASE_URL=provider.url)
    began = time.monotonic()
    _, seen = ask(port, "go on")
    took = time.monotonic() - began
    if b'"completed"' not in seen:
        raise SystemExit(seen[-600:])
    agent.kill()
    print(f"  tokens through one stream: {tokens / took:,.0f} a second (bound 20,000)")


def resident(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"^VmRSS:\s+(\d+)", file.read(), re.M).group(1))


def visit(port, context=None, session=None, keep=False):
    """One page on a connection of its own; the connection, and the session that the next one may resume."""
    caller = socket.create_connection(("127.0.0.1", port))
    # Otherwise the request waits for the acknowledgement of the handshake's last message.
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context:
        caller = context.wrap_socket(caller, server_hostname="localhost", session=session)
        if session and not caller.session_reused:
            raise SystemExit("the session was not resumed")
    wish = b"" if keep else b"Connection: close\r\n"
    caller.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + wish + b"\r\n")
    seen = b""
    while not seen.endswith(b"\r\n\r\nok"):
        seen += caller.recv(4096)
    session = caller.session if context else None
    if not keep:
        caller.close()
    return caller, session


def handshakes(agent, port, versions):
    """Server CPU for a connection with one page on it, and how many of them one processor would do."""
    def spent(count, one):
        before = cpu_ns(agent)
        for _ in range(count):
            one()
        return (cpu_ns(agent) - before) / count / 1000

    plain = statistics.median(spent(200, lambda: visit(port)) for _ in range(3))
    print(f"  new connection, plain:            {plain:6.0f} us")
    for name, context in versions.items():
        kept = [None]

        def resumed():
            _, kept[0] = visit(port, context, kept[0])

        for kind, one in (("full", lambda: visit(port, context)), ("resumed", resumed)):
            # The server remembers the latest sessions only: the first of these is of now.
            one()
            median = statistics.median(spent(200, one) for _ in range(3))
            print(f"  new connection, {name} {kind:8}  {median:6.0f} us, {1e6 / median:6,.0f} a second of one processor, "
                  f"{median / plain:.1f} x plain")


def tls(folder):
    with tempfile.TemporaryDirectory() as home:
        pair = [f"{home}/key.pem", f"{home}/cert.pem"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=x", "-addext", "subjectAltName=DNS:localhost", "-keyout", pair[0], "-out", pair[1]],
            check=True, capture_output=True)
        settings = {"TETHERLET_TLS_KEY_FILE": pair[0], "TETHERLET_TLS_CERT_FILE": pair[1],
                    "TETHERLET_LIMITS_CONNECTIONS": "512"}
        agent, url, port = start(f"{folder}/tetherlet", "run", "--port", "0", **settings)
        versions = {}
        for name, version in (("TLS 1.2", ssl.TLSVersion.TLSv1_2), ("TLS 1.3", ssl.TLSVersion.TLSv1_3)):
            context = ssl.create_default_context(cafile=pair[1])
            context.minimum_version = context.maximum_version = version
            versions[name] = context
        for connections in (1, 16):
            ratios = []
            for _ in range(3):
                spent, rates = [], []
                for at in (url, url.replace("https", "http")):
                    before = cpu_ns(agent)
                    count = load(at, 2, connections)
                    spent.append((cpu_ns(agent) - before) / count)
                    rates.append(count / 2)
                ratios.append(spent[0] / spent[1])
                print(f"  {connections:3} connections: TLS {rates[0]:7,.0f} requests a second, {spent[0] / 1000:6.2f} us; plain "
                      f"{rates[1]:7,.0f}, {spent[1] / 1000:6.2f} us; ratio {ratios[-1]:.2f}")
            print(f"  median ratio, {connections} connections: {statistics.median(ratios):.2f}")
        handshakes(agent, port, versions)
        agent.kill()
        for name, context in ({"plain": None} | versions).items():
            agent, _, port = start(f"{folder}/tetherlet", "run", "--port", "0", **settings)
            # The first ones pay for what all share.
            for _ in range(8):
                visit(port, context)
            before = resident(agent)
            held = [visit(port, context, keep=True) for _ in range(400)]
            print(f"  idle connection, {name}: {(resident(agent) - before) / len(held):.1f} KiB resident (aim 40)")
            agent.kill()


def main():
    folder = sys.argv[1]
    if sys.argv[2:] == ["tls"]:
        tls(folder)
        return
    print("server CPU per message/send to the calculator")
    medians = {connections: per_request(folder, connections) for connections in (1, 16)}
    for connections, ratio in medians.items():
        print(f"  median ratio, {connections} connections: {ratio:.2f} (bound 1.4, aim 1.25)")
    print("relay")
    relay(folder)
    print("TLS")
    tls(folder)


main()
