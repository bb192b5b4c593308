// SPDX-License-Identifier: BSD-3-Clause
// The manual page tally(7) from the table of variables, in mdoc. Defaults only:
// what the environment says at build time must not get into a page.
#include <ctype.h>
#include <string.h>

#include "info/info.h"

// Of the text below; a date of the build would make builds differ.
#define MAN_DATE "November 24, 2026"
#define MAN_COLUMNS 78

static void write_character(FILE *out, char c)
{
    if (c == '\\')
        fputs("\\e", out);
    else
        fputc(c, out);
}

// Not "e.g." nor "...", which have another dot before.
static bool ends_sentence(const char *word, size_t bytes, const char *next)
{
    return bytes > 0 && strchr(".?!", word[bytes - 1]) != NULL &&
           memchr(word, '.', bytes - 1) == NULL &&
           isalnum((unsigned char)*next);
}

// Running text: a sentence begins on a line of its own, as mdoc wants it, and
// no line is taken for a request.
static void write_running(FILE *out, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        const char *next = text + word + strspn(text + word, " ");
        if (column > 0 && column + 1 + word > MAN_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        if (column > 0)
            fputc(' ', out);
        else if (*text == '.' || *text == '\'')
            fputs("\\&", out);
        for (size_t i = 0; i < word; i++)
            write_character(out, text[i]);
        column += word + 1;
        if (ends_sentence(text, word, next) || *next == '\0') {
            fputc('\n', out);
            column = 0;
        }
        text = next;
    }
}

// One argument of a macro, never taken for another macro or a delimiter.
static void write_argument(FILE *out, const char *text)
{
    fputs("\"\\&", out);
    for (; *text != '\0'; text++)
        if (*text == '"')
            fputs("\\(dq", out);
        else
            write_character(out, *text);
    fputc('"', out);
}

static void write_row(FILE *out, const tally_config_row_t *row)
{
    fprintf(out, ".It Ev %s\n.Pq ", row->name);
    write_argument(out, row->type);
    fputc('\n', out);
    write_running(out, row->doc);
    if (row->preset[0] == '\0') {
        fputs("Not set by default.\n", out);
    } else {
        fputs("Default:\n.Ql ", out);
        write_argument(out, row->preset);
        fputs(" .\n", out);
    }
    if (row->job_wide)
        fputs("It must be equal at all ranks.\n", out);
}

static void write_head(FILE *out)
{
    fprintf(out,
            ".\\\" Made by tally_info --man from the table of variables.\n"
            ".Dd %s\n.Dt TALLY 7\n.Os\n"
            ".Sh NAME\n.Nm tally\n"
            ".Nd Tally's environment variables\n"
            ".Sh DESCRIPTION\n"
            "Tally reduces token counts and losses over the ranks of a "
            "training job,\n"
            "so that every token counts once.\n"
            "All that may be chosen at run time is an environment variable,\n"
            "read when the library is opened.\n"
            "An empty variable is as good as one that is not set.\n"
            "A variable\n.Ev TALLY_*\n"
            "that is not listed here is reported, "
            "with the nearest name that is.\n"
            ".Sh ENVIRONMENT\n.Bl -tag -width Ds\n",
            MAN_DATE);
}

bool info_man_write(FILE *out)
{
    tally_config_row_t row;
    bool failed = false;

    write_head(out);
    for (uint32_t i = 0; info_config_row(i, &row, &failed); i++)
        write_row(out, &row);
    fputs(".El\n"
          ".Sh SEE ALSO\n"
          ".Xr tally_doctor 1 ,\n.Xr tally_info 1 ,\n"
          ".Xr tally_perf 1 ,\n.Xr tally_run 1\n",
          out);
    return !failed;
}
