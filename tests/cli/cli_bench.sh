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

# operators against the measured peaks
expect 0 bench ops
says out "peaks as measured"
says out "x roof"
says out "conv"
says out "by their rooflines; minimum step"
expect 0 bench ops --cpu-kernels ref --json
for member in us_min us_median flops bytes gflops_per_s gbytes_per_s flops_per_byte fma_share memory_share \
    roofline_us time_over_roofline peak_gflops_per_s peak_gbytes_per_s step_ms_min; do
    says out "\"$member\":"
done
says out '"schema": "stnrun-bench-ops/2"'
operators=$(grep -c '"operator":' out)
expect 0 bench ops --jsonl
[ "$(wc -l <out)" -gt 3 ] || bad "few records"
[ "$(grep -c '^{.*}$' out)" = "$(wc -l <out)" ] || bad "not one record a line"
head -n 1 out | grep -q '"record":"device"' || bad "the first record is not the device"
tail -n 1 out | grep -q '"record":"sums"' || bad "the last record is not the sums"
[ "$operators" -gt 3 ] || bad "few operators: $operators"
expect 2 "$stnrun" bench
one_line
expect 2 bench nothing
one_line
finish
