// SPDX-License-Identifier: BSD-3-Clause
// Gives a fuzz target the files of a corpus, one after the other, for builds
// without libFuzzer: what was found once stays found.
//     replay_X FOLDER
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes);

// A copy of just its size, so that a sanitizer sees what is read beyond.
static int replay(const char *folder, const char *name)
{
    static uint8_t read_into[INPUT_BYTES_MAX];
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return -1;
    size_t bytes = fread(read_into, 1, sizeof(read_into), file);
    fclose(file);
    uint8_t *input = malloc(bytes > 0 ? bytes : 1);
    if (input == NULL)
        return -1;
    memcpy(input, read_into, bytes);
    LLVMFuzzerTestOneInput(input, bytes);
    free(input);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    int count = 0;

    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        if (replay(argv[1], entry->d_name) != 0) {
            perror(entry->d_name);
            return 1;
        }
        count++;
    }
    closedir(folder);
    printf("%d inputs\n", count);
    return count == 0;
}
