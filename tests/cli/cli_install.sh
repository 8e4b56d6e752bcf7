# The installed package: program, plugins found beside it, pkg-config and CMake package, and the
# example plugins built outside of the tree with either.
. "$(dirname "$0")/lib.sh"
small_data data
build=$(cd "$(dirname "$stnrun")/.." && pwd)
prefix=$work/prefix
expect 0 cmake --install "$build" --prefix "$prefix"
pc=$(find "$prefix" -name stn.pc)
[ -n "$pc" ] || bad "no stn.pc"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
plugindir=$(pkg-config --variable=plugindir stn)
[ -e "$plugindir/stn_cpu.so" ] || bad "plugindir '$plugindir' holds no stn_cpu.so"
expect 0 "$prefix/bin/stnrun" plugins
says out "$prefix/"
grep -q "$build" out && bad "the installed program uses the build tree"
# shellcheck disable=SC2086
expect 0 "$prefix/bin/stnrun" train $small --steps 2

for kind in plugins datasets; do
    example=$source_dir/$kind/example
    [ -d "$example" ] || { bad "$kind/example is missing" && continue; }
    # with pkg-config alone
    # shellcheck disable=SC2046
    expect 0 ${CC:-cc} -std=c11 -shared -fPIC -fvisibility=hidden -ffp-contract=off $(pkg-config --cflags stn) \
        "$example"/*.c -lm -o "$work/$kind-pc.so"
    expect 0 "$prefix/bin/stnrun" plugins --plugin "$work/$kind-pc.so"
    grep -F "$work/$kind-pc.so" out | grep -qv refused || bad "$kind/example was refused"
    # with the CMake package
    expect 0 cmake -S "$example" -B "$work/$kind-build" -DCMAKE_PREFIX_PATH="$prefix"
    expect 0 cmake --build "$work/$kind-build"
    [ -n "$(find "$work/$kind-build" -name '*.so')" ] || bad "$kind/example built no plugin"
done
finish
