// SPDX-License-Identifier: BSD-3-Clause
// See curve.h.
#include "curve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../fail.h"

#define LINE_MAX_BYTES 256

static const char header[] =
    "# step\tn_total\tloss_hi\tloss_lo\tmean\tflags\tsilent_ranks\theldout\n";

bool curve_begin(FILE *file)
{
    if (fputs(header, file) == EOF || fflush(file) != 0)
        return trainer_fail("cannot write the curve: %s", strerror(errno));
    return true;
}

bool curve_write(FILE *file, const struct curve_row *row)
{
    int written = fprintf(file,
                          "%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRId64
                          "\t%.17g\t%" PRIu32 "\t%" PRId32 "\t%.17g\n",
                          row->step, row->n_total, row->loss_hi, row->loss_lo,
                          row->mean, row->flags, row->silent, row->heldout);

    if (written < 0 || fflush(file) != 0)
        return trainer_fail("cannot write the curve: %s", strerror(errno));
    return true;
}

static bool row_read(const char *line, struct curve_row *row)
{
    return sscanf(line,
                  "%" SCNd64 "\t%" SCNd64 "\t%" SCNd64 "\t%" SCNd64
                  "\t%lf\t%" SCNu32 "\t%" SCNd32 "\t%lf",
                  &row->step, &row->n_total, &row->loss_hi, &row->loss_lo,
                  &row->mean, &row->flags, &row->silent, &row->heldout) == 8;
}

bool curve_read(const char *path, struct curve_row **rows, int64_t *count)
{
    char line[LINE_MAX_BYTES];
    struct curve_row *read = NULL;
    int64_t read_count = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return trainer_fail("cannot open %s: %s", path, strerror(errno));
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] == '#')
            continue;
        struct curve_row *grown =
            realloc(read, (size_t)(read_count + 1) * sizeof(*read));
        if (grown == NULL) {
            trainer_fail("no memory for %s", path);
            goto free_rows;
        }
        read = grown;
        if (!row_read(line, &read[read_count])) {
            trainer_fail("%s: row %" PRId64 " is not a row of a curve: %s",
                         path, read_count + 1, line);
            goto free_rows;
        }
        read_count++;
    }
    fclose(file);
    *rows = read;
    *count = read_count;
    return true;

free_rows:
    free(read);
    fclose(file);
    return false;
}
