/* Runs a fuzz target over the files given, or the files of the folders given: each whole, then its
 * first half, quarter and so on down to nothing. The corpus is so checked by any compiler. Exits 1
 * if a file could not be read or nothing was run. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    int status = -1;
    uint8_t *data = NULL;
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (size >= 0 && fseek(file, 0, SEEK_SET) == 0) {
        data = malloc((size_t)size + 1);
    }
    if (data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size) {
        for (size_t n = (size_t)size;; n /= 2) {
            (void)LLVMFuzzerTestOneInput(data, n);
            if (n == 0) {
                break;
            }
        }
        replayed++;
        status = 0;
    }
    free(data);
    (void)fclose(file);
    return status;
}

static int replay(const char *path) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return replay_file(path);
    }
    int status = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char child[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (snprintf(child, sizeof child, "%s/%s", path, entry->d_name) >= (int)sizeof child ||
            replay_file(child) != 0) {
            status = -1;
        }
    }
    (void)closedir(dir);
    return status;
}

int main(int argc, char **argv) {
    int status = 0;
    for (int i = 1; i < argc; i++) {
        if (replay(argv[i]) != 0) {
            status = 1;
        }
    }
    printf("%u inputs\n", replayed);
    return status != 0 || replayed == 0;
}
