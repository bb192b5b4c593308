// SPDX-License-Identifier: BSD-3-Clause
// See findings.h.
#include "doctor/checks/findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What "..." and its comma take.
#define ELLIPSIS_BYTES 6

static void add_rank(struct finding *finding, int32_t rank)
{
    size_t count = (size_t)finding->count;

    for (int32_t i = 0; i < finding->count; i++)
        if (finding->ranks[i] == rank)
            return;
    int32_t *ranks = realloc(finding->ranks, (count + 1) * sizeof(*ranks));
    if (ranks == NULL)
        return;
    ranks[count] = rank;
    finding->ranks = ranks;
    finding->count++;
}

static struct finding *find(struct findings *findings,
                            const struct check *check, const char *text)
{
    for (size_t i = 0; i < findings->count; i++)
        if (findings->all[i].check == check &&
            strcmp(findings->all[i].text, text) == 0)
            return &findings->all[i];
    return NULL;
}

// Takes the text. NULL: no memory.
static struct finding *append(struct findings *findings, char *text)
{
    struct finding *all =
        realloc(findings->all, (findings->count + 1) * sizeof(*all));

    if (all == NULL) {
        free(text);
        return NULL;
    }
    findings->all = all;
    all[findings->count] = (struct finding){.text = text};
    return &all[findings->count++];
}

void findings_add(struct findings *findings, const struct check *check,
                  enum severity severity, int32_t rank, const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    struct finding *finding = find(findings, check, text);
    if (finding != NULL) {
        free(text);
    } else {
        finding = append(findings, text);
        if (finding == NULL)
            return;
        finding->check = check;
        finding->severity = severity;
    }
    if (rank >= 0)
        add_rank(finding, rank);
}

enum severity findings_worst(const struct findings *findings)
{
    enum severity worst = SEVERITY_OK;

    for (size_t i = 0; i < findings->count; i++)
        if (findings->all[i].severity > worst)
            worst = findings->all[i].severity;
    return worst;
}

void findings_free(struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        free(findings->all[i].text);
        free(findings->all[i].ranks);
    }
    free(findings->all);
    *findings = (struct findings){.all = NULL};
}

void findings_ranks_text(const int32_t *ranks, int32_t count, char *text,
                         size_t bytes)
{
    size_t used =
        (size_t)snprintf(text, bytes, "rank%s", count == 1 ? "" : "s");

    for (int32_t i = 0; i < count;) {
        const char *comma = i > 0 ? "," : "";
        char part[32];
        int32_t last = i;

        while (last + 1 < count && ranks[last + 1] == ranks[last] + 1)
            last++;
        if (last > i + 1)
            snprintf(part, sizeof(part), "%s %d-%d", comma, (int)ranks[i],
                     (int)ranks[last]);
        else
            snprintf(part, sizeof(part), "%s %d", comma, (int)ranks[last = i]);
        if (used + strlen(part) + ELLIPSIS_BYTES > bytes) {
            snprintf(text + used, bytes - used, "%s ...", comma);
            return;
        }
        used += (size_t)snprintf(text + used, bytes - used, "%s", part);
        i = last + 1;
    }
}
