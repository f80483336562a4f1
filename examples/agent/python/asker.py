#!/usr/bin/env python3
"""Has a task done by whichever peer can: `asker.py SOCKET SKILL INPUT…`, for example `asker.py a.sock sum 1 2 3`.
Prints the result; exit code 1 if there is none in time (`--timeout SECONDS`, 30 if not given)."""

import argparse
import sys
import time
import uuid

from bridge import Bridge, Gone, Refused


class Failed(Exception):
    """There is no result; the text says why."""


def find_worker(bridge, own_id, skill, deadline):
    """Asks every peer with whom a channel opens what it can do; the first that has the skill."""
    query_id, others = str(uuid.uuid4()), set()
    query = {"type": "skill_query", "request_id": query_id, "source_agent": own_id, "target_agent": "*"}
    for kind, payload in bridge.notices(deadline - time.monotonic()):
        if kind == "peer_connected":
            try:
                bridge.send(payload["peer_id"], query)
            except Refused:
                pass  # it went again
        elif kind == "message" and is_answer(payload["message"], "skill_response", query_id):
            skills = payload_of(payload["message"]).get("skills")
            if isinstance(skills, list) and skill in skills:
                return payload["from_peer"]
            others.add(payload["from_peer"])
    raise Failed(f"no peer with the skill {skill} in time; without it: {', '.join(sorted(others)) or 'none'}")


def ask(bridge, own_id, worker, skill, given, deadline):
    """Sends the task and waits for its result."""
    request_id = str(uuid.uuid4())
    request = {"type": "task_request", "request_id": request_id, "source_agent": own_id, "target_agent": worker}
    bridge.send(worker, {**request, "payload": {"skill": skill, "input": given}})
    for kind, payload in bridge.notices(deadline - time.monotonic()):
        if kind == "peer_disconnected" and payload["peer_id"] == worker:
            raise Failed(f"{worker} went before it answered")
        if kind != "message" or payload["from_peer"] != worker:
            continue
        if is_answer(payload["message"], "task_response", request_id):
            outcome = payload_of(payload["message"])
            if outcome.get("status") != "completed":
                raise Failed(f"{worker}: {outcome.get('error')}")
            return outcome.get("result")
    raise Failed(f"{worker} did not answer in time")


def is_answer(message, kind, request_id):
    return message["type"] == kind and message.get("request_id") == request_id


def payload_of(message):
    payload = message.get("payload")
    return payload if isinstance(payload, dict) else {}


def main(arguments):
    deadline = time.monotonic() + arguments.timeout
    with Bridge(arguments.socket) as bridge:
        own_id = bridge.status().get("peer_id")
        worker = find_worker(bridge, own_id, arguments.skill, deadline)
        print(shown(ask(bridge, own_id, worker, arguments.skill, arguments.input, deadline)))


def shown(value):
    """What a peer said, fit for a terminal: control characters in it could move the cursor or worse."""
    return "".join(character if character.isprintable() else "\ufffd" for character in str(value))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket", help="path of the agent's socket")
    parser.add_argument("skill")
    parser.add_argument("input", nargs="*")
    parser.add_argument("--timeout", type=float, default=30)
    try:
        main(parser.parse_args())
    except (Failed, Refused, Gone) as why:
        sys.exit(shown(why))
