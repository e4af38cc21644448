"""The ways into an agent: plain or over TLS, as anybody, with a token, or with a certificate."""

from __future__ import annotations

import dataclasses
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Tokens of callers that every guarded agent knows; Anna has two.
ANNA = "tl_anna0123456789abcdef"
ANNA_NEW = "tl_anna-new0123456789abcdef"
BERT = "tl_bert0123456789abcdef"
# May use tasks and nothing else.
GUEST = "tl_guest0123456789abcdef"
# Nobody's.
WRONG = "tl_wrong0123456789abcdef"


class Authority:
    """A certificate authority made for one run: a server's certificate for 127.0.0.1, and one for the client Anna."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "authority"
        self.folder.mkdir()
        self.ca = self.path("ca.crt")
        self._key("ca")
        extensions = "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"
        self._openssl("req", "-x509", "-key", self.path("ca.key"), "-subj", "/CN=interop", "-days", "90", "-out", self.ca,
                      *[word for extension in extensions for word in ("-addext", extension)])
        self._certificate("server", "IP:127.0.0.1,DNS:localhost", "serverAuth")
        self._certificate("anna", "DNS:anna.example", "clientAuth")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def pair(self, name: str) -> list[str]:
        """Certificate and key."""
        return [self.path(f"{name}.crt"), self.path(f"{name}.key")]

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _key(self, name: str) -> None:
        path = Path(self.path(f"{name}.key"))
        path.touch(mode=0o600)
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(path))

    def _certificate(self, name: str, names: str, use: str) -> None:
        self._key(name)
        extensions = Path(self.path(f"{name}.ext"))
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage={use}\nbasicConstraints=CA:FALSE\n")
        request = self.path(f"{name}.csr")
        self._openssl("req", "-new", "-key", self.path(f"{name}.key"), "-subj", f"/CN={name}", "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.path("ca.key"), "-days", "90",
                      "-extfile", str(extensions), "-out", self.path(f"{name}.crt"))


@dataclass(frozen=True)
class Door:
    """How the agents behind it are configured, and what their callers show."""

    # After the name of the SDK in the names of the checks.
    name: str = ""
    toml: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    # Members of a driver's `client`.
    shows: dict[str, Any] = field(default_factory=dict)
    # Whether every fact is asked behind it, or the short list.
    whole: bool = False

    @property
    def is_guarded(self) -> bool:
        """Whether there are tokens."""
        return "A2A_AUTH_TOKENS" in self.variables

    @property
    def is_tls(self) -> bool:
        return "[tls]" in self.toml

    @property
    def wants_certificates(self) -> bool:
        """Whether a certificate is the only way in."""
        return "cert" in self.shows

    def with_tokens(self, **shows: Any) -> Door:
        toml = f'{self.toml}\n[callers.guest]\ntoken-env = "GUEST"\nrights = "tasks"\n'
        variables = {"A2A_AUTH_TOKENS": f"anna:{ANNA},anna:{ANNA_NEW},bert:{BERT}", "GUEST": GUEST}
        return dataclasses.replace(self, toml=toml, variables=variables, shows=shows)


def doors(authority: Authority) -> list[Door]:
    """All of them, the one where nobody shows anything first."""
    cert, key = authority.pair("server")
    tls = f'[tls]\ncert-file = "{cert}"\nkey-file = "{key}"\nplain = "none"\n'
    mutual = f'{tls}client-ca-file = "{authority.ca}"\n[callers.anna]\ncertificate = "anna.example"\n'
    return [
        Door(whole=True),
        Door(" with a token").with_tokens(header=ANNA),
        Door(" over TLS", tls),
        # Here the token goes where the card says, by the SDK's own means.
        Door(" over TLS with a token", tls, whole=True).with_tokens(schemes={"bearer": ANNA}),
        Door(" over TLS with a certificate", mutual, shows={"cert": authority.pair("anna")}),
    ]
