// SPDX-License-Identifier: BSD-3-Clause
// tally_doctor's JSON: one object. Its keys are described in tally_doctor.1 and
// stay.
#include "json.h"

#include "doctor/checks/checks.h"
#include "doctor/facts/note.h"
#include "doctor/report.h"

static const char *const severities[] = {"ok", "warn", "fail"};

static void write_findings(struct json *json, const struct findings *findings)
{
    json_array_open(json, "findings");
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->all[i];
        bool fine = finding->severity == SEVERITY_OK;

        json_object_open(json, NULL);
        json_string(json, "id", finding->check->id);
        json_string(json, "severity", severities[finding->severity]);
        json_array_open(json, "ranks");
        for (int32_t k = 0; k < finding->count; k++)
            json_integer(json, NULL, finding->ranks[k]);
        json_array_close(json);
        json_string(json, "text", finding->text);
        json_string(json, "why", fine ? NULL : finding->check->why);
        json_string(json, "fix", fine ? NULL : finding->check->fix);
        json_object_close(json);
    }
    json_array_close(json);
}

static void write_lines(struct json *json, const char *key, const char *text)
{
    char line[FACTS_FOUND_BYTES];

    json_array_open(json, key);
    while (note_next(&text, line, sizeof(line)))
        json_string(json, NULL, line);
    json_array_close(json);
}

static void write_transports(struct json *json, const struct facts *facts)
{
    json_array_open(json, "transports");
    for (int t = 0; t < TRANSPORTS_MAX; t++) {
        const struct facts_transport *transport = &facts->transports[t];

        if (transport->name[0] == '\0')
            continue;
        json_object_open(json, NULL);
        json_string(json, "name", transport->name);
        json_bool(json, "wanted", transport->wanted != 0);
        json_bool(json, "usable", transport->usable != 0);
        json_string(json, "version", transport->version);
        json_string(json, "reason", transport->reason);
        write_lines(json, "devices", transport->devices);
        json_object_close(json);
    }
    json_array_close(json);
}

static void write_ranks(struct json *json, const struct job *job)
{
    json_array_open(json, "ranks");
    for (int32_t i = 0; i < job->count; i++) {
        const struct facts *facts = &job->facts[i];

        json_object_open(json, NULL);
        json_integer(json, "rank", job->ranks[i]);
        json_string(json, "host", facts->host);
        json_string(json, "kernel", facts->kernel);
        json_string(json, "tally", facts->version);
        json_string(json, "launcher", facts->source);
        if (job->node_of != NULL)
            json_integer(json, "node", job->node_of[i]);
        else
            json_null(json, "node");
        json_integer(json, "processors", facts->processors);
        json_integer(json, "gpus", facts->gpus);
        write_lines(json, "interfaces", facts->interfaces);
        write_transports(json, facts);
        if (job->clocks != NULL) {
            json_number(json, "clock_ahead_min_s",
                        (double)job->clocks[i].low_us * 1e-6, 6);
            json_number(json, "clock_ahead_max_s",
                        (double)job->clocks[i].high_us * 1e-6, 6);
        } else {
            json_null(json, "clock_ahead_min_s");
            json_null(json, "clock_ahead_max_s");
        }
        json_object_close(json);
    }
    json_array_close(json);
}

// Microseconds one way; -1: not reached; null: not tried.
static void write_matrix(struct json *json, const struct job *job)
{
    bool measured = job->rows != NULL;

    json_array_open(json, "matrix_ranks");
    for (int32_t m = 0; measured && m < job->member_count; m++)
        json_integer(json, NULL, job->ranks[job->members[m]]);
    json_array_close(json);
    json_array_open(json, "matrix");
    for (int32_t from = 0; measured && from < job->member_count; from++) {
        json_array_open(json, NULL);
        for (int32_t to = 0; to < job->member_count; to++) {
            float us = job_pair_us(job, from, to);

            if (us == PAIRS_UNREACHED)
                json_integer(json, NULL, -1);
            else if (us < 0)
                json_null(json, NULL);
            else
                json_number(json, NULL, (double)us, 3);
        }
        json_array_close(json);
    }
    json_array_close(json);
}

void report_json_write(FILE *out, const struct job *job,
                       const struct findings *findings)
{
    const struct facts *own = &job->self->facts;
    struct json json = {.out = out};

    json_object_open(&json, NULL);
    json_string(&json, "version", tally_version());
    json_string(&json, "status", severities[findings_worst(findings)]);
    if (own->rank >= 0)
        json_integer(&json, "rank", own->rank);
    else
        json_null(&json, "rank");
    json_integer(&json, "world_size", own->world_size);
    json_bool(&json, "joined", job->joined);
    json_string(&json, "transport",
                job->transport != NULL && *job->transport == '\0'
                    ? "shm"
                    : job->transport);
    write_findings(&json, findings);
    write_ranks(&json, job);
    write_matrix(&json, job);
    json_object_close(&json);
    json_end(&json);
}
