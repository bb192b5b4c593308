// SPDX-License-Identifier: BSD-3-Clause
// tally_doctor: what keeps a job from running well, in words, with what to do.
// Started as the job is, on all its ranks.
#include <stdlib.h>

#include "core/error.h"
#include "doctor/checks/checks.h"
#include "doctor/options.h"
#include "doctor/report.h"
#include "doctor/watchdog.h"

// What a library or a driver may take beyond what ranks may.
#define LIBRARY_SECONDS 10

static int exit_status(enum severity worst, bool strict)
{
    if (worst == SEVERITY_FAIL)
        return EXIT_FOUND;
    return worst == SEVERITY_WARN && strict ? EXIT_WARNED : EXIT_FINE;
}

static int examine(struct self *self, const struct options *options)
{
    struct findings findings = {.all = NULL};
    int status = EXIT_FINE;
    struct job job;

    job_open(self, options->timeout_us, &job);
    if (job.reporter) {
        checks_run(&job, &findings);
        if (options->json)
            report_json_write(stdout, &job, &findings);
        else
            report_text_write(stdout, &job, &findings);
        status = exit_status(findings_worst(&findings), options->strict);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tally_doctor: stdout");
        status = EXIT_USAGE;
    }
    findings_free(&findings);
    watchdog_enter("closing");
    job_close(&job);
    watchdog_leave();
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct self *self;

    if (!options_parse(argc, argv, &options)) {
        fputs(options_usage, stderr);
        return EXIT_USAGE;
    }
    if (options.help) {
        fputs(options_usage, stdout);
        return EXIT_FINE;
    }
    watchdog_begin((unsigned)(options.timeout_us / 1000000) + LIBRARY_SECONDS);
    self = calloc(1, sizeof(*self));
    if (self == NULL || self_open(self) != TALLY_OK) {
        fprintf(stderr, "tally_doctor: %s\n",
                self == NULL ? "no memory" : core_error_text());
        free(self);
        return EXIT_USAGE;
    }
    int status = examine(self, &options);
    free(self);
    return status;
}
