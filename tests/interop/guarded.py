"""Facts about agents that want a token: who is heard, who sees what, and what the SDKs make of the card."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

from doors import ANNA, ANNA_NEW, BERT, GUEST, WRONG, Door
from drive import Caller, Refused, message
from matrix import Fact, fact_with, first_of, refused, reply, state

FACTS: list[tuple[Fact, str | None]] = []
OF_CERTIFICATES: list[tuple[Fact, str | None]] = []

HEADER = "X-Interop-Key"


def fact(function: Fact) -> Fact:
    return fact_with(None, FACTS)(function)


def about(door: Door) -> list[tuple[Fact, str | None]]:
    """What is asked of agents behind this door beside everything else."""
    if door.wants_certificates:
        return OF_CERTIFICATES
    return FACTS if door.is_guarded else []


async def forms(room: Any, key: Any) -> dict[str, Any]:
    """An agent with a signed card of each form, which takes tokens in a header of its own as well."""
    names = ("union", "1.0", "0.3")
    toml = f'[auth]\nheader = "{HEADER}"\n[card]\nkey-file = "{key}"\nform = "%s"\n'
    return dict(zip(names, await asyncio.gather(*(room.agent(toml % name) for name in names)), strict=True))


def read_by(room: Any, caller: Caller) -> list[tuple[Caller, dict[str, Any]]]:
    """The caller before the agent of each form that its SDK reads, and how a client must be made for that."""
    forms = {"0.3": ("union", "0.3"), "1.0": ("union", "1.0", "0.3")}[caller.version]
    return [(caller.at(room.forms[form]), {"old": True} if form == "0.3" and caller.sdk == "js10" else {})
            for form in forms]


async def turned_away(
    caller: Caller,
    call: Callable[[], Coroutine[Any, Any, Any]],
    status: int,
    challenge: str = "",
    *,
    subscription: bool = False,
) -> dict[str, Any]:
    """The call is refused with this status, on the wire and as the SDK tells it; returns the exchange."""
    before = len(caller.driver.raws)
    try:
        result = await call()
    except Refused as refusal:
        error = refusal.error
    else:
        raise AssertionError(f"no status {status}, but {result!r}")
    raw = await caller.driver.raw_after(before)
    assert (raw["status"], raw["challenge"]) == (status, challenge), raw
    body = json.loads(raw["body"])
    text = body.get("error", body)["message"]
    if subscription and caller.sdk == "py03":
        # It reads only that it is no stream.
        assert error["status"] == 400, error
    else:
        # An SDK tells either the status or what the agent says.
        assert f"HTTP Error {status}" in error["text"] or text in error["text"], error
    return raw


@fact
async def who_shows_nothing_is_asked_for_a_token_and_learns_nothing(room, caller):
    task = await caller.send(f"remember {uuid4()}")
    stranger = caller.showing()
    told = []
    for id in (task["id"], str(uuid4())):
        calls = [
            (lambda: stranger.get(id), False),
            (lambda: stranger.cancel(id), False),
            (lambda: stranger.send("1+1"), False),
            (lambda: stranger.send(message("x", task=id)), False),
            (lambda: stranger.call("push_get", task=id, id="hook"), False),
            (lambda: stranger.call("push_create", task=id, push={"url": room.hooks.hook().url}), False),
            (lambda: first_of(stranger.stream("1+1")), False),
            (lambda: first_of(stranger.subscribe(id)), True),
        ]
        for call, subscription in calls:
            raw = await turned_away(stranger, call, 401, 'Bearer realm="tetherlet"', subscription=subscription)
            told.append(raw["body"])
    # The same for what there is and for what there is not.
    assert len(set(told)) == 1, set(told)
    assert (await caller.get(task["id"]))["status"] == task["status"]


@fact
async def wrong_token_is_called_wrong(room, caller):
    challenge = 'Bearer realm="tetherlet", error="invalid_token"'
    # Once, because so many wrong ones an agent does not hear.
    raw = await turned_away(caller, lambda: caller.having(WRONG).send("1+1"), 401, challenge)
    assert WRONG not in raw["body"], raw


@fact
async def task_of_another_caller_is_not_found(room, caller):
    task = await caller.send(f"remember {uuid4()}")
    push = {"id": "mine", "url": room.hooks.hook().url}
    await caller.call("push_create", task=task["id"], push=push)
    bert = caller.having(BERT)
    id = task["id"]
    await refused(bert, bert.get(id), -32001)
    await refused(bert, bert.cancel(id), -32001)
    await refused(bert, bert.send(message("x", task=id)), -32001)
    await refused(bert, first_of(bert.stream(message("x", task=id))), -32001, stream=True)
    await refused(bert, first_of(bert.subscribe(id)), -32001, stream=True)
    await refused(bert, bert.call("push_get", task=id, id="mine"), -32001)
    await refused(bert, bert.call("push_create", task=id, push=push), -32001)
    # Another token of the same name is the same caller.
    again = caller.having(ANNA_NEW)
    assert state(await again.get(id)) == "input-required"
    assert (await again.call("push_get", task=id, id="mine"))["url"] == push["url"]
    assert state(await again.cancel(id)) == "canceled"


@fact_with("list", FACTS)
async def list_has_the_callers_own_tasks_alone(room, caller):
    context = str(uuid4())
    mine = await caller.send(message("1+1", context=context))
    bert = caller.having(BERT)
    assert (await bert.call("list", contextId=context))["total"] == 0
    his = await bert.send(message("2+2", context=context))
    for who, task in ((caller, mine), (bert, his)):
        found = await who.call("list", contextId=context)
        assert [task["id"] for task in found["tasks"]] == [task["id"]] and found["total"] == 1, found


@fact
async def memory_is_kept_for_each_caller_apart(room, caller):
    key, value = f"garden code {uuid4()}", f"value {uuid4()}"
    await caller.send(f"remember {key} = {value}")
    assert value in reply(await caller.send(f"recall {key}"))
    assert value not in json.dumps(await caller.having(BERT).send(f"recall {key}"))


@fact
async def caller_without_a_right_is_refused_what_it_is_for(room, caller):
    guest = caller.having(GUEST)
    task = await guest.send(f"remember {uuid4()}")
    push = {"url": room.hooks.hook().url}
    await turned_away(guest, lambda: guest.call("push_create", task=task["id"], push=push), 403)
    await turned_away(guest, lambda: guest.send("1+1", push=push), 403)
    await turned_away(guest, lambda: guest.at(room.telling).card(), 403)
    assert state(await guest.cancel(task["id"])) == "canceled"


@fact
async def every_form_of_the_card_says_what_to_show(room, caller):
    for at, how in read_by(room, caller):
        said = await at.driver.call("security", at.client(**how), {})
        assert said == {
            "schemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "header": HEADER},
            },
            "any of": [["bearer"], ["apiKey"]],
        }, said


@fact_with("own means", FACTS)
async def sdk_shows_a_token_where_the_card_says(room, caller):
    at = caller.at(room.forms["union"])
    for scheme, header in (("bearer", "authorization"), ("apiKey", HEADER.lower())):
        showing = at.showing(schemes={scheme: ANNA})
        assert reply(await showing.send("25*4")) == "100"
        assert caller.driver.raws[-1]["shown"] == [header], caller.driver.raws[-1]
        assert reply(await showing.get((await showing.send("6*7"))["id"])) == "42"


@fact_with("asking", FACTS)
async def sdk_that_is_asked_for_a_token_shows_it_then(room, caller):
    before = len(caller.driver.raws)
    task = await caller.showing(challenged=ANNA).send("25*4")
    assert reply(task) == "100", task
    raws = caller.driver.raws[before:]
    assert [(raw["status"], raw["shown"]) for raw in raws] == [(401, []), (200, ["authorization"])], raws


@fact_with("signatures", FACTS)
async def signed_card_of_both_versions_is_genuine_with_what_it_says_of_tokens(room, caller):
    assert (await caller.at(room.forms["union"]).card(verify=True))["name"]


@fact_with("signed schemes", FACTS)
async def signed_card_of_one_version_is_genuine_with_what_it_says_of_tokens(room, caller):
    assert (await caller.at(room.forms[caller.version]).card(verify=True))["name"]


@fact_with(None, OF_CERTIFICATES)
async def card_says_that_a_certificate_is_wanted(room, caller):
    said = await caller.call("security")
    assert said == {"schemes": {"mutualTLS": {"type": "mutualTLS"}}, "any of": [["mutualTLS"]]}, said


@fact_with(None, OF_CERTIFICATES)
async def who_shows_no_certificate_sees_the_card_and_nothing_else(room, caller):
    task = await caller.send(f"remember {uuid4()}")
    stranger = caller.showing()
    assert (await stranger.card())["name"]
    for call in (lambda: stranger.get(task["id"]), lambda: stranger.send("1+1")):
        await turned_away(stranger, call, 401, 'Bearer realm="tetherlet"')


async def program_itself_finds_signed_cards_of_agents_with_tokens_genuine(world) -> None:
    """Asked once: it has no SDK in it."""
    [room, *_] = [room for room in world.rooms if room.door.is_guarded]
    for form, agent in room.forms.items():
        words = [world.binary, "card", agent.url, "--verify"]
        child = await asyncio.create_subprocess_exec(
            *words, env={}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await child.communicate())[0].decode()
        assert child.returncode == 0, (form, said)
        found = [line.split()[0] for line in said.splitlines() if " key " in line]
        assert found == ["valid"] * (2 if form == "union" else 1), (form, said)


CHECKS = [program_itself_finds_signed_cards_of_agents_with_tokens_genuine]
