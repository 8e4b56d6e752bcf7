# Training: nothing written without --out, run directory, resume, one hash whatever the threads and
# kernels, evaluation, checkpoint tools.
. "$(dirname "$0")/lib.sh"
small_data data
mkdir -p empty && cd empty || exit 1

# shellcheck disable=SC2086
train() {
    "$stnrun" train $small --steps 6 "$@"
}

expect 0 train
hash=$(hash_of out)
[ ${#hash} = 64 ] || bad "no state hash"
says out "test error"
says err "device cpu:0"
mv out err ..
[ -z "$(ls -A)" ] || bad "files were written without --out: $(ls -A)"
cd .. || exit 1

for other in "--threads 1" "--threads 2" "--threads 7" "--cpu-kernels ref" "--cpu-kernels portable"; do
    # shellcheck disable=SC2086
    expect 0 train $other
    [ "$(hash_of out)" = "$hash" ] || bad "another hash with $other"
done
expect 0 train --seed 1
[ "$(hash_of out)" != "$hash" ] || bad "the seed changes nothing"

# a run directory, stopped half-way and resumed
expect 0 train --out run --until 3
expect 1 train --out run -q
says err "--resume"
one_line
expect 0 "$stnrun" train --out run --resume --data-dir data
[ "$(hash_of out)" = "$hash" ] || bad "3 + 3 steps are not 6 steps"
expect 0 train --out whole
[ "$(hash_of out)" = "$hash" ] || bad "another hash with --out"
for file in recipe run.json metrics.csv metrics.jsonl; do
    [ -s "whole/$file" ] || bad "whole/$file is missing"
done
[ "$(find whole -name 'ckpt-*' | wc -l)" = 2 ] || bad "not two checkpoints: $(ls whole)"
expect 2 train --out absent --resume
expect 2 "$stnrun" train --resume --out absent2 --data-dir data

# --json, --jsonl
expect 0 train --json -q
says out "\"state_hash\": \"$hash\""
[ -s err ] && bad "-q is not quiet" && cat err
expect 0 train --jsonl -q
says out '"record":"result"'

# eval gives the error that train gave
expect 0 train --out other
percent=$(sed -n 's/^test error \([0-9.]*\) .*/\1/p' out)
expect 0 "$stnrun" eval --checkpoint other --data-dir data
says out "test error $percent %"
expect 0 "$stnrun" eval --checkpoint other --data-dir data --eval-passes 3 --json
says out '"passes": 3'
says out '"pose_std"'
expect 0 "$stnrun" eval --checkpoint other --data-dir data --split train

# checkpoints
expect 0 "$stnrun" ckpt show whole
says out "$hash"
says out "cls.conv1.weight"
expect 0 "$stnrun" ckpt show whole --json
says out "\"state_hash\": \"$hash\""
expect 0 "$stnrun" ckpt verify whole/ckpt-*
expect 0 "$stnrun" ckpt diff whole run
says out "equal"
expect 4 "$stnrun" ckpt diff whole/ckpt-*
says out "elements differ"
expect 0 "$stnrun" ckpt export whole w.safetensors
expect 1 "$stnrun" ckpt export whole w.safetensors
says err "--force"
expect 0 "$stnrun" ckpt import --like whole w.safetensors new.stn
expect 0 "$stnrun" ckpt export new.stn again.safetensors
expect 0 "$stnrun" eval --checkpoint new.stn --data-dir data
says out "test error $percent %"
expect 4 "$stnrun" ckpt diff whole new.stn

# picture of what the network sees
expect 0 "$stnrun" picture --checkpoint whole --data-dir data --out p.png --count 5
[ "$(head -c 4 p.png | tail -c 3)" = PNG ] || bad "p.png is no PNG"
expect 1 "$stnrun" picture --checkpoint whole --data-dir data --out p.png
finish
