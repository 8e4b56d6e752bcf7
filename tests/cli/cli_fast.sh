# --math fast: CLBlast on OpenCL, told and marked wherever results of it appear.
. "$(dirname "$0")/lib.sh"
small_data data
mark="NOT REPRODUCIBLE"
fast="--backend opencl --math fast"

# Only OpenCL has it.
# shellcheck disable=SC2086
expect 2 "$stnrun" train $small --steps 2 --math fast --backend cpu --out cpu
says err "--math fast needs --backend opencl"
one_line
[ -e cpu ] && bad "a refused run left a directory"

# Without the library: one clear error before anything is written.
mkdir -p lib
echo "no library" >lib/libclblast.so.1
# shellcheck disable=SC2086
expect 3 env LD_LIBRARY_PATH="$work/lib" "$stnrun" train $small --steps 2 $fast --out nolib -q
says err "install libclblast1 or use --math exact"
[ -e nolib ] && bad "a refused run left a directory"
# shellcheck disable=SC2086
expect 0 env LD_LIBRARY_PATH="$work/lib" "$stnrun" train $small --steps 1 --backend opencl -q

# The sides part at the first product, which is named.
# shellcheck disable=SC2086
expect 4 "$stnrun" compare $small --steps 2 --math fast,exact --backend opencl
says out "step 0  equal"
says out "DIFFERENT"
says out "first difference: step 1"
grep -qE 'operator (conv|linear)(_grad_[xw])?,' out || { bad "another operator is blamed" && cat out; }
says out "side fast: $mark"
grep -qF "side exact: $mark" out && bad "the exact side is marked"
# shellcheck disable=SC2086
expect 4 "$stnrun" compare $small --steps 1 --math exact,fast --json -q
says out '"fast": false'
says out '"exact": true'
# shellcheck disable=SC2086
expect 4 "$stnrun" bench compare $small --math exact,fast --warmup 1 --repeats 1 -q
says out "side exact after 2 steps"
says out "side fast after 2 steps"
says out "side fast: $mark"

# Marks: result, run.json, checkpoint, evaluation, measurement.
# shellcheck disable=SC2086
expect 0 "$stnrun" train $small --steps 2 $fast --out run
says err "does not obey the contract"
says out "$mark"
says run/run.json '"reproducible": false'
expect 0 "$stnrun" ckpt show run
says out "$mark"
# shellcheck disable=SC2086
expect 0 "$stnrun" bench step $small $fast --warmup 0 --repeats 1 --json -q
says out '"reproducible": false'
expect 2 "$stnrun" selftest $fast
says err "does not obey"
one_line

# The mark stays with what was trained so, also where the rest is exact; exact runs have none.
expect 0 "$stnrun" eval --checkpoint run --data-dir data --backend cpu --math exact --json -q
says out '"reproducible": false'
expect 0 "$stnrun" eval --checkpoint run --data-dir data --backend cpu --math exact -q
says out "$mark"
# shellcheck disable=SC2086
expect 0 "$stnrun" train $small --steps 1 --backend opencl --out exact
grep -qF "$mark" out && bad "an exact run is marked"
says exact/run.json '"reproducible": true'
finish
