# OpenCL from the command line: no library, no platform, unmatched devices, equality with the CPU.
. "$(dirname "$0")/lib.sh"
small_data data

mkdir -p nothing lib
expect 3 env OCL_ICD_VENDORS="$work/nothing" "$stnrun" selftest --backend opencl -q
says err "install a driver"
one_line
echo "no library" >lib/libOpenCL.so.1
cp lib/libOpenCL.so.1 lib/libOpenCL.so
expect 3 env LD_LIBRARY_PATH="$work/lib" "$stnrun" selftest --backend opencl
says err "no OpenCL library"
expect 0 env OCL_ICD_VENDORS="$work/nothing" "$stnrun" devices
says out "cpu:0"
expect 3 "$stnrun" selftest --backend opencl --device no-such-device
says err "no-such-device"
one_line
expect 3 "$stnrun" selftest --backend opnecl
says err "opencl"

expect 0 "$stnrun" devices
says out "opencl:0"
expect 0 "$stnrun" selftest --backend opencl --device 0
says out "obeys stn-num/1"

# shellcheck disable=SC2086
compare() {
    "$stnrun" compare $small --steps 3 "$@"
}
expect 0 compare --backends cpu,opencl
says out "3 steps, all sides equal"
expect 0 compare --variants cpu-vector,gpu --json
says out '"equal": true'

# operators are timed by events, without a setting
# shellcheck disable=SC2086
expect 0 "$stnrun" bench ops $small --backend opencl --warmup 0 --repeats 1 --json
says out '"fma_share":'
grep -q '"us_min": 0.0,' out && bad "an operator took no time"

# a run that moves from one backend to the other ends as it would have alone
# shellcheck disable=SC2086
expect 0 "$stnrun" train $small --steps 4
hash=$(hash_of out)
# shellcheck disable=SC2086
expect 0 "$stnrun" train $small --steps 4 --until 2 --out run --backend opencl
expect 0 "$stnrun" train --out run --resume --backend cpu --data-dir data
[ "$(hash_of out)" = "$hash" ] || bad "2 steps on OpenCL and 2 on the CPU are not 4 on the CPU"
finish
