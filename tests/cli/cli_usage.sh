# Usage: exit statuses, suggestions, help, streams.
. "$(dirname "$0")/lib.sh"

expect 2 "$stnrun"
says err "usage: stnrun COMMAND"
expect 2 "$stnrun" trian
says err "did you mean train"
one_line
expect 2 "$stnrun" tr
says err "unknown command 'tr'"
expect 2 "$stnrun" train --bacth 3
says err "did you mean --batch"
one_line
expect 2 "$stnrun" train --bat 3
says err "unknown flag --bat"
expect 2 "$stnrun" train --steps
says err "--steps needs a value"
expect 2 "$stnrun" train --resume=yes
says err "takes no value"
expect 2 "$stnrun" train -x
says err "unknown flag -x"
expect 2 "$stnrun" train extra
says err "'extra'"
expect 2 "$stnrun" train -- --recipe
says err "'--recipe'"
expect 2 "$stnrun" train --resume
says err "--resume needs --out"
expect 2 "$stnrun" devices --json --jsonl
says err "exclude each other"
expect 2 "$stnrun" devices --progress=sometimes
says err "auto, always or never"
expect 2 "$stnrun" devices --color blue
expect 2 "$stnrun" ckpt shwo x
says err "did you mean show"
expect 2 "$stnrun" ckpt show
expect 2 "$stnrun" ckpt show /nowhere/x.stn
says err "/nowhere/x.stn"
expect 2 "$stnrun" eval
says err "--checkpoint"
expect 2 "$stnrun" compare --recipe mnist-r-sl1
says err "list of sides"
expect 2 "$stnrun" compare --recipe mnist-r-sl1 --threads 1,2 --math exact,fast
says err "only one of"
expect 2 "$stnrun" check
expect 2 "$stnrun" picture --checkpoint x
says err "--out"

# values of settings
expect 2 "$stnrun" train --recipe mnist-r-sl9
says err "did you mean 'mnist-r-sl1'"
one_line
for wrong in "--lr abc" "--batch 0" "--batch -3" "--steps 0" "--shards 3" "--optimizer sdg" \
    "--nesterov=maybe" "--model.padding nowhere" "--dataset.nothing 1" "--eval-passes 0"; do
    # shellcheck disable=SC2086
    expect 2 "$stnrun" train --recipe mnist-r-sl1 --print-config $wrong
    one_line
done
expect 2 "$stnrun" train --recipe mnist-r-sl1 --network sl9 --data-dir "$work" --print-config
expect 2 env STN_LR=abc "$stnrun" train --recipe mnist-r-sl1 --print-config
says err "STN_LR"

# help of everything, examples first
expect 0 "$stnrun" --help
says out "stnrun train"
expect 0 "$stnrun" --version
says out "stn-num/1"
for command in $("$stnrun" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    expect 0 "$stnrun" "$command" --help
    says out "examples:"
    says out "exit status"
done
[ "$(sed -n 3p out)" = "examples:" ] || bad "help does not begin with examples"

# streams: results on stdout, valid JSON, a closed pipe is a quiet end, a full one is an error
expect 0 "$stnrun" devices --json
says out '"schema": "stnrun-devices/1"'
[ -s err ] && bad "devices --json wrote to stderr"
for command in devices plugins models recipes ops env version; do
    expect 0 "$stnrun" "$command" --json
    says out '"schema"'
done
"$stnrun" env 2>pipe.err | head -n 1 >/dev/null
[ -s pipe.err ] && bad "a closed pipe is not quiet"
expect 1 sh -c '"$1" version >/dev/full' sh "$stnrun"
says err "writing the result"
finish
