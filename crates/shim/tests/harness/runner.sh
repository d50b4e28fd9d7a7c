#!/bin/sh
# Stands in for wasm-interp-runner: the same descriptors and answers, but what becomes the
# "container" is a shell that waits for its start and then runs the bundle's guest.sh.
# Every call is noted in the bundle's calls.
set -eu
request=$(cat <&3)
field() { printf '%s' "$request" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }
answer() { printf '%s\n' "$1" >&4; }
state=$(field state)
bundle=${state%/runner/state}
verb=$(field verb)
echo "$verb" >>"$bundle/calls"
case $verb in
create)
    if [ -e "$bundle/slow" ]; then sleep 1; fi
    if [ -e "$bundle/refuse" ]; then
        answer '{"answer":"failed","reason":"mount /x: no such file or directory"}'
        exit 0
    fi
    # A background command reads /dev/null unless told otherwise.
    exec 7<&0
    sh -c 'while [ ! -e "$1/started" ]; do sleep 0.01; done; exec sh "$2/guest.sh"' \
        init "$state" "$bundle" <&7 3<&- 4>&- 5<&- 6<&- 7<&- &
    echo $! >"$state/pid"
    if [ -e "$bundle/cgroup" ]; then echo $! >"$(cat "$bundle/cgroup")/cgroup.procs"; fi
    answer "{\"answer\":\"created\",\"pid\":$!}"
    ;;
start)
    : >"$state/started"
    # Long enough for a short guest to end before this answer.
    sleep 0.1
    answer '{"answer":"started"}'
    ;;
delete)
    case $request in *'"force":true'*) kill -KILL "$(cat "$state/pid")" || : ;; esac
    rm -rf "$state"
    answer '{"answer":"deleted","warnings":[]}'
    ;;
esac
