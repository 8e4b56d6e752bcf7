# Limits of the machine and files in the wrong place: memory, devices, targets that are no files,
# checkpoints and parameters of another network.
. "$(dirname "$0")/lib.sh"
small_data data

# many images, all black
mkdir -p big/mnist
cp data/mnist/t10k* big/mnist
{
    be32 2051 && be32 17000 && be32 28 && be32 28 && head -c $((784 * 17000)) /dev/zero
} >big/mnist/train-images-idx3-ubyte
{
    be32 2049 && be32 17000 && head -c 17000 /dev/zero
} >big/mnist/train-labels-idx1-ubyte

# out of device memory: what needs how much. The limit is PoCL's own; other drivers ignore it.
expect 0 env POCL_MEMORY_LIMIT=1 "$stnrun" devices -v
if grep -q 'memory 1.0 GiB' out; then
    expect 6 env POCL_MEMORY_LIMIT=1 "$stnrun" train --recipe mnist-r-sl1 --data-dir big --batch 16384 --steps 1 \
        --backend opencl --out run -q
    grep -Eq '[a-z0-9.]+ needs [0-9]{9,} bytes.* use a smaller batch$' err ||
        { bad "the message of a full device" && cat err; }
    one_line
    [ -e run ] && bad "a run directory was left behind"
fi

# a platform without devices
if [ -z "${OCL_ICD_VENDORS:-}" ]; then
    expect 3 env POCL_DEVICES=none "$stnrun" selftest --backend opencl -q
    one_line
fi

# shellcheck disable=SC2086
train() {
    "$stnrun" train $small --steps 2 -q "$@"
}
expect 0 train --out sl1
expect 0 train --out c0 --network c0
expect 1 train --out sl1
says err "--resume"
one_line

# parameters and checkpoints of another network, a state that is not finite
expect 0 "$stnrun" ckpt export sl1 sl1.safetensors
expect 5 "$stnrun" ckpt import --like c0 sl1.safetensors x.stn
one_line
[ -e x.stn ] && bad "x.stn was written from the parameters of another network"
rm c0/ckpt-* && cp sl1/ckpt-* c0
expect 2 "$stnrun" train --out c0 --resume --data-dir data -q
says err "belongs to another run: run 'network = c0', checkpoint 'network = sl1'"
one_line

# a checkpoint of a later format says so, whatever else is in it
newest=$(ls sl1/ckpt-* | tail -n 1)
cp "$newest" newer.stn
printf '\011' | dd of=newer.stn bs=1 seek=8 conv=notrunc status=none
for command in "ckpt show" "ckpt verify" "eval --data-dir data --checkpoint"; do
    # shellcheck disable=SC2086
    expect 5 "$stnrun" $command newer.stn
    says err "format 9 is newer than 1"
    one_line
done

# a device file is neither read to its end nor replaced by a file; a pipe stays one
expect 5 "$stnrun" ckpt show /dev/zero
one_line
mkfifo pipe
expect 1 "$stnrun" ckpt export sl1 pipe --force
says err "not a file that can be replaced"
one_line
[ -p pipe ] || bad "the pipe was replaced"

# results that cannot be written are no success
if [ -c /dev/full ]; then
    for command in devices recipes ops "plugins --json"; do
        # shellcheck disable=SC2086
        "$stnrun" $command >/dev/full 2>err
        [ $? = 1 ] || bad "$command succeeded on a full output"
    done
fi

# a training that blows up names step, operator and value, and keeps the last good state
expect 1 train --steps 60 --lr 900 --out blow
says err "infinite or not-a-number"
one_line
expect 0 "$stnrun" ckpt verify blow
finish
