# --mem-limit: the same state hash in micro-batches, resumed under another limit; what is refused,
# and with which status.
. "$(dirname "$0")/lib.sh"
small_data data

# shellcheck disable=SC2086
train() {
    "$stnrun" train $small --batch 64 --steps 4 "$@"
}

# 0.6 times what the whole batch needs
expect 0 train --out whole
hash=$(hash_of out)
grep -q 'micro-batches' err && bad "split without a limit"
half=$(awk '/ on the device$/ { print int($(NF - 4) * 0.6 * ($(NF - 3) == "MiB" ? 1024 : 1)) }' err)K

expect 0 train --mem-limit 1G
[ "$(hash_of out)" = "$hash" ] || bad "another hash under a limit that changes nothing"
grep -q 'micro-batches' err && bad "split under a wide limit"

expect 0 train --mem-limit "$half" --out split --until 2
says err "micro-batches of"
expect 0 env STN_MEM_LIMIT="$half" "$stnrun" train --out split --resume --until 3 --data-dir data
says err "micro-batches of"
grep -q mem-limit split/recipe && bad "the limit of a machine stands in the recipe of the run"
expect 0 "$stnrun" train --out split --resume --data-dir data
grep -q 'micro-batches' err && bad "the limit outlived its run"
[ "$(hash_of out)" = "$hash" ] || bad "another hash with and without a limit"
expect 0 train --mem-limit "$half" --network cnn
cnn=$(hash_of out)
expect 0 train --network cnn
[ "$(hash_of out)" = "$cnn" ] || bad "cnn: another hash under a limit"

# test error and the evaluated pose are the same
expect 0 "$stnrun" eval --checkpoint whole --data-dir data --json
sed 's/"seconds".*//' out >whole.json
expect 0 "$stnrun" eval --checkpoint whole --data-dir data --json --mem-limit "$half"
sed 's/"seconds".*//' out | cmp -s - whole.json || bad "evaluation differs under a limit"

# refused: too little, values that are no sizes
expect 6 train --mem-limit 64K -q
says err "memory limit 0.1 MiB: even a shard of 4 images at a time needs"
one_line
for wrong in 12Q -5 1.5G M ""; do
    expect 2 train "--mem-limit=$wrong" -q
    one_line
done
expect 0 train --mem-limit 1048576K --print-config
grep -q '^mem-limit  *= 1G ' out || bad "the size is not canonical"
expect 0 "$stnrun" train --help
says out "--mem-limit"
finish
