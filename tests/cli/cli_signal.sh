# Interruptions: the first SIGINT and SIGTERM finish the step, save and exit 128 + n; SIGKILL at any
# moment loses at most the steps since the last checkpoint, and the final state is the same.
. "$(dirname "$0")/lib.sh"
small_data data
# Enough steps that training is still under way at the last kill.
rounds=5
steps=400
if [ "$long" = 1 ]; then
    rounds=50
    steps=6000
fi

# shellcheck disable=SC2086
train() {
    exec "$stnrun" train $small --steps $steps --save-every 20 --progress never "$@"
}

# wait_for FILE: until it exists
wait_for() {
    for _ in $(seq 600); do
        [ -e "$1" ] && return 0
        sleep 0.1
    done
    bad "$1 did not appear"
}

expect 0 train
hash=$(hash_of out)

for signal in INT TERM; do
    # A job started in the background by a script ignores SIGINT; a monitor shell does not.
    (set -m; train --steps 100000 --out "run-$signal" >out 2>err & echo $! >pid; wait $!; echo $? >status) &
    wait_for "run-$signal/run.json"
    sleep 1
    kill -s "$signal" "$(cat pid)"
    wait
    want=130
    [ "$signal" = TERM ] && want=143
    [ "$(cat status)" = "$want" ] || bad "SIG$signal: status $(cat status) instead of $want"
    says err "interrupted after step"
    expect 0 "$stnrun" ckpt verify "run-$signal"
done

# kill -9 in a loop: each round dies at another moment of start, training or saving
for i in $(seq "$rounds"); do
    flags="--out killed"
    [ -e killed/run.json ] && flags="--out killed --resume"
    # shellcheck disable=SC2086
    (train $flags >/dev/null 2>&1) &
    sleep "0.$((i * 37 % 90 + 10))"
    kill -9 $! 2>/dev/null
    status=0
    wait $! 2>/dev/null || status=$?
    [ "$status" = 137 ] || bad "round $i: training was over (status $status), not killed"
    if [ -e killed/run.json ]; then
        expect 0 "$stnrun" ckpt verify killed
    else
        rm -rf killed
    fi
done
flags="--out killed"
[ -e killed/run.json ] && flags="--out killed --resume"
# shellcheck disable=SC2086
expect 0 train $flags
[ "$(hash_of out)" = "$hash" ] || bad "after $rounds kills the final state differs"
finish
