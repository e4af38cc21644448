"""The same facts for every official SDK over every binding it has.

What an SDK cannot do is in `LACKS` with the reason, and the run prints it: nothing is left out quietly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

import wire
from drive import JSONRPC, REST, Caller, Driver, Refused, Stream, message
from parts import Hook

# Why a fact cannot be asked of an SDK: (SDK, binding or None for both) to feature to reason.
LACKS: dict[tuple[str, str | None], dict[str, str]] = {
    ("py03", None): {
        "list": "protocol 0.3 lists no tasks",
        "push list": "its client has no call for it",
        "push delete": "its client has no call for it",
        "tenant": "protocol 0.3 has no tenants",
        "history 0": "protocol 0.3 does not say what a length of 0 means",
        "any data": "data is an object in protocol 0.3",
        "asking": "it does not try again",
    },
    ("py03", REST): {
        "own means": "its transport calls no interceptors",
        "timestamps": "its converter drops them",
        "references": "the message of the 0.3 protobuf has no such member",
    },
    ("py10", None): {"asking": "it does not try again"},
    ("js03", None): {
        "signatures": "it has no verifier",
        "signed schemes": "it has no verifier",
        "list": "protocol 0.3 lists no tasks",
        "tenant": "protocol 0.3 has no tenants",
        "history 0": "protocol 0.3 does not say what a length of 0 means",
        "any data": "data is an object in protocol 0.3",
    },
    ("js10", None): {
        # A card that has members of 0.3 as well it leaves as it came.
        "signed schemes": "it verifies what it has read, where the security schemes are lost",
    },
    ("js03", REST): {
        "references": "the message of the 0.3 protobuf has no such member",
        "file names": "its converter drops them",
        "append": "its converter drops it",
    },
}

Fact = Callable[[Any, Caller], Coroutine[Any, Any, None]]
FACTS: list[tuple[Fact, str | None]] = []


def fact(function: Fact) -> Fact:
    FACTS.append((function, None))
    return function


def fact_with(feature: str | None, facts: list[tuple[Fact, str | None]] = FACTS) -> Callable[[Fact], Fact]:
    """A fact about something that not every SDK has."""

    def add(function: Fact) -> Fact:
        facts.append((function, feature))
        return function

    return add


def lack(caller: Caller, feature: str | None) -> str | None:
    for binding in (None, caller.binding):
        if reason := LACKS.get((caller.sdk, binding), {}).get(feature):
            return reason
    return None


# What is asked of answers


def texts(parts: list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for part in parts)


def reply(task: dict[str, Any]) -> str:
    """The text of all artifacts."""
    return "".join(texts(artifact["parts"]) for artifact in task["artifacts"])


def said(task: dict[str, Any]) -> str:
    """The text of the status."""
    return texts(task["status"].get("message", {}).get("parts", []))


def state(task: dict[str, Any]) -> str:
    return task["status"]["state"]


def streamed(events: list[dict[str, Any]]) -> str:
    """The text of all artifact events."""
    return "".join(texts(event["artifact"]["parts"]) for event in events if event["kind"] == "artifact")


def is_one_story(caller: Caller, events: list[dict[str, Any]], ends: str) -> None:
    """The task, its artifact in pieces, one last status, all of the same task."""
    first, *middle, last = events
    assert first["kind"] == "task" and state(first) == "working", first
    assert last["kind"] == "status" and state(last) == ends, last
    assert {event["kind"] for event in middle} <= {"artifact"}, middle
    assert {(event["task"], event["context"]) for event in events[1:]} == {(first["id"], first["context"])}, events
    assert len({event["artifact"]["id"] for event in middle}) == min(1, len(middle)), middle
    if not lack(caller, "append"):
        assert [event["append"] for event in middle] == [at > 0 for at in range(len(middle))], middle
    assert not any(event["last"] for event in middle[:-1]), middle
    if caller.version == "0.3":
        assert last["final"] is True, last
    if not lack(caller, "timestamps"):
        assert last["status"]["timestamp"].endswith("Z"), last


async def refused(caller: Caller, call: Coroutine[Any, Any, Any], code: int, *, stream: bool = False) -> str:
    """The call is refused with this code, on the wire and as the SDK tells it; returns the text."""
    before = len(caller.driver.raws)
    try:
        result = await call
    except Refused as refusal:
        error = refusal.error
    else:
        raise AssertionError(f"no error {code}, but {result!r}")
    # An SDK may tell of an error in a stream before it is done with the stream.
    raw = await caller.driver.raw_after(before)
    found, text = wire.error_of(raw)
    assert text, raw
    if caller.binding == REST:
        reason, status, name = wire.REASONS[code]
        assert raw["status"] == status, (raw, error)
        if caller.version == "1.0":
            assert json.loads(raw["body"])["error"]["status"] == name, raw
    assert found == code, (raw, error)
    match caller.sdk, caller.binding:
        case "py03", "HTTP+JSON":
            # It reads the status only, and of a subscription only that it is no stream.
            assert error["status"] == raw["status"] or (stream and error["status"] == 400), error
        case "js03", "HTTP+JSON" if code == -32602:
            # It has classes for A2A's own codes only.
            assert "-32602" in error["text"], error
        case _:
            assert error["code"] == code, error
    return text


async def first_of(stream: Stream) -> Any:
    return await stream.next()


# The card


@fact
async def card_leads_to_this_binding_and_version(world, caller):
    card = await caller.card()
    # The class for 0.3 inside an SDK for 1.0 has another name.
    wanted = {JSONRPC: "JsonRpcTransport", REST: "RestTransport"}[caller.binding]
    assert card["transport"].lstrip("_") == wanted, card
    assert card["version"] == {"0.3": "0.3.0", "1.0": "1.0"}[caller.version], card
    assert card["name"] and card["streaming"] is True and card["push"] is True, card
    assert {"calculator", "text_analyzer", "memory", "device", "chat"} == set(card["skills"]), card
    await caller.send("1+1")
    raw = caller.driver.raws[-1]
    assert wire.is_jsonrpc(raw) == (caller.binding == JSONRPC), raw
    assert raw["url"].startswith("https://" if world.door.is_tls else "http://"), raw
    assert raw["version"] == ("1.0" if caller.version == "1.0" else ""), raw


@fact
async def extended_card_is_the_public_one_to_who_reads_the_card(world, caller):
    before = len(caller.driver.raws)
    card = await caller.card()
    assert card["extended"] is False, card
    assert len(caller.driver.raws) == before, caller.driver.raws[before:]


@fact
async def extended_card_is_refused_to_who_asks_all_the_same(world, caller):
    await refused(caller, caller.card(extended=True), -32007 if caller.version == "0.3" else -32004)


@fact
async def extended_card_tells_more_to_who_asks(world, caller):
    public = (await world.http.get(f"{world.telling.url}/.well-known/agent-card.json")).json()
    card = await caller.at(world.telling).card()
    assert card["extended"] is True and card["name"] == public["name"], card
    assert card["description"].startswith(public["description"]) and card["description"] != public["description"], card
    assert caller.driver.raws[-1]["status"] == 200, caller.driver.raws[-1]


@fact_with("signatures")
async def signed_card_is_genuine_to_the_sdks_own_verifier(world, caller):
    for agent in world.signed:
        card = await caller.at(agent).card(verify=True)
        assert card["name"], card
    try:
        await caller.card(verify=True)
    except Refused as refusal:
        assert "signature" in refusal.error["text"].lower(), refusal
    else:
        raise AssertionError("a card without signature was taken for genuine")


# Sending


@fact
async def blocking_send_returns_the_finished_task(world, caller):
    sent = message("25*4")
    task = await caller.send(sent)
    assert task["kind"] == "task" and state(task) == "completed", task
    assert reply(task) == said(task) == "100", task
    assert [artifact["id"] for artifact in task["artifacts"]] == ["result"], task
    [first] = task["history"]
    assert (first["role"], first["id"], texts(first["parts"])) == ("user", sent["id"], "25*4"), first
    told = task["status"]["message"]
    assert (told["role"], told["task"], told["context"]) == ("agent", task["id"], task["context"]), told
    if not lack(caller, "timestamps"):
        assert task["status"]["timestamp"].endswith("Z"), task
    assert await caller.get(task["id"]) == task


@fact
async def polling_send_returns_at_once_and_the_result_comes_later(world, caller):
    text = f"take your time {uuid4()}"
    task = await caller.send(text, polling=True)
    assert state(task) == "working" and not task["artifacts"], task
    call = await world.provider.next_call(text)
    assert state(await caller.get(task["id"])) == "working"
    later = caller.subscribe(task["id"])
    assert state(await later.next()) == "working"
    await call.say("done ")
    await call.say("now")
    await call.end()
    await later.rest()
    done = await caller.get(task["id"])
    assert state(done) == "completed" and reply(done) == said(done) == "done now", done
    assert (done["id"], done["context"]) == (task["id"], task["context"])


@fact
async def same_message_twice_makes_two_tasks(world, caller):
    sent = message("6*7")
    one, two = await caller.send(sent), await caller.send(sent)
    assert reply(one) == reply(two) == "42" and one["id"] != two["id"], (one, two)


@fact
async def metadata_chooses_the_skill(world, caller):
    task = await caller.send("25*4", metadata={"skill": "text_analyzer"})
    assert state(task) == "completed" and reply(task) != "100", task
    task = await caller.send(message("25*4", metadata={"skill": "calculator", "n": 1.5, "list": [True, None, "x"]}))
    assert reply(task) == "100"
    assert task["history"][0]["metadata"] == {"skill": "calculator", "n": 1.5, "list": [True, None, "x"]}, task
    told = await refused(caller, caller.send("25*4", metadata={"skill": "juggling"}), -32602)
    assert "juggling" in told, told


@fact
async def context_of_the_callers_choice_is_kept(world, caller):
    context = f"context {uuid4()} / ü"
    task = await caller.send(message("1+1", context=context))
    assert task["context"] == task["status"]["message"]["context"] == context, task


@fact
async def question_without_a_model_is_rejected(world, caller):
    plain = caller.at(world.plain)
    task = await plain.send("Why is the sky blue?")
    assert state(task) == "rejected" and not task["artifacts"] and "OPENAI_API_KEY" in said(task), task
    events = await plain.stream("Why is the sky blue?").rest()
    is_one_story(caller, events, "rejected")


@fact
async def every_script_survives_the_way_there_and_back(world, caller):
    text = 'Grüße 🦀 日本語 العربية e\u0301 👩‍🚀 \u2028 \x7f "quotes" \\ </script> \ufeff end'
    events = await caller.stream("echo " + text).rest()
    is_one_story(caller, events, "completed")
    assert streamed(events) == said(events[-1]) == text + " "
    task = await caller.get(events[0]["id"])
    assert texts(task["history"][0]["parts"]) == "echo " + text and reply(task) == text + " ", task


@fact
async def data_and_files_come_back_as_they_were(world, caller):
    parts = [
        {"text": "echo parts"},
        {"data": {"list": [1, "x", None, True], "deep": {"er": {"n": -1.5, "": ""}}}},
        {"bytes": "R3LDvMOfZSDwn6aAIQo=", "name": "a b.txt", "type": "text/plain"},
        {"url": "https://files.example/ü?a=1&b=2", "name": "c.csv", "type": "text/csv"},
    ]
    task = await caller.send({**message(), "parts": parts})
    assert state(task) == "completed", task
    if lack(caller, "file names"):
        parts = [{name: value for name, value in part.items() if name != "name"} for part in parts]
    assert task["history"][0]["parts"] == parts, task
    assert (await caller.get(task["id"]))["history"][0]["parts"] == parts


@fact
async def file_that_no_skill_reads_is_refused_by_its_type(world, caller):
    part = {"bytes": "iVBORw0KGgo=", "name": "a.png", "type": "image/png"}
    sent = message("what is this")
    sent["parts"].append(part)
    told = await refused(caller, caller.send(sent), -32005)
    assert "image/png" in told, told
    await refused(caller, first_of(caller.stream(sent)), -32005, stream=True)


@fact_with("any data")
async def data_of_any_kind_comes_back_as_it_was(world, caller):
    parts = [{"text": "echo data"}, {"data": [1, {"a": []}]}, {"data": "text"}, {"data": 7}, {"data": False}]
    task = await caller.send({**message(), "parts": parts})
    assert task["history"][0]["parts"] == parts, task


@fact
async def data_of_a_skill_arrives_as_data(world, caller):
    task = await caller.send("device status")
    [artifact] = task["artifacts"]
    assert state(task) == "completed" and [*map(len, artifact["parts"])] == [1, 1], task
    data = artifact["parts"][1]["data"]
    assert any("uptime" in name.lower() for name in data), data
    events = await caller.stream(message("device status", metadata={"skill": "device"})).rest()
    is_one_story(caller, events, "completed")
    assert "data" in events[1]["artifact"]["parts"][1], events


@fact_with("references")
async def references_to_tasks_come_back_as_they_were(world, caller):
    earlier = await caller.send("1+1")
    unknown = str(uuid4())
    task = await caller.send(message("2+2", references=[earlier["id"], unknown]))
    assert state(task) == "completed" and task["history"][0]["references"] == [earlier["id"], unknown], task


@fact_with("tenant")
async def tenant_of_the_callers_choice_does_no_harm(world, caller):
    task = await caller.send("3*3", tenant="acme")
    assert reply(task) == "9", task
    raw = caller.driver.raws[-1]
    assert "acme" in raw["url"] or "acme" in raw["request"], raw


# Streaming


@fact
async def skill_streams_task_artifact_and_last_status(world, caller):
    events = await caller.stream("25*4").rest()
    is_one_story(caller, events, "completed")
    assert [event["kind"] for event in events] == ["task", "artifact", "status"], events
    assert streamed(events) == said(events[-1]) == "100" and events[1]["last"] is True, events
    stored = await caller.get(events[0]["id"])
    assert stored["status"] == events[-1]["status"], (stored, events)


@fact
async def words_of_a_model_arrive_while_it_still_speaks(world, caller):
    stream = caller.stream("tell me slowly")
    events = [await stream.next()]
    call = await world.provider.next_call("tell me slowly")
    for word in ("first ", "second ", "third "):
        # Not said before the word before it was seen: nothing is held back.
        await call.say(word)
        events.append(await stream.next())
        assert streamed(events[-1:]) == word, events
    await call.end()
    events += await stream.rest()
    is_one_story(caller, events, "completed")
    assert streamed(events) == said(events[-1]) == reply(await caller.get(events[0]["id"])) == "first second third "


@fact
async def subscriber_gets_the_task_as_it_stands_and_all_that_follows(world, caller):
    stream = caller.stream("be heard twice")
    before = [await stream.next()]
    call = await world.provider.next_call("be heard twice")
    await call.say("one ")
    before.append(await stream.next())
    later = caller.subscribe(before[0]["id"])
    snapshot = await later.next()
    assert snapshot["kind"] == "task" and state(snapshot) == "working" and reply(snapshot) == "one ", snapshot
    await call.say("two ")
    after = [await later.next()]
    assert streamed(after) == "two " and (after[0]["append"] or lack(caller, "append")), after
    await call.say("three")
    await call.end()
    after += await later.rest()
    before += await stream.rest()
    # Nothing lost, nothing doubled, and both saw the same.
    assert reply(snapshot) + streamed(after) == streamed(before) == "one two three", (before, after)
    assert after[-1] == before[-1], (before, after)
    is_one_story(caller, before, "completed")


@fact
async def caller_that_leaves_does_not_cancel_its_task(world, caller):
    stream = caller.stream("go on without me")
    first = await stream.next()
    call = await world.provider.next_call("go on without me")
    await call.say("still ")
    await stream.next()
    await stream.leave()
    later = caller.subscribe(first["id"])
    assert reply(await later.next()) == "still "
    await call.say("here")
    await call.end()
    rest = await later.rest()
    assert streamed(rest) == "here" and state(rest[-1]) == "completed", rest
    assert reply(await caller.get(first["id"])) == "still here"


@fact
async def subscriber_of_a_question_waits_for_its_end(world, caller):
    asking = await caller.send(f"remember {uuid4()}")
    later = caller.subscribe(asking["id"])
    assert state(await later.next()) == "input-required"
    await caller.send(message("yes", task=asking["id"]))
    rest = await later.rest()
    assert state(rest[-1]) == "completed", rest


@fact
async def nobody_subscribes_to_what_is_over_or_unknown(world, caller):
    over = await caller.send("1+1")
    await refused(caller, first_of(caller.subscribe(over["id"])), -32004, stream=True)
    await refused(caller, first_of(caller.subscribe(str(uuid4()))), -32001, stream=True)


# Several turns


@fact
async def question_is_answered_under_its_task_id(world, caller):
    key = f"door code {uuid4()}"
    asking = await caller.send(f"remember {key}")
    assert state(asking) == "input-required" and key in said(asking), asking
    done = await caller.send(message("4711", task=asking["id"], context=asking["context"]))
    assert (done["id"], done["context"], state(done)) == (asking["id"], asking["context"], "completed"), done
    assert [item["role"] for item in done["history"]] == ["user", "agent", "user"], done
    assert texts(done["history"][1]["parts"]) == said(asking), done
    assert "4711" in reply(await caller.send(f"recall {key}"))
    await refused(caller, caller.send(message("again", task=asking["id"])), -32004)


@fact
async def stream_ends_at_a_question_and_the_next_goes_on(world, caller):
    key = f"garage code {uuid4()}"
    events = await caller.stream(f"remember {key}").rest()
    is_one_story(caller, events, "input-required")
    events = await caller.stream(message("0815", task=events[0]["id"])).rest()
    is_one_story(caller, events, "completed")
    assert "0815" in reply(await caller.send(f"recall {key}"))


@fact
async def history_length_keeps_the_most_recent(world, caller):
    asking = await caller.send(f"remember {uuid4()}", history=1)
    assert [item["role"] for item in asking["history"]] == ["user"], asking
    done = await caller.send(message("the answer", task=asking["id"]), history=1)
    assert [texts(item["parts"]) for item in done["history"]] == ["the answer"], done
    for length, roles in ((1, ["user"]), (2, ["agent", "user"]), (3, ["user", "agent", "user"]), (50, None)):
        got = await caller.get(done["id"], history=length)
        assert [item["role"] for item in got["history"]] == (roles or ["user", "agent", "user"]), (length, got)
        assert texts(got["history"][-1]["parts"]) == "the answer", got


@fact_with("history 0")
async def history_length_0_means_none(world, caller):
    task = await caller.send("1+1", history=0)
    assert task["history"] == [] and (await caller.get(task["id"], history=0))["history"] == [], task
    assert "history" not in json.loads(caller.driver.raws[-1]["body"]).get("result", {}), caller.driver.raws[-1]


# Cancelling


@fact
async def cancel_ends_the_stream_and_keeps_what_came(world, caller):
    stream = caller.stream("never finish")
    events = [await stream.next()]
    call = await world.provider.next_call("never finish")
    await call.say("half ")
    events.append(await stream.next())
    canceled = await caller.cancel(events[0]["id"])
    assert state(canceled) == "canceled" and reply(canceled) == "half ", canceled
    events += await stream.rest()
    is_one_story(caller, events, "canceled")
    await call.left
    await call.say("late")
    await call.end()
    assert await caller.get(events[0]["id"]) == canceled
    told = await refused(caller, caller.cancel(events[0]["id"]), -32002)
    assert "canceled" in told, told


@fact
async def slow_stream_of_aimock_can_be_canceled(world, caller):
    caller = caller.at(world.openai)
    stream = caller.stream("count forever")
    events = [await stream.next()]
    while streamed(events) != "one two ":
        events.append(await stream.next())
    canceled = await caller.cancel(events[0]["id"])
    assert state(canceled) == "canceled" and reply(canceled) == "one two ", canceled
    events += await stream.rest()
    is_one_story(caller, events, "canceled")


@fact
async def question_can_be_canceled(world, caller):
    asking = await caller.send(f"remember {uuid4()}")
    assert state(await caller.cancel(asking["id"])) == "canceled"
    await refused(caller, caller.send(message("too late", task=asking["id"])), -32004)


# Errors


@fact
async def unknown_tasks_are_not_found(world, caller):
    for id in (str(uuid4()), "nonsense"):
        await refused(caller, caller.get(id), -32001)
        await refused(caller, caller.cancel(id), -32001)
        await refused(caller, caller.send(message("x", task=id)), -32001)
        await refused(caller, first_of(caller.stream(message("x", task=id))), -32001, stream=True)


@fact
async def finished_tasks_cannot_be_canceled(world, caller):
    task = await caller.send("1+1")
    told = await refused(caller, caller.cancel(task["id"]), -32002)
    assert "completed" in told, told


@fact
async def wrong_params_are_told_by_their_member(world, caller):
    asking = await caller.send(f"remember {uuid4()}")
    wrong = message("x", task=asking["id"], context="another")
    told = await refused(caller, caller.send(wrong), -32602)
    assert "contextId" in told, told
    told = await refused(caller, caller.send({**message(), "parts": []}), -32602)
    assert "parts" in told or "content" in told, told
    told = await refused(caller, first_of(caller.stream({**message(), "parts": []})), -32602, stream=True)


# Lists


@fact_with("list")
async def tasks_are_listed_newest_first_and_by_pages(world, caller):
    context = str(uuid4())
    made = [await caller.send(message(f"{n}*2", context=context)) for n in range(5)]
    whole = await caller.call("list", contextId=context)
    assert [task["id"] for task in whole["tasks"]] == [task["id"] for task in reversed(made)], whole
    assert (whole["next"], whole["total"]) == ("", 5) and whole["size"] >= 5, whole
    found, token = [], ""
    for size, more in ((2, True), (2, True), (1, False)):
        page = await caller.call("list", contextId=context, pageSize=2, pageToken=token)
        assert len(page["tasks"]) == size and page["size"] == 2 and page["total"] == 5, page
        token = page["next"]
        assert bool(token) == more, page
        found += page["tasks"]
    assert found == whole["tasks"]
    raw = json.loads(caller.driver.raws[-1]["body"])
    raw = raw.get("result", raw)
    assert {"tasks", "nextPageToken", "pageSize", "totalSize"} == set(raw), raw


@fact_with("list")
async def lists_are_narrowed_by_state_and_widened_by_artifacts(world, caller):
    context = str(uuid4())
    done = await caller.send(message("5*5", context=context))
    asking = await caller.send(message(f"remember {uuid4()}", context=context))
    [only] = (await caller.call("list", contextId=context, status="input-required"))["tasks"]
    assert only["id"] == asking["id"] and state(only) == "input-required", only
    [only] = (await caller.call("list", contextId=context, status="completed"))["tasks"]
    assert only["id"] == done["id"] and only["artifacts"] == [], only
    assert "artifacts" not in caller.driver.raws[-1]["body"], caller.driver.raws[-1]
    [only] = (await caller.call("list", contextId=context, status="completed", includeArtifacts=True))["tasks"]
    assert reply(only) == "25", only
    [only] = (await caller.call("list", contextId=context, status="completed", historyLength=1))["tasks"]
    assert texts(only["history"][0]["parts"]) == "5*5", only
    after = done["status"]["timestamp"]
    since = await caller.call("list", contextId=context, statusTimestampAfter=after)
    assert {task["id"] for task in since["tasks"]} == {done["id"], asking["id"]}, since
    none = await caller.call("list", contextId=str(uuid4()))
    assert none["tasks"] == [] and none["next"] == "" and none["total"] == 0, none


@fact_with("list")
async def pages_of_a_wrong_size_or_token_are_refused(world, caller):
    for size in (-1, 101):
        await refused(caller, caller.call("list", pageSize=size), -32602)
    await refused(caller, caller.call("list", pageToken="nonsense"), -32602)


# Push


async def delivered(world, caller: Caller, hook: Hook, task: str, ends: str) -> list[dict[str, Any]]:
    """What reached the hook, up to the end of the task, each as the version of its caller wants it."""
    got = []
    while True:
        post = await hook.next()
        assert post.method == "POST", post
        body = json.loads(post.body)
        if caller.version == "0.3":
            assert post.headers["content-type"].split(";")[0] == "application/json", post.headers
            wire.is_03("tasks/get", body)
            assert body["id"] == task, body
            now = body["status"]["state"]
        else:
            assert post.headers["content-type"].split(";")[0] in ("application/a2a+json", "application/json")
            await wire.is_10("StreamResponse", body, world.strict)
            [(kind, value)] = body.items()
            assert value["id" if kind == "task" else "taskId"] == task, body
            now = value["status"]["state"].removeprefix("TASK_STATE_").lower() if "status" in value else ""
        got.append(post)
        if now == ends:
            return got


@fact
async def hook_of_a_message_hears_of_the_end(world, caller):
    hook = world.hooks.hook()
    push = {
        "url": hook.url,
        "token": f"token {uuid4()}",
        "authentication": {"scheme": "Bearer", "credentials": f"secret-{uuid4()}"},
    }
    task = await caller.send("25*4", push=push)
    assert reply(task) == "100", task
    for post in await delivered(world, caller, hook, task["id"], "completed"):
        assert post.headers["x-a2a-notification-token"] == push["token"], post.headers
        assert post.headers["authorization"] == f"Bearer {push['authentication']['credentials']}", post.headers


@fact
async def hook_of_a_stream_hears_of_the_end(world, caller):
    hook = world.hooks.hook()
    events = await caller.stream("echo push and stream", push={"url": hook.url}).rest()
    is_one_story(caller, events, "completed")
    for post in await delivered(world, caller, hook, events[0]["id"], "completed"):
        assert not {"authorization", "x-a2a-notification-token"} & set(post.headers), post.headers


@fact
async def hook_of_a_running_task_hears_what_follows(world, caller):
    hook = world.hooks.hook()
    task = await caller.send("work in the background", polling=True)
    call = await world.provider.next_call("work in the background")
    made = await caller.call("push_create", task=task["id"], push={"url": hook.url, "token": "t0"})
    assert made["task"] == task["id"] and made["url"] == hook.url and made["id"], made
    await call.say("well done")
    await call.end()
    posts = await delivered(world, caller, hook, task["id"], "completed")
    assert all(post.headers["x-a2a-notification-token"] == "t0" for post in posts), posts
    assert "well done" in posts[-1].body, posts[-1]


@fact
async def hook_hears_of_questions_and_cancels(world, caller):
    hook = world.hooks.hook()
    asking = await caller.send(f"remember {uuid4()}", push={"url": hook.url})
    ends = "input-required" if caller.version == "0.3" else "input_required"
    await delivered(world, caller, hook, asking["id"], ends)
    await caller.cancel(asking["id"])
    await delivered(world, caller, hook, asking["id"], "canceled")


@fact
async def hook_is_found_by_its_id(world, caller):
    task = await caller.send(f"remember {uuid4()}")
    hook = world.hooks.hook()
    push = {"id": f"hook-{uuid4()}", "url": hook.url, "token": "t1"}
    made = await caller.call("push_create", task=task["id"], push=push)
    assert made == {"task": task["id"], **push}, made
    assert await caller.call("push_get", task=task["id"], id=push["id"]) == made
    # The same id again takes its place.
    again = await caller.call("push_create", task=task["id"], push={**push, "token": "t2"})
    assert again["token"] == "t2" and await caller.call("push_get", task=task["id"], id=push["id"]) == again
    await refused(caller, caller.call("push_get", task=task["id"], id="no-such-hook"), -32001)
    await refused(caller, caller.call("push_get", task=str(uuid4()), id=push["id"]), -32001)
    await refused(caller, caller.call("push_create", task=str(uuid4()), push=push), -32001)
    await refused(caller, caller.call("push_create", task=task["id"], push={"url": "no address"}), -32602)


@fact_with("push list")
async def hooks_of_a_task_are_listed(world, caller):
    task = await caller.send(f"remember {uuid4()}")
    assert await caller.call("push_list", task=task["id"]) == []
    made = []
    for name in ("a", "b"):
        push = {"id": name, "url": world.hooks.hook().url}
        made.append(await caller.call("push_create", task=task["id"], push=push))
    found = await caller.call("push_list", task=task["id"])
    assert sorted(found, key=lambda config: config["id"]) == made, found
    await refused(caller, caller.call("push_list", task=str(uuid4())), -32001)


@fact_with("push delete")
async def deleted_hook_hears_nothing_more(world, caller):
    gone, kept = world.hooks.hook(), world.hooks.hook()
    task = await caller.send("work with two hooks", polling=True)
    call = await world.provider.next_call("work with two hooks")
    for name, hook in (("gone", gone), ("kept", kept)):
        await caller.call("push_create", task=task["id"], push={"id": name, "url": hook.url})
    await caller.call("push_delete", task=task["id"], id="gone")
    # Again is no error: it is not there, as wanted.
    await caller.call("push_delete", task=task["id"], id="gone")
    await refused(caller, caller.call("push_get", task=task["id"], id="gone"), -32001)
    await call.say("done")
    await call.end()
    await delivered(world, caller, kept, task["id"], "completed")
    assert gone.posts.empty(), gone.posts.get_nowait()


# Last, because it is about all of the above


@fact
async def every_byte_was_accepted_by_a_strict_reader(world, caller):
    here = tuple(agent.url for agent in world.agents)
    raws = [raw for raw in caller.driver.raws if raw["url"].startswith(here)]
    raws = [raw for raw in raws if wire.is_jsonrpc(raw) == (caller.binding == JSONRPC)]
    assert len(raws) > (50 if world.door.whole else 10), len(raws)
    for raw in raws:
        try:
            await wire.inspect(raw, caller.version, world.strict)
            for time in re.findall(r'"timestamp": ?"([^"]*)"', raw["body"]):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time), time
        except (Refused, AssertionError, KeyError, ValueError) as error:
            raise AssertionError(f"{type(error).__name__} {error}\n{json.dumps(raw, indent=1)}") from error


# Asked behind every door.
SHORT = {
    card_leads_to_this_binding_and_version,
    extended_card_tells_more_to_who_asks,
    signed_card_is_genuine_to_the_sdks_own_verifier,
    blocking_send_returns_the_finished_task,
    words_of_a_model_arrive_while_it_still_speaks,
    subscriber_gets_the_task_as_it_stands_and_all_that_follows,
    cancel_ends_the_stream_and_keeps_what_came,
    unknown_tasks_are_not_found,
    wrong_params_are_told_by_their_member,
    tasks_are_listed_newest_first_and_by_pages,
    hook_of_a_message_hears_of_the_end,
    hook_is_found_by_its_id,
    every_byte_was_accepted_by_a_strict_reader,
}

Check = tuple[str, Callable[[Any], Coroutine[Any, Any, None]]]


def checks(
    drivers: list[Driver], rooms: list[Any], about: Callable[[Any], list[tuple[Fact, str | None]]]
) -> tuple[list[Check], list[str]]:
    """Every fact for every SDK, binding and room, and what cannot be asked, with the reason.

    `about` has the facts about what is shown at a door.
    """
    found, left_out = [], {}
    for room in rooms:
        facts = about(room.door) + [entry for entry in FACTS if room.door.whole or entry[0] in SHORT]
        for driver in drivers:
            for binding in (JSONRPC, REST):
                caller = Caller(driver, binding, room.pushing.url, room.door.shows)
                if lack(caller, "own means"):
                    caller = caller.having_in_header()
                for function, feature in facts:
                    title = function.__name__.replace("_", " ")
                    if reason := lack(caller, feature):
                        left_out[f"{caller}: {title}"] = reason
                    else:
                        found.append((f"{caller}{room.door.name}: {title}", bound(function, room, caller)))
    return found, [f"{name}: {reason}" for name, reason in left_out.items()]


def bound(function: Fact, room: Any, caller: Caller) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def run(_) -> None:
        raws = caller.driver.raws
        before = len(raws)
        try:
            await function(room, caller)
        except Exception as error:
            await room.provider.let_go()
            last = json.dumps(raws[before:][-3:], indent=1, ensure_ascii=False)
            error.add_note(f"last exchanges: {last}")
            raise

    return run
