#!/bin/sh
# Replaces wasm-interp-runner in tests: the same descriptors and responses, but the "container" is a
# shell that waits for its start and then runs the bundle's guest.sh. A further process runs the second
# word of its arguments as a script of the shell. The file "calls" in the bundle lists the verbs of all
# calls.
set -eu
request=$(cat <&3)
field() { printf '%s' "$request" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }
answer() { printf '%s\n' "$1" >&4; }
verb=$(printf '%s' "$request" | sed -n 's/^{"verb":"\([^"]*\)".*/\1/p')
state=$(field state)
bundle=${state%/runner/state}
# The plan of a further process does not name the bundle.
[ "$verb" = plan ] || echo "$verb" >>"$bundle/calls"
# The arguments of the tests are "run SCRIPT", and no script holds a quote.
script() { printf '%s' "$request" | sed -n 's/.*"args":\["run","\([^"]*\)".*/\1/p'; }
case $verb in
create)
    while [ -e "$bundle/slow" ]; do sleep 0.01; done
    if [ -e "$bundle/refuse" ]; then
        answer '{"answer":"failed","reason":"mount /x: no such file or directory"}'
        exit 0
    fi
    # Without this, a background command reads /dev/null.
    exec 7<&0
    sh -c 'while [ ! -e "$1/started" ]; do sleep 0.01; done; exec sh "$2/guest.sh"' \
        init "$state" "$bundle" <&7 3<&- 4>&- 5<&- 6<&- 7<&- &
    echo $! >"$state/pid"
    if [ -e "$bundle/cgroup" ]; then
        while read -r cgroup; do echo $! >"$cgroup/cgroup.procs"; done <"$bundle/cgroup"
    fi
    answer "{\"answer\":\"created\",\"pid\":$!,\"warnings\":[]}"
    ;;
start)
    : >"$state/started"
    # In this time a short guest ends before the response.
    sleep 0.1
    answer '{"answer":"started"}'
    ;;
update)
    if [ -e "$bundle/refuse" ]; then
        answer '{"answer":"failed","reason":"cannot write \"1\" to /memory.max"}'
        exit 0
    fi
    printf '%s' "$request" >"$bundle/updated"
    answer '{"answer":"updated"}'
    ;;
delete)
    case $request in *'"force":true'*) kill -KILL "$(cat "$state/pid")" || : ;; esac
    rm -rf "$state"
    answer '{"answer":"deleted","warnings":[]}'
    ;;
plan)
    case $(script) in
    missing) answer '{"answer":"failed","reason":"exec: \"x\": executable file not found in $PATH"}' ;;
    # A volume that does not answer.
    hangs) exec sleep 1000 ;;
    *)
        answer '{"answer":"planned","module":null,"workload":{"kind":"native","native":'\
'{"interpreter":{"path":"/bin/sh","found":{"by":"exact-path"}},"argv":["run"],"env":[],'\
'"cwd":"/","cwd_exists":true}}}'
        ;;
    esac
    ;;
exec)
    script=$(script)
    if [ -e "$bundle/wait" ]; then
        : >"$bundle/waits"
        while [ -e "$bundle/wait" ]; do sleep 0.01; done
    fi
    exec 8<&0
    # This shell would reap a child that ends before itself.
    sh -c 'while [ -e "/proc/$1" ]; do sleep 0.01; done; exec sh -c "$2"' \
        exec $$ "$script" <&8 3<&- 4>&- 5<&- 6<&- 8<&- &
    if [ -e "$bundle/cgroup" ]; then echo $! >"$(cat "$bundle/cgroup")/cgroup.procs"; fi
    answer "{\"answer\":\"running\",\"pid\":$!,\"warnings\":[]}"
    ;;
esac
