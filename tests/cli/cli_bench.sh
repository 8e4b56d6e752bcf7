# bench: figures with the state they belong to, which equals that of a training run of as many steps
# on the same four batches; times of all operators; a timeline; sides in turn; blocks of training.
# What is printed is checked, never how long anything took.
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
for member in ms_min ms_median images_per_s peak_rss_mib launches state_hash; do
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

# a timeline: an event for each operator, and the hash is that without it
expect 0 bench step --trace step.json --json
says out "\"state_hash\": \"$hash\""
says step.json '"traceEvents":['
says step.json 'each operator waited for'
[ "$(grep -o '"cat":"operator"' step.json | wc -l)" = "$operators" ] || bad "the trace has another number of operators"
expect 1 bench step --trace step.json
says err "--force"
one_line
expect 0 bench step --trace step.json --force -q
expect 1 bench step --trace no/such/folder.json -q
says err "cannot write"

# sides in turn, with the state that one side alone ends in
expect 0 bench compare --threads 1,2
says out "state $hash after 3 steps on all sides"
expect 0 bench compare --threads 1,2 --block 3
says out "after 9 steps on all sides"
expect 0 bench compare --cpu-kernels ref,auto --json
for member in side ms_min ms_median ratio_to_first ratio_low ratio_high; do
    [ "$(grep -c "\"$member\":" out)" = 2 ] || bad "not two of $member"
done
says out '"equal": true'
[ "$(grep -c "\"state_hash\": \"$hash\"" out)" = 2 ] || bad "not the state $hash on both sides"
expect 2 bench compare
says err "a list of sides is needed"
one_line
expect 2 bench step --threads 1,2
one_line

# blocks of training and blocks in memory
expect 0 bench epoch --block 3 --steps 20
says out "end to end, cold start"
says out "median of 2 pairs of blocks of 3 steps"
expect 0 bench epoch --block 3 --steps 20 --json
for member in block images_per_s images_per_s_in_memory ratio ratio_min ratio_max images_per_s_data_alone state_hash; do
    says out "\"$member\":"
done
expect 2 bench epoch --steps 10 --block 8 -q
says err "33 steps are to be run, the recipe has 10"
one_line
expect 2 "$stnrun" bench
one_line
expect 2 bench nothing
one_line
finish
