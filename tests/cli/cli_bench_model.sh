# bench ops --model: what the kernels of the class gpu do, by their launches, without running them.
# Sums and bounds are those of the kernels, and the declared work is that of bench ops.
. "$(dirname "$0")/lib.sh"
small_data data

# shellcheck disable=SC2086
bench() {
    "$stnrun" bench ops $small --device-class gpu "$@"
}

expect 0 bench --model
says out "nothing was run"
says out "conv_tile"
says out "conv_grad_w_tile"
says out "operators declare"

expect 0 bench --peak-gflops 5000 --peak-gbytes 100 --jsonl --model -q
head -n 1 out | grep -q '"record":"device"' || bad "the first record is not the device"
tail -n 1 out | grep -q '"record":"sums"' || bad "the last record is not the sums"
kernels=$(grep -c '"record":"kernel"' out)
[ "$kernels" -gt 10 ] || bad "few kernels: $kernels"
[ "$(grep -c '^{.*}$' out)" = $((kernels + 2)) ] || bad "not one record a line"
for member in flops bytes_read bytes_written bytes_loaded_by_groups flops_per_byte group groups registers \
    local_bytes private_bytes occupancy cc80 roofline_us; do
    [ "$(grep -c "\"$member\":" out)" -ge "$kernels" ] || bad "kernels without $member"
done
# sum of a member over the kernels against that of the last record; bounds worked out anew
awk '
    function value(name) {
        return match($0, "\"" name "\":[-+.0-9e]+") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : 0
    }
    function same(x, y) { return (x - y) * (x - y) <= 1e-18 * x * x }
    /"record":"kernel"/ {
        flops += value("flops"); bytes += value("bytes_read") + value("bytes_written"); us += value("roofline_us")
        work = value("flops") / 5e6; memory = (value("bytes_read") + value("bytes_written")) / 1e5
        if (!same(value("roofline_us"), work > memory ? work : memory)) { print "bound: " $0; wrong = 1 }
    }
    /"record":"sums"/ {
        if (flops != value("flops") || bytes != value("bytes_read") + value("bytes_written")) { print "sums: " $0; wrong = 1 }
        if (!same(us, value("roofline_us")) || flops < value("declared_flops") / 2) { print "totals: " $0; wrong = 1 }
    }
    END { exit wrong }' out || bad "figures do not agree"
declared=$(sed -n 's/.*"declared_flops":\([0-9]*\).*/\1/p' out)
expect 0 bench --backend opencl --warmup 0 --repeats 1 --jsonl -q
[ "$(awk 'match($0, /"flops":[0-9]+/) { n += substr($0, RSTART + 8, RLENGTH - 8) } END { printf "%d", n }' out)" = "$declared" ] ||
    bad "declared work is not that of bench ops"
expect 0 bench --json --model
says out '"schema": "stnrun-bench-model/1"'

# with a value --model is the setting; a backend without such figures says so
expect 0 bench --backend opencl --model mnist_stn --warmup 0 --repeats 1 -q
# shellcheck disable=SC2086
expect 1 "$stnrun" bench ops $small --backend cpu --model -q
says err "does not describe its kernels"
one_line
expect 2 bench --model --peak-gflops 0 -q
one_line
finish
