# compare: equal sides, and a backend with one planted wrong rounding, whose operator must be blamed;
# the self-test refuses that backend, and what is made with it is marked.
. "$(dirname "$0")/lib.sh"
small_data data
build=$(cd "$(dirname "$stnrun")/.." && pwd)
faulty=$build/lib/faulty/stn_cpu_faulty.so
[ -e "$faulty" ] || bad "$faulty was not built"

# shellcheck disable=SC2086
compare() {
    "$stnrun" compare $small --steps 2 "$@"
}

expect 0 compare --threads 1,2,7
says out "2 steps, all sides equal"
expect 0 compare --cpu-kernels ref,portable,auto --threads 2
expect 0 compare --backends cpu,cpu --json
says out '"equal": true'
expect 2 compare --threads 1
expect 3 compare --backends cpu,nothing

expect 4 "$stnrun" selftest --plugin "$faulty" --backend cpu_faulty
says err "warp"
# shellcheck disable=SC2086
expect 4 "$stnrun" train $small --steps 2 --plugin "$faulty" --backend cpu_faulty --out run
[ -e run ] && bad "a refused device left a run directory"

# One bit of one pixel is lost in the sums of most steps; within 20 it shows.
expect 4 compare --plugin "$faulty" --backends cpu,cpu_faulty --override-selftest --steps 20
says out "step 0  equal"
says out "DIFFERENT"
says out "operator warp, tensor \"warped1\", element [0,0,0,0]"
says out "distance 1 ulp"
expect 4 compare --plugin "$faulty" --backends cpu_faulty,cpu --override-selftest --steps 20 --json -q
says out '"operator": "warp"'

# shellcheck disable=SC2086
expect 0 "$stnrun" train $small --steps 2 --plugin "$faulty" --backend cpu_faulty --out run --override-selftest
expect 0 "$stnrun" ckpt show run
says out "NOT REPRODUCIBLE"
finish
