#!/bin/sh
# Sends a text to a peer, or to all: send.sh SOCKET PEER|'*' TEXT
# Exit code 1, with the agent's words, if it was not sent.
set -eu

if [ $# -ne 3 ]; then
    echo "usage: send.sh SOCKET PEER|'*' TEXT" >&2
    exit 2
fi
for tool in socat jq; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 2; }
done

# jq quotes the text, whatever is in it. The `id` asks for an answer.
command=$(jq -cn --arg peer "$2" --arg text "$3" '
    {type: "chat", payload: {text: $text}} as $message
    | if $peer == "*"
      then {type: "broadcast", id: "sent", payload: {message: $message}}
      else {type: "send", id: "sent", payload: {target_peer: $peer, message: $message}}
      end')

# socat ends its side after the command; the agent answers, and closes. Other notices may stand before the answer.
answer=$(printf '%s\n' "$command" | socat -t 30 - "UNIX-CONNECT:$1" | jq -c 'select(.id == "sent")')

case $(printf '%s' "$answer" | jq -r .type) in
    ok) ;;
    error) printf '%s' "$answer" | jq -r .payload.message >&2; exit 1 ;;
    *) echo "the agent at $1 did not answer" >&2; exit 1 ;;
esac
