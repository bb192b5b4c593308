// SPDX-License-Identifier: BSD-3-Clause
// The checks, a row each: what is looked at, how bad a finding is, what it
// means and what to do. They judge what is known of a job and do no I/O.
#ifndef CHECKS_CHECKS_H
#define CHECKS_CHECKS_H

#include "doctor/checks/findings.h"
#include "doctor/job/job.h"

struct check {
    const char *id; // stable: "env.unknown"
    enum severity severity;
    // Adds what it finds, or one line of severity OK, or nothing where it does
    // not apply.
    void (*run)(const struct check *check, const struct job *job,
                struct findings *out);
    enum facts_kind kind; // for checks_kind
    const char *why;
    const char *fix;
};

extern const struct check checks_table[];
extern const size_t checks_count;

// Runs all of them.
void checks_run(const struct job *job, struct findings *out);

// alone.c: what ranks found by themselves.
void checks_kind(const struct check *check, const struct job *job,
                 struct findings *out);

// together.c
void checks_meeting(const struct check *check, const struct job *job,
                    struct findings *out);
void checks_absent(const struct check *check, const struct job *job,
                   struct findings *out);
void checks_settings(const struct check *check, const struct job *job,
                     struct findings *out);
void checks_versions(const struct check *check, const struct job *job,
                     struct findings *out);
void checks_nodes(const struct check *check, const struct job *job,
                  struct findings *out);
void checks_clocks(const struct check *check, const struct job *job,
                   struct findings *out);

// ways.c
void checks_backends(const struct check *check, const struct job *job,
                     struct findings *out);
void checks_transport(const struct check *check, const struct job *job,
                      struct findings *out);
void checks_reach(const struct check *check, const struct job *job,
                  struct findings *out);
void checks_interface(const struct check *check, const struct job *job,
                      struct findings *out);
void checks_slow(const struct check *check, const struct job *job,
                 struct findings *out);

#endif
