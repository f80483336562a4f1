#!/usr/bin/env python3
"""Does tasks for peers: `worker.py SOCKET`. Answers `skill_query` with what it can, and `task_request` with a
`task_response`. Ends with the agent, or with Ctrl-C."""

import sys

from bridge import Bridge, Gone, Refused

SKILLS = {
    "upper": lambda words: " ".join(words).upper(),
    "sum": lambda numbers: sum(float(number) for number in numbers),
}


def answer(request, own_id, peer):
    """The message that answers `request`, or None if it wants no answer of ours."""
    payload = request.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    head = {"request_id": request.get("request_id"), "source_agent": own_id, "target_agent": peer}
    if request["type"] == "skill_query":
        return {"type": "skill_response", **head, "payload": {"skills": sorted(SKILLS)}}
    if request["type"] != "task_request":
        return None
    return {"type": "task_response", **head, "payload": work(payload.get("skill"), payload.get("input"))}


def work(skill, given):
    """The result of a task, or what was wrong with it: what peers send is checked like any input."""
    if not isinstance(skill, str) or skill not in SKILLS:
        return {"status": "failed", "error": f"there is no such skill; there are {', '.join(sorted(SKILLS))}"}
    if not isinstance(given, list):
        return {"status": "failed", "error": "`input` must be a list"}
    try:
        return {"status": "completed", "result": SKILLS[skill](given)}
    except (TypeError, ValueError) as error:
        return {"status": "failed", "error": str(error)}


def main(path):
    with Bridge(path) as bridge:
        own_id = bridge.status().get("peer_id")
        print(f"{own_id} is ready for {', '.join(sorted(SKILLS))}", flush=True)
        for kind, payload in bridge.notices():
            if kind != "message":
                continue
            peer, request = payload["from_peer"], payload["message"]
            response = answer(request, own_id, peer)
            if response is None:
                continue
            try:
                bridge.send(peer, response)
                print(f"answered {peer}: {request['type']}", flush=True)
            except Refused as why:  # the peer went while we worked
                print(f"no answer to {peer}: {why}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except Gone as why:
        sys.exit(str(why))
    except KeyboardInterrupt:
        pass
