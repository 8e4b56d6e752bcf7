# Golden files of another framework, and that a wrong golden value is noticed.
. "$(dirname "$0")/lib.sh"
[ -n "${STN_GOLDENS:-}" ] || exit 77
[ -e "$STN_GOLDENS/op_compose.safetensors" ] || exit 77

# hold LABEL FILE_PATTERN... -- FLAGS...: every file agrees on that device and kernel set.
hold() {
    local label=$1 files=()
    shift
    while [ "$1" != -- ]; do
        files+=("$STN_GOLDENS"/$1)
        shift
    done
    shift
    if "$stnrun" check --summary "$@" "${files[@]}" >out 2>err; then
        sed "s/^/$label: /; s|$STN_GOLDENS/||" out
    elif grep -q "lacks" err; then
        echo "SKIP $label: not supported by this CPU"
    else
        bad "$label: $(cat err out)"
    fi
}

small=("op_*.safetensors" "net_mnist_*.safetensors")
full=("full_mnist_*.safetensors")
for kernels in ref auto; do
    hold "$kernels" "${small[@]}" -- --cpu-kernels "$kernels"
done
hold auto "${full[@]}" --
for class in cpu-vector gpu; do
    hold "opencl-$class" "${small[@]}" -- --backend opencl --device-class "$class"
done
if [ "$long" = 1 ]; then
    hold ref "${full[@]}" -- --cpu-kernels ref
    for kernels in avx512 avx2 portable sse2; do
        hold "$kernels" "${small[@]}" "${full[@]}" -- --cpu-kernels "$kernels"
    done
    for class in cpu-vector gpu; do
        hold "opencl-$class" "${full[@]}" -- --backend opencl --device-class "$class"
        [ -n "${STN_INTEL_ICD:-}" ] || continue
        OCL_ICD_VENDORS=$STN_INTEL_ICD hold "intel-$class" "${small[@]}" "${full[@]}" -- \
            --backend opencl --device-class "$class"
    done
fi
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
