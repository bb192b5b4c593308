// SPDX-License-Identifier: BSD-3-Clause
// What the doctor shows, and the two forms it shows it in.
#ifndef DOCTOR_REPORT_H
#define DOCTOR_REPORT_H

#include <stdio.h>

#include "doctor/checks/findings.h"
#include "doctor/job/job.h"

void report_text_write(FILE *out, const struct job *job,
                       const struct findings *findings);
void report_json_write(FILE *out, const struct job *job,
                       const struct findings *findings);

#endif
