#!/bin/sh
# Prints what happens in the mesh, a line for each event, until the agent ends: listen.sh SOCKET
set -eu

if [ $# -ne 1 ]; then
    echo "usage: listen.sh SOCKET" >&2
    exit 2
fi
for tool in socat jq; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 2; }
done

# `-u` only reads, and keeps the other side open: the agent takes its end for a goodbye.
# `@json` keeps control characters of a peer away from the terminal.
socat -u "UNIX-CONNECT:$1" - | jq --unbuffered -r '
    .payload as $it
    | if .type == "message" then "\($it.from_peer): \($it.message.payload.text? // $it.message | @json)"
      elif .type == "peer_connected" then "+ \($it.peer_id)"
      elif .type == "peer_disconnected" then "- \($it.peer_id)"
      elif .type == "error" then "! \($it.message)"
      else empty end'
