// SPDX-License-Identifier: BSD-3-Clause
// One rank that opens Tally, reduces once and closes it again, many times: what
// a round leaves behind shows in the resident memory and the descriptors.
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fault/small_job.h"

// Caches of allocators and libraries fill at first.
#define WARM_UP_SHARE 4

static long resident_kib(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL || fscanf(file, "%ld %ld", &size, &resident) != 2)
        abort();
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static long descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    long count = 0;

    if (folder == NULL)
        abort();
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

// Sanitizers keep what was freed.
static bool memory_is_ours(void)
{
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return false;
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#endif
    return true;
}

static tally_status_t go_round(void)
{
    struct small_job job = {0};
    tally_status_t status = small_job_open(&job);

    if (status == TALLY_OK)
        status = small_job_step(&job, 3);
    return status == TALLY_OK ? small_job_close(&job) : status;
}

int main(int argc, char **argv)
{
    long resident = 0, open_files = 0;

    if (argc != 3) {
        fprintf(stderr, "usage: rounds ROUNDS KIB_MAX\n");
        return 2;
    }
    long rounds = strtol(argv[1], NULL, 10);
    for (long round = 0; round < rounds; round++) {
        if (round == rounds / WARM_UP_SHARE) {
            resident = resident_kib();
            open_files = descriptors();
        }
        if (go_round() != TALLY_OK) {
            printf("round %ld: %s\n", round, tally_last_error());
            return 1;
        }
    }
    long grown = resident_kib() - resident;
    long left = descriptors() - open_files;
    printf("%ld rounds: %ld KiB, grown by %ld KiB and %ld descriptors\n",
           rounds, resident, grown, left);
    return (memory_is_ours() && grown > strtol(argv[2], NULL, 10)) || left > 0;
}
