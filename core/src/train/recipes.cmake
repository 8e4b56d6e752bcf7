# Writes a C table of the shipped recipes.
#   cmake -DDIR=<directory of *.recipe> -DOUT=<recipes.c> -P recipes.cmake
file(GLOB recipes ${DIR}/*.recipe)
set(rows "")
set(count 0)
foreach(path IN LISTS recipes)
    get_filename_component(name ${path} NAME_WE)
    file(READ ${path} text)
    string(REPLACE "\\" "\\\\" text "${text}")
    string(REPLACE "\"" "\\\"" text "${text}")
    string(REPLACE "\n" "\\n\"\n     \"" text "${text}")
    string(APPEND rows "    {\"${name}\",\n     \"${text}\"},\n")
    math(EXPR count "${count} + 1")
endforeach()
file(WRITE ${OUT} "/* Made from the recipe files; do not edit. */
#include \"train/recipes.h\"

const stn__recipe stn__recipes[] = {
${rows}};
const uint32_t stn__recipe_total = ${count};
")
