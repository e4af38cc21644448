"""The ways into an agent: as anybody, or with a token."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

# Tokens of callers that every guarded agent knows; Anna has two.
ANNA = "tl_anna0123456789abcdef"
ANNA_NEW = "tl_anna-new0123456789abcdef"
BERT = "tl_bert0123456789abcdef"
# May use tasks and nothing else.
GUEST = "tl_guest0123456789abcdef"
# Nobody's.
WRONG = "tl_wrong0123456789abcdef"


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

    def with_a_token(self, **shows: Any) -> Door:
        toml = f'{self.toml}\n[callers.guest]\ntoken-env = "GUEST"\nrights = "tasks"\n'
        variables = {"A2A_AUTH_TOKENS": f"anna:{ANNA},anna:{ANNA_NEW},bert:{BERT}", "GUEST": GUEST}
        return dataclasses.replace(self, toml=toml, variables=variables, shows=shows)


DOORS = [
    Door(whole=True),
    dataclasses.replace(Door().with_a_token(header=ANNA), name=" with a token"),
]
