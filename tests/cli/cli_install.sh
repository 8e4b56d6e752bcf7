# The installed package: the program finds its library and plugins wherever the prefix lies, and the
# headers stand alone. cli_examples.sh builds plugins against it.
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

# the headers compile alone, as a plugin or program meets them
for header in plugin op error num model dataset backend stn; do
    echo "#include <stn/$header.h>" >"$header.c"
    # shellcheck disable=SC2046
    expect 0 ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags stn) -fsyntax-only "$header.c"
done
finish
