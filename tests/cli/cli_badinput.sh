# Bad input: one clear line, the documented status, nothing half-written.
. "$(dirname "$0")/lib.sh"
small_data data

# shellcheck disable=SC2086
train() {
    "$stnrun" train $small --steps 4 -q "$@"
}

# broken STATUS TEXT: trains on the folder broken/
broken() {
    expect "$1" train --data-dir broken --out run
    says err "$2"
    one_line
    [ -e run ] && bad "a run directory was left behind" && rm -rf run
    rm -rf broken
    cp -r data broken
}

cp -r data broken
rm -r broken/mnist
broken 2 "no files of dataset"
rm broken/mnist/t10k-labels-idx1-ubyte
broken 2 "t10k-labels"
gzip broken/mnist/train-images-idx3-ubyte
truncate -s -1000 broken/mnist/train-images-idx3-ubyte.gz
broken 5 "train-images"
printf 'X' | dd of=broken/mnist/train-images-idx3-ubyte conv=notrunc status=none
broken 5 "train-images"
truncate -s -1 broken/mnist/train-images-idx3-ubyte
broken 5 "train-images"
echo more >>broken/mnist/train-labels-idx1-ubyte
broken 5 "train-labels"
printf '\001\002' | dd of=broken/mnist/t10k-images-idx3-ubyte bs=1 seek=4 conv=notrunc status=none
broken 5 "t10k-images"
printf '\012' | dd of=broken/mnist/t10k-labels-idx1-ubyte bs=1 seek=20 conv=notrunc status=none
broken 5 "label"

expect 2 train --batch 257
says err "256"
one_line
expect 2 train --batch 8 --network c9
says err "c9"

# an unwritable place for the run
expect 2 train --out /proc/nowhere/run
one_line
touch file
expect 1 train --out file/run
one_line

# a full disk: files may not grow beyond 8 blocks
expect 0 train --out whole
(
    trap '' XFSZ
    ulimit -f 8
    exec "$stnrun" train --data-dir data --out full --recipe mnist-r-sl1 --width 1 --batch 16 --steps 2 -q
) >out 2>err
[ $? = 1 ] || bad "a full disk: status $? instead of 1"
[ -e full/run.json ] && bad "the run directory of a full disk counts as a run"
find full -name '*.stn*' | grep . && bad "a part of a checkpoint was left"

# checkpoints: cut, flipped, of a newer format, of another run
ckpt=$(ls whole/ckpt-* | tail -n 1)
size=$(stat -c %s "$ckpt")
for at in 0 1 7 8 20 90 200 $((size / 2)) $((size - 1)); do
    head -c "$at" "$ckpt" >cut.stn
    expect 5 "$stnrun" ckpt verify cut.stn
    one_line
done
for at in 0 8 12 16 50 100 300 $((size / 2)) $((size - 1)); do
    cp "$ckpt" flipped.stn
    byte=$(od -An -tu1 -j "$at" -N 1 flipped.stn | tr -d ' ')
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o' $((byte ^ 64)))" | dd of=flipped.stn bs=1 seek="$at" conv=notrunc status=none
    expect 5 "$stnrun" ckpt verify flipped.stn
    one_line
done
expect 5 "$stnrun" eval --checkpoint flipped.stn --data-dir data
one_line

# a damaged newest checkpoint: the one before is used, with a message, and the end is the same
expect 0 "$stnrun" ckpt show whole
hash=$(hash_of out)
printf 'X' | dd of="$ckpt" bs=1 seek=400 conv=notrunc status=none
expect 0 "$stnrun" train --out whole --resume --data-dir data
[ "$(hash_of out)" = "$hash" ] || bad "resuming from the older checkpoint ends elsewhere"
says err "trying"
for file in whole/ckpt-*; do
    echo nothing >"$file"
done
expect 5 "$stnrun" train --out whole --resume --data-dir data -q
expect 0 train --out second
expect 2 "$stnrun" train --out second --resume --recipe mnist-r-cnn --data-dir data -q
one_line

# safetensors
echo nothing >bad.safetensors
expect 5 "$stnrun" ckpt import --like second bad.safetensors x.stn
one_line
[ -e x.stn ] && bad "x.stn was written from a bad file"
expect 5 "$stnrun" check bad.safetensors

# plugins that are no plugins
echo nothing >bad.so
expect 0 "$stnrun" plugins --plugin "$work/bad.so"
says out "refused"
finish
