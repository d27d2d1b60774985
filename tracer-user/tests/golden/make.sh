#!/usr/bin/env bash
# Makes the golden recordings anew, as root: make.sh LASTBYTE EAGER FOLDER
# Needs OpenSSH's sshd and ssh, and the user lbtest that the cases make. Everything it starts, on loopback, ends with it.
set -euo pipefail
lastbyte=$1 eager=$2 folder=$3
dir=$(mktemp -d)
chmod 755 "$dir"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT

ssh-keygen -q -t ed25519 -N '' -f "$dir/host"
ssh-keygen -q -t ed25519 -N '' -f "$dir/user"
mkdir -p /run/sshd
printf '%s\n' 'Port 2288' 'ListenAddress 127.0.0.1' "HostKey $dir/host" \
    "AuthorizedKeysFile $dir/user.pub" 'StrictModes no' 'UsePAM no' 'PidFile none' \
    'UseDNS no' >"$dir/conf"
/usr/sbin/sshd -D -f "$dir/conf" 2>/dev/null &
"$eager" --port 0 --mode eager >"$dir/eager" &
until grep -q listening "$dir/eager"; do :; done
port=$(sed 's/.*://' "$dir/eager")
head -c 4000000 /dev/urandom >"$dir/big"

run() { # run PORT SSH-ARGUMENTS…
    local port=$1
    shift
    ssh -q -F none -i "$dir/user" -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -p "$port" lbtest@127.0.0.1 "$@" </dev/null >/dev/null || true
}
record() { # record NAME COMMAND…
    local name=$1
    shift
    rm -f "$folder/$name.rec"
    "$lastbyte" record "$folder/$name.rec" --json --all --server eager >"$folder/$name.jsonl" &
    local tracer=$!
    until grep -q '"type":"started"' "$folder/$name.jsonl" 2>/dev/null; do
        kill -0 "$tracer"
    done
    "$@"
    # Every session that was opened has been closed.
    until [ "$(grep -c '"type":"session_opened"' "$folder/$name.jsonl")" = \
        "$(grep -c '"type":"session_closed"' "$folder/$name.jsonl")" ]; do :; done
    kill -INT "$tracer"
    wait "$tracer"
    chmod 644 "$folder/$name.rec"
}
ordinary() {
    run 2288 'echo hi; exit 3'
    run 2288 "cat $dir/big"
    run 2288 'seq 1 300000 | head -1'
    run 2288 -tt 'exec > >(tee /dev/null); seq 1 100000'
}
orphaned() {
    run 2288 'sleep 2.6 & sleep 2.9 >/dev/null &'
    run 2288 'setsid sh -c "sleep 2.5 & exit" &'
}
truncated() {
    for _ in 1 2 3 4 5 6; do run "$port" "cat $dir/big"; done
}
# A few seconds of a busy machine, for pictures: from several clients, one of which does not read, and
# with a deployment that leaves its server behind.
demo() {
    cp /bin/sleep "$dir/java"
    printf '%s\n' '#!/bin/bash' 'PATH=${0%/*}:$PATH' 'echo deploying' 'java 5 &' 'echo done' >"$dir/deploy.sh"
    chmod 755 "$dir/deploy.sh"
    run 2288 -b 127.0.0.21 'for i in {1..18}; do head -c $((RANDOM * 90)) /dev/urandom; sleep 0.2; done' &
    run 2288 -b 127.0.0.34 'for i in {1..7}; do head -c 4000000 /dev/zero; sleep 0.6; done' &
    run 2288 -b 127.0.0.12 'seq 1 300000 | head -1' &
    reads_late 2288 -b 127.0.0.9 'tar -c /usr/sbin' &
    run 2288 -b 127.0.0.7 "$dir/deploy.sh" &
    for _ in 1 2 3; do run "$port" -b 127.0.0.15 "cat $dir/big"; done
    run 2288 -b 127.0.0.12 'echo hi; exit 3'
    # All but the servers that this script has started.
    wait $(jobs -p | tail -n +3 | grep -vx "$tracer")
}
reads_late() { # reads_late PORT SSH-ARGUMENTS…
    local port=$1
    shift
    ssh -q -F none -i "$dir/user" -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -p "$port" lbtest@127.0.0.1 "$@" </dev/null |
        (sleep 4; cat >/dev/null)
}
record ordinary ordinary
record orphaned orphaned
record truncated truncated
record demo demo
