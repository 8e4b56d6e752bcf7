# Golden files of another framework, and that a wrong golden value is noticed.
. "$(dirname "$0")/lib.sh"
[ -n "${STN_GOLDENS:-}" ] || exit 77
[ -e "$STN_GOLDENS/op_compose.safetensors" ] || exit 77

for kernels in ref auto; do
    expect 0 "$stnrun" check --summary --cpu-kernels "$kernels" "$STN_GOLDENS"/op_*.safetensors \
        "$STN_GOLDENS"/net_mnist_*.safetensors
    cat out
done
expect 0 "$stnrun" check --summary "$STN_GOLDENS"/full_mnist_*.safetensors
cat out
expect 0 "$stnrun" check --json "$STN_GOLDENS/op_compose.safetensors"
says out '"schema": "stnrun-check/1"'

# The last tensors of the file hold inputs: a changed input must show in every result.
cp "$STN_GOLDENS/op_compose.safetensors" op_compose.safetensors
chmod u+w op_compose.safetensors
size=$(stat -c %s op_compose.safetensors)
printf '\100' | dd of=op_compose.safetensors bs=1 seek=$((size - 1)) conv=notrunc status=none
expect 4 "$stnrun" check op_compose.safetensors
says out "BEYOND"
finish
