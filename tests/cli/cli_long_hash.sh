# Long (tools/test --long): one state hash after 200 steps of rotated MNIST at batch 256 for every
# kernel set, 1, 2 and 7 threads, OpenCL on the default platform and on Intel's runtime (STN_INTEL_ICD),
# and across a resume on the other backend; shorter runs for the reference, the forced gpu kernels
# and the scaled and translated digits.
. "$(dirname "$0")/lib.sh"
[ "$long" = 1 ] || exit 77
[ -n "${STN_DATA_DIR:-}" ] || exit 77
steps=${STN_LONG_STEPS:-200}

# side LABEL RECIPE STEPS FLAGS...: trains and compares the hash with the first one of the recipe
first=""
side() {
    local label=$1 recipe=$2 n=$3 hash
    shift 3
    if ! "$stnrun" train --recipe "$recipe" --steps "$n" --eval-passes 1 -q "$@" >out 2>err; then
        if grep -q "lacks" err; then
            echo "SKIP $label: not supported by this CPU"
            return
        fi
        bad "$label: $(cat err)"
        return
    fi
    hash=$(hash_of out)
    echo "$recipe $n steps $label $hash"
    [ -n "$first" ] || first=$hash
    [ "$hash" = "$first" ] || bad "$recipe: $label ends at $hash, the first side at $first"
}

for net in sl1 c1 dl1; do
    recipe=mnist-r-$net-short
    first=""
    for threads in 1 2 7; do
        side "auto-$threads" "$recipe" "$steps" --threads "$threads"
    done
    for set in avx512 avx2 portable; do
        side "$set" "$recipe" "$steps" --cpu-kernels "$set"
    done
    side opencl "$recipe" "$steps" --backend opencl --device-class cpu-vector
    if [ -n "${STN_INTEL_ICD:-}" ]; then
        OCL_ICD_VENDORS=$STN_INTEL_ICD side intel "$recipe" "$steps" --backend opencl --device-class cpu-vector
    fi
    half=$((steps / 2))
    rm -rf run
    expect 0 "$stnrun" train --recipe "$recipe" --steps "$steps" --until "$half" --out run -q
    expect 0 "$stnrun" train --out run --resume --backend opencl -q
    [ "$(hash_of out)" = "$first" ] || bad "$recipe: CPU, then OpenCL ends at $(hash_of out)"
    rm -rf run
    expect 0 "$stnrun" train --recipe "$recipe" --steps "$steps" --until "$half" --out run -q --backend opencl
    expect 0 "$stnrun" train --out run --resume --backend cpu -q
    [ "$(hash_of out)" = "$first" ] || bad "$recipe: OpenCL, then CPU ends at $(hash_of out)"

    first=""
    side auto-32 "$recipe" 5 --batch 32
    side ref-32 "$recipe" 5 --batch 32 --cpu-kernels ref
    side gpu-32 "$recipe" 5 --batch 32 --backend opencl --device-class gpu
done
for recipe in mnist-s-c0-short mnist-t-c0-short; do
    first=""
    for set in auto avx2; do
        side "$set" "$recipe" 10 --cpu-kernels "$set"
    done
    side threads-7 "$recipe" 10 --threads 7
    side opencl "$recipe" 10 --backend opencl
done
finish
