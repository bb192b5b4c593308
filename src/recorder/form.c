// SPDX-License-Identifier: BSD-3-Clause
// What the recorder keeps, as JSON and for people.
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "recorder/state.h"

#define TEXT_STEPS 16 // the last ones, for people

static const char *const counter_names[RECORDER_COUNTERS] = {
    [RECORDER_COUNTED] = "counted",        [RECORDER_EXCLUDED] = "excluded",
    [RECORDER_ABORTED] = "aborted",        [RECORDER_APPLIED] = "applied",
    [RECORDER_RETRIED] = "retried",        [RECORDER_DISCARDED] = "discarded",
    [RECORDER_IN_DOUBT] = "in_doubt",      [RECORDER_EPOCHS] = "epochs",
    [RECORDER_REFUSED] = "refused",        [RECORDER_SUSPECTED] = "suspected",
    [RECORDER_PROVIDER] = "provider_lost",
};

static uint64_t first_kept(const struct recorder_content *content,
                           uint64_t most)
{
    return content->count > most ? content->count - most : 0;
}

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

// ----------------------------------------------------------------------- JSON

static void write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20 || byte >= 0x7f)
            fprintf(out, "\\u%04x", byte); // as Latin-1: what a job is called
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

static void write_set(FILE *out, const char *name, uint64_t set)
{
    fprintf(out, "\"%s\": [", name);
    for (uint64_t rest = set; rest != 0; rest &= rest - 1)
        fprintf(out, "%s%d", rest == set ? "" : ", ", __builtin_ctzll(rest));
    fputc(']', out);
}

static void write_view(FILE *out, const struct recorder_view *view)
{
    fprintf(out,
            "  \"view\": {\"state\": \"%s\", \"lineage\": %" PRIu32
            ", \"epoch\": %" PRIu32 ", \"index\": %" PRIu64
            ", \"attempt\": %" PRIu32 ", ",
            or_empty(view->state), view->lineage, view->epoch, view->next.index,
            view->next.attempt);
    write_set(out, "members", view->members);
    fputs(", ", out);
    write_set(out, "acceptors", view->acceptors);
    fputs(", ", out);
    write_set(out, "heard", view->heard);
    fputs("},\n", out);
}

static void write_step(FILE *out, const struct recorder_entry *entry)
{
    const struct recorder_step *step = &entry->step;

    fprintf(out,
            "{\"at\": %" PRId64 ".%06d, \"lineage\": %" PRIu32
            ", \"epoch\": %" PRIu32 ", \"index\": %" PRIu64
            ", \"attempt\": %" PRIu32 ", \"what\": \"%s\", \"why\": \"%s\", ",
            entry->at_us / 1000000, (int)(entry->at_us % 1000000),
            step->lineage, step->epoch, step->instance.index,
            step->instance.attempt, step->what, or_empty(step->why));
    write_set(out, "members", step->members);
    if (step->waited_us >= 0)
        fprintf(out, ", \"waited_us\": %" PRId64, step->waited_us);
    fputc('}', out);
}

void recorder_write_json(FILE *out, const struct recorder_content *content,
                         const char *why)
{
    uint64_t first = first_kept(content, RECORDER_STEPS);

    fputs("{\"job\": ", out);
    write_string(out, content->job);
    // A number of JSON may lose the end of an incarnation.
    fprintf(out,
            ", \"pid\": %d, \"replica\": %u, \"witness\": %s,\n"
            "  \"incarnation\": \"%" PRIu64 "\", \"why\": \"%s\",\n",
            (int)getpid(), (unsigned)content->self.peer,
            content->witness ? "true" : "false", content->self.incarnation,
            why);
    write_view(out, &content->view);
    fputs("  \"counters\": {", out);
    for (int i = 0; i < RECORDER_COUNTERS; i++)
        fprintf(out, "%s\"%s\": %" PRIu64, i == 0 ? "" : ", ", counter_names[i],
                content->counters[i]);
    fputs("},\n  \"steps\": [", out);
    for (uint64_t i = first; i < content->count; i++) {
        fputs(i == first ? "\n    " : ",\n    ", out);
        write_step(out, &content->entries[i % RECORDER_STEPS]);
    }
    fputs("]}\n", out);
}

// --------------------------------------------------------------------- people

static void say_set(FILE *out, uint64_t set)
{
    if (set == 0)
        fputc('-', out);
    for (uint64_t rest = set; rest != 0; rest &= rest - 1)
        fprintf(out, "%s%d", rest == set ? "" : ",", __builtin_ctzll(rest));
}

static void say_step(FILE *out, const struct recorder_entry *entry)
{
    const struct recorder_step *step = &entry->step;
    time_t seconds = (time_t)(entry->at_us / 1000000);
    struct tm when;
    char text[16];

    localtime_r(&seconds, &when);
    strftime(text, sizeof(text), "%H:%M:%S", &when);
    fprintf(out, "    %s.%06d  %6" PRIu64 ".%-2" PRIu32 " %-10s ", text,
            (int)(entry->at_us % 1000000), step->instance.index,
            step->instance.attempt, step->what);
    say_set(out, step->members);
    if (step->waited_us >= 0)
        fprintf(out, "  after %" PRId64 " us", step->waited_us);
    if (step->why != NULL)
        fprintf(out, "  %s", step->why);
    fputc('\n', out);
}

void recorder_write_text(FILE *out, const struct recorder_content *content)
{
    const struct recorder_view *view = &content->view;
    uint64_t first = first_kept(content, TEXT_STEPS);

    fprintf(out, "%s %u: %s, process %d, incarnation %" PRIu64 "\n",
            content->witness ? "witness" : "replica",
            (unsigned)content->self.peer,
            view->state != NULL ? view->state : "starting", (int)getpid(),
            content->self.incarnation);
    fprintf(out,
            "  lineage %" PRIu32 ", epoch %" PRIu32 ", next %" PRIu64
            ".%" PRIu32 "; members ",
            view->lineage, view->epoch, view->next.index, view->next.attempt);
    say_set(out, view->members);
    fputs(", acceptors ", out);
    say_set(out, view->acceptors);
    fputs(", heard ", out);
    say_set(out, view->heard);
    fputs("\n  ", out);
    for (int i = 0; i < RECORDER_COUNTERS; i++)
        fprintf(out, "%s%s %" PRIu64, i == 0 ? "" : ", ", counter_names[i],
                content->counters[i]);
    fputc('\n', out);
    for (uint64_t i = first; i < content->count; i++)
        say_step(out, &content->entries[i % RECORDER_STEPS]);
}
