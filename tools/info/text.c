// SPDX-License-Identifier: BSD-3-Clause
// tally_info's text for people.
#include <string.h>
#include <tally/plugin.h>
#include <unistd.h>

#include "info/info.h"

#define TEXT_COLUMNS 79
#define TEXT_INDENT 4

// A value as one would write it in a shell, more or less: in quotes where it
// would otherwise not be seen to begin and end; nothing that a terminal obeys.
static void write_value(FILE *out, const char *value)
{
    bool quoted = *value == '\0' || strpbrk(value, " \t\n\"\\,") != NULL;

    if (quoted)
        fputc('"', out);
    for (; *value != '\0'; value++) {
        unsigned char byte = (unsigned char)*value;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            fprintf(out, "\\x%02x", (unsigned)byte);
        else
            fputc(byte, out);
    }
    if (quoted)
        fputc('"', out);
}

// Words of `text`, indented, in lines that fit.
static void write_paragraph(FILE *out, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > TEXT_COLUMNS) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            column = (size_t)fprintf(out, "%*s", TEXT_INDENT, "");
        else
            column += (size_t)fprintf(out, " ");
        column += fwrite(text, 1, word, out);
        text += word;
        text += strspn(text, " ");
    }
    if (column > 0)
        fputc('\n', out);
}

static void write_version(FILE *out)
{
    fprintf(out, "tally %s\n", tally_version());
    fprintf(out, "    ABI           %u\n", (unsigned)tallyPlugin_v1.abi);
    fprintf(out, "    compiler      %s\n", info_build.compiler);
    fprintf(out, "    flags         %s\n", info_build.flags);
    fprintf(out, "    host kernels ");
    for (int i = 0; info_build.host_isas[i] != NULL; i++)
        fprintf(out, " %s", info_build.host_isas[i]);
    fprintf(out, "\n    UCX           %s\n", info_build.ucx ? "yes" : "no");
    fprintf(out, "    libfabric     %s\n", info_build.ofi ? "yes" : "no");
    fprintf(out, "    NCCL          %s\n", info_build.nccl ? "yes" : "no");
    fprintf(out, "    TALLY_SECRET  %s\n", info_build.secret ? "yes" : "no");
}

static void write_unknown(FILE *out)
{
    char *const *at = environ;

    while ((at = info_unknown_next(at)) != NULL) {
        fprintf(out, "%.*s\n", (int)strcspn(*at, "="), *at);
        write_paragraph(out, "is set, but is not a variable of Tally.");
        at++;
    }
}

static void write_config(FILE *out, bool *failed)
{
    tally_config_row_t row;

    for (uint32_t i = 0; info_config_row(i, &row, failed); i++) {
        fprintf(out, "%s=", row.name);
        write_value(out, row.value);
        fprintf(out, "  (%s)\n%*s%s; default ", row.source, TEXT_INDENT, "",
                row.type);
        write_value(out, row.preset);
        fprintf(out, "%s\n",
                row.job_wide ? "; must be equal at all ranks" : "");
        write_paragraph(out, row.doc);
    }
    write_unknown(out);
}

static void write_transports(FILE *out, bool *failed)
{
    tally_transport_row_t row;

    for (uint32_t i = 0; info_transport_row(i, &row, failed); i++) {
        fprintf(out, "transport %s: %s%s%s\n", row.name,
                row.loaded ? "loaded" : "not usable",
                row.version[0] != '\0' ? ", " : "", row.version);
        write_paragraph(out, row.path);
        write_paragraph(out, row.reason);
    }
}

bool info_text_write(FILE *out, unsigned sections)
{
    bool failed = false;

    if (sections & INFO_VERSION)
        write_version(out);
    if (sections & INFO_CONFIG)
        write_config(out, &failed);
    if (sections & INFO_TRANSPORTS)
        write_transports(out, &failed);
    return !failed;
}
