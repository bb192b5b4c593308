// SPDX-License-Identifier: BSD-3-Clause
// tally_doctor's text for people: what is well in a line each, what is not with
// its reason and what to do, then the devices and the matrix of pairs.
#include <stdlib.h>
#include <string.h>

#include "doctor/checks/checks.h"
#include "doctor/facts/note.h"
#include "doctor/report.h"

#define TEXT_COLUMNS 79
#define TEXT_INDENT 6
#define RANKS_BYTES 96

static const char *const severity_words[] = {"ok", "WARN", "FAIL"};

// Words in lines that fit, after a lead on the first; nothing that a terminal
// obeys.
static void write_paragraph(FILE *out, const char *lead, const char *text)
{
    size_t column = (size_t)fprintf(out, "%*s%s", TEXT_INDENT, "", lead);

    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > TEXT_INDENT && column + 1 + word > TEXT_COLUMNS)
            column = (size_t)fprintf(out, "\n%*s", TEXT_INDENT, "") - 1;
        if (column > TEXT_INDENT)
            column += (size_t)fprintf(out, " ");
        for (size_t i = 0; i < word; i++) {
            unsigned char byte = (unsigned char)text[i];
            fputc(byte < 0x20 || byte == 0x7f ? '?' : byte, out);
        }
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void write_head(FILE *out, const struct job *job)
{
    const struct facts *own = &job->self->facts;

    fprintf(out, "tally_doctor %s: ", tally_version());
    if (own->world_size < 1)
        fprintf(out, "a rank on %s that does not know which\n", own->host);
    else if (own->world_size == 1)
        fprintf(out, "one process on %s\n", own->host);
    else if (!job->joined)
        fprintf(out, "rank %d of %d on %s, by itself\n", (int)own->rank,
                (int)own->world_size, own->host);
    else
        fprintf(out, "%d of %d ranks, started by %s\n", (int)job->count,
                (int)own->world_size, own->source);
}

// ------------------------------------------------------------------- findings

static void write_finding(FILE *out, const struct finding *finding)
{
    char ranks[RANKS_BYTES] = "";

    if (finding->count > 0)
        findings_ranks_text(finding->ranks, finding->count, ranks,
                            sizeof(ranks));
    fprintf(out, "%-5s %-19s %s%s%s\n", severity_words[finding->severity],
            finding->check->id, ranks, finding->count > 0 ? ": " : "",
            finding->text);
}

// A check's findings follow each other.
static void write_findings(FILE *out, const struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->all[i];
        bool last = i + 1 == findings->count ||
                    findings->all[i + 1].check != finding->check;

        write_finding(out, finding);
        if (finding->severity == SEVERITY_OK || !last)
            continue;
        write_paragraph(out, "why:", finding->check->why);
        write_paragraph(out, "fix:", finding->check->fix);
    }
}

// -------------------------------------------------------------------- devices

static void add_lines(FILE *out, const char *text)
{
    char line[FACTS_FOUND_BYTES];
    bool first = true;

    while (note_next(&text, line, sizeof(line))) {
        fprintf(out, "%s%s", first ? "" : ", ", line);
        first = false;
    }
    if (first)
        fputs("none", out);
}

// What a rank has, as one sentence. The caller frees it.
static char *describe(const struct job *job, int32_t index)
{
    const struct facts *facts = &job->facts[index];
    size_t bytes;
    char *text = NULL;
    FILE *out = open_memstream(&text, &bytes);

    if (out == NULL)
        return NULL;
    fprintf(out, "host %s", facts->host);
    fprintf(out,
            ", %d processors, %d GPUs; interfaces: ", (int)facts->processors,
            (int)facts->gpus);
    add_lines(out, facts->interfaces);
    for (int t = 0; t < TRANSPORTS_MAX; t++) {
        const struct facts_transport *transport = &facts->transports[t];

        if (transport->name[0] == '\0')
            continue;
        fprintf(out, "; %s (%s): ", transport->name,
                transport->version[0] != '\0' ? transport->version
                                              : transport->reason);
        add_lines(out, transport->devices);
    }
    fclose(out);
    return text;
}

// Sentences of no check, each once, after its ranks. Frees them.
static void write_groups(FILE *out, const char *heading,
                         struct findings *groups)
{
    fputs(heading, out);
    for (size_t i = 0; i < groups->count; i++) {
        char ranks[RANKS_BYTES];
        char lead[RANKS_BYTES + 1];

        findings_ranks_text(groups->all[i].ranks, groups->all[i].count, ranks,
                            sizeof(ranks));
        snprintf(lead, sizeof(lead), "%s:", ranks);
        write_paragraph(out, lead, groups->all[i].text);
    }
    findings_free(groups);
}

static void write_devices(FILE *out, const struct job *job)
{
    struct findings groups = {.all = NULL};

    for (int32_t i = 0; i < job->count; i++) {
        char *text = describe(job, i);

        if (text != NULL)
            findings_add(&groups, NULL, SEVERITY_OK, job->ranks[i], "%s", text);
        free(text);
    }
    write_groups(out, "\ndevices\n", &groups);
}

static void write_nodes(FILE *out, const struct job *job)
{
    struct findings groups = {.all = NULL};

    if (job->node_of == NULL || job->node_count < 2)
        return;
    for (int32_t i = 0; i < job->count; i++)
        findings_add(&groups, NULL, SEVERITY_OK, job->ranks[i],
                     "node %d, on %s", (int)job->node_of[i],
                     job->facts[i].host);
    write_groups(out, "\nnodes: who shares memory\n", &groups);
}

// --------------------------------------------------------------------- matrix

// "3": below 2^3 us.
static char class_of(float us)
{
    int class = 0;

    if (us == PAIRS_UNREACHED)
        return 'x';
    if (us < 0)
        return '.';
    while (class < 9 && us >= (float)(1 << class))
        class ++;
    return (char)('0' + class);
}

static void write_matrix(FILE *out, const struct job *job)
{
    if (job->rows == NULL || job->member_count < 2 ||
        job->member_count > PAIRS_SLOTS)
        return;
    fprintf(out,
            "\nfrom (row) to (column), by %s; one way:\n0 is below 1 us, 1 "
            "below 2 us, 2 below 4 us, and so on, 9 is above; x: not "
            "reached\n      ",
            job->count > JOB_RANKS_IN_PAIRS ? "the first rank of each node"
                                            : "rank");
    for (int32_t m = 0; m < job->member_count; m++)
        fprintf(out, " %3d", (int)job->ranks[job->members[m]]);
    for (int32_t from = 0; from < job->member_count; from++) {
        fprintf(out, "\n  %4d", (int)job->ranks[job->members[from]]);
        for (int32_t to = 0; to < job->member_count; to++)
            fprintf(out, "   %c", class_of(job_pair_us(job, from, to)));
    }
    fputc('\n', out);
}

static void write_verdict(FILE *out, const struct findings *findings)
{
    int counts[3] = {0};

    for (size_t i = 0; i < findings->count; i++)
        counts[findings->all[i].severity]++;
    fprintf(out, "\n%d failed, %d warned, %d ok\n", counts[SEVERITY_FAIL],
            counts[SEVERITY_WARN], counts[SEVERITY_OK]);
}

void report_text_write(FILE *out, const struct job *job,
                       const struct findings *findings)
{
    write_head(out, job);
    write_findings(out, findings);
    write_devices(out, job);
    write_nodes(out, job);
    write_matrix(out, job);
    write_verdict(out, findings);
}
