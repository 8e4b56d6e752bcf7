#!/usr/bin/env bash
# The example plugins, built outside of the tree against an installed stn: once with pkg-config
# alone, once with the CMake package. Both kinds load before the built-in ones and train.
set -euo pipefail
stnrun=$1
source=$2
build=$(cd "$(dirname "$stnrun")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work/root cmake --install "$build" >"$work/install.log"
pc=$(find "$work/root" -name stn.pc)
prefix=$(find "$work/root" -type d -path '*/include/stn')
prefix=${prefix%/include/stn}
cp -r "$source/datasets/example" "$work/dataset"
cp -r "$source/plugins/example" "$work/model"

mkdir "$work/make" "$work/cmake"
for part in dataset model; do
    PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$work/root make -s -C "$work/$part"
    mv "$work/$part"/*.so "$work/make"
    cmake -S "$work/$part" -B "$work/build-$part" -DCMAKE_PREFIX_PATH="$prefix" >"$work/cmake.log"
    cmake --build "$work/build-$part" >>"$work/cmake.log"
    mv "$work/build-$part"/*.so "$work/cmake"
done

hashes=""
for how in make cmake; do
    export STN_PLUGIN_PATH=$work/$how
    "$stnrun" plugins >"$work/plugins.txt"
    for plugin in stn_example.so stn_example_stn.so; do
        grep -qF "$work/$how/$plugin" "$work/plugins.txt" ||
            { echo "$how: $plugin is not listed"; cat "$work/plugins.txt"; exit 1; }
    done
    "$stnrun" train --dataset example --model example_stn --network stn --batch 50 --steps 40 \
        --lr 0.02 --momentum 0.9 --loc-rate 0.1 --seed 1 --out "$work/run-$how" >"$work/$how.txt" 2>&1 ||
        { cat "$work/$how.txt"; exit 1; }
    newest=$(ls "$work/run-$how"/ckpt-*.stn | tail -1)
    hash=$("$stnrun" ckpt show "$newest" | grep '^state hash')
    hashes+="$hash"$'\n'
done
[ "$(sort -u <<<"${hashes%$'\n'}" | wc -l)" = 1 ] || { echo "the runs differ: $hashes"; exit 1; }
