// SPDX-License-Identifier: BSD-3-Clause
// The peer of tally_perf --compare mpi: MPI_Allreduce of the same bytes, with
// the same work around it. Its output is for tally_perf alone (peer.c).
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf/samples.h"
#include "perf/work.h"

struct run {
    uint64_t iterations;
    uint64_t warmup;
    uint32_t records;
};

static void allreduce(struct numeric_record *from, struct numeric_record *to,
                      uint32_t records)
{
    MPI_Allreduce(from, to, (int)(records * NUMERIC_LANES), MPI_INT64_T,
                  MPI_SUM, MPI_COMM_WORLD);
}

static bool is_right(const struct work *work, uint64_t iteration,
                     struct numeric_record *totals)
{
    for (uint32_t k = 0; k < work->records; k++) {
        numeric_record_fold(&totals[k]);
        if (memcmp(&totals[k], work_total(work, iteration, k),
                   sizeof(totals[k])) != 0)
            return false;
    }
    return true;
}

// Returns how many results were wrong.
static int64_t measure(const struct run *run, const struct work *work,
                       struct samples *samples)
{
    struct numeric_record losses[WORK_RECORDS_MAX] = {0};
    struct numeric_record totals[WORK_RECORDS_MAX];
    int64_t wrong = 0;

    for (uint64_t i = 0; i < run->warmup + run->iterations; i++) {
        struct numeric_record counts[WORK_RECORDS_MAX] = {0};

        for (uint32_t k = 0; k < run->records; k++)
            work_count(work_tokens(work, i, k), &counts[k]);

        int64_t begin_ns = samples_now_ns();
        allreduce(counts, totals, run->records);
        int64_t end_ns = samples_now_ns();

        if (i >= run->warmup)
            samples_add(samples, end_ns - begin_ns);
        wrong += !is_right(work, i, totals);
        // Tally's step ends with a second reduction, of the losses.
        allreduce(losses, totals, run->records);
    }
    return wrong;
}

static void print(const struct samples *samples, int64_t wrong)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;

    MPI_Get_library_version(version, &length);
    printf("library %.*s\nwrong %lld\nsamples_ns", (int)strcspn(version, ",\n"),
           version, (long long)wrong);
    for (size_t i = 0; i < samples->count; i++)
        printf(" %lld", (long long)samples->ns[i]);
    printf("\n");
}

int main(int argc, char **argv)
{
    struct samples samples = {0};
    struct work work = {0};
    int rank;
    int ranks;

    MPI_Init(&argc, &argv);
    if (argc != 4) {
        fprintf(stderr,
                "usage: %s ITERATIONS WARMUP RECORDS\n"
                "It is run by tally_perf --compare mpi.\n",
                argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    struct run run = {
        .iterations = strtoull(argv[1], NULL, 10),
        .warmup = strtoull(argv[2], NULL, 10),
        .records = (uint32_t)strtoul(argv[3], NULL, 10),
    };
    if (run.records < 1 || run.records > WORK_RECORDS_MAX)
        MPI_Abort(MPI_COMM_WORLD, 2);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (!samples_create(&samples, run.iterations) ||
        !work_create(&work, rank, ranks, run.records)) {
        fprintf(stderr, "%s: no memory\n", argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    int64_t wrong = measure(&run, &work, &samples);
    int64_t wrong_all = 0;
    MPI_Reduce(&wrong, &wrong_all, 1, MPI_INT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        print(&samples, wrong_all);
    work_free(&work);
    samples_free(&samples);
    MPI_Finalize();
    return 0;
}
