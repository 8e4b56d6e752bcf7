# bench: figures with the state they belong to, which equals that of a training run of as many steps
# on the same four batches; and times of all operators.
. "$(dirname "$0")/lib.sh"
small_data data

# shellcheck disable=SC2086
bench() {
    what=$1
    shift
    "$stnrun" bench "$what" $small --warmup 1 --repeats 2 "$@"
}

expect 0 bench step
says out "after 3 steps"
expect 0 bench step --json --threads 1
for member in ms_min ms_median images_per_s peak_rss_mib state_hash; do
    says out "\"$member\":"
done
hash=$(sed -n 's/.*"state_hash": "\([0-9a-f]*\)".*/\1/p' out)
# shellcheck disable=SC2086
expect 0 "$stnrun" train $small --steps 3
[ "$hash" = "$(hash_of out)" ] || bad "bench ends at $hash, training at $(hash_of out)"
expect 0 bench ops
says out "conv"
says out "operators; minimum step"
expect 2 "$stnrun" bench
one_line
expect 2 bench nothing
one_line
finish
