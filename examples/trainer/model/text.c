// SPDX-License-Identifier: BSD-3-Clause
// See text.h.
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../fail.h"

#define HELDOUT_EVERY 16

// Files seen so far: licences are linked under several names.
struct seen {
    dev_t device;
    ino_t inode;
};

static bool seen_before(struct seen *seen, int *count, const struct stat *stat)
{
    for (int i = 0; i < *count; i++)
        if (seen[i].device == stat->st_dev && seen[i].inode == stat->st_ino)
            return true;
    seen[*count].device = stat->st_dev;
    seen[*count].inode = stat->st_ino;
    *count += 1;
    return false;
}

// Appends the file to *bytes, with a blank line after it.
static bool file_append(int file, const char *path, size_t file_size,
                        uint8_t **bytes, size_t *size)
{
    uint8_t *grown = realloc(*bytes, *size + file_size + 2);
    size_t done = 0;

    if (grown == NULL)
        return trainer_fail("no memory for %s (%zu bytes)", path, file_size);
    *bytes = grown;
    while (done < file_size) {
        ssize_t got = read(file, grown + *size + done, file_size - done);
        if (got < 0)
            return trainer_fail("cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *size += done;
    grown[(*size)++] = '\n';
    grown[(*size)++] = '\n';
    return true;
}

static bool file_read(const char *path, struct seen *seen, int *seen_count,
                      uint8_t **bytes, size_t *size)
{
    struct stat stat;
    bool ok = false;
    int file = open(path, O_RDONLY | O_CLOEXEC);

    if (file < 0)
        return trainer_fail("cannot open %s: %s", path, strerror(errno));
    if (fstat(file, &stat) != 0)
        trainer_fail("cannot look at %s: %s", path, strerror(errno));
    else if (!S_ISREG(stat.st_mode))
        trainer_fail("%s is not a regular file", path);
    else
        ok = seen_before(seen, seen_count, &stat) ||
             file_append(file, path, (size_t)stat.st_size, bytes, size);
    close(file);
    return ok;
}

// The length of the next document at `bytes`: up to a blank line, at most
// TEXT_DOCUMENT_MAX.
static int32_t document_length(const uint8_t *bytes, size_t size)
{
    size_t length = 0;

    while (length < size && length < TEXT_DOCUMENT_MAX) {
        length++;
        if (length >= 2 && bytes[length - 1] == '\n' &&
            bytes[length - 2] == '\n')
            break;
    }
    return (int32_t)length;
}

static void documents_add(struct text_documents *documents,
                          const uint8_t *bytes, int32_t length)
{
    documents->items[documents->count].bytes = bytes;
    documents->items[documents->count].length = length;
    documents->count++;
}

bool text_cut_take(uint8_t *bytes, size_t size, struct text *out)
{
    size_t room = size / TEXT_DOCUMENT_MIN + 1;
    struct text text = {.bytes = bytes, .size = size};
    int32_t number = 0;

    text.training.items = calloc(room, sizeof(*text.training.items));
    text.heldout.items =
        calloc(room / HELDOUT_EVERY + 1, sizeof(*text.heldout.items));
    if (text.training.items == NULL || text.heldout.items == NULL) {
        trainer_fail("no memory for up to %zu documents", room);
        goto free_text;
    }
    for (size_t at = 0; at < size;) {
        int32_t length = document_length(bytes + at, size - at);
        if (length >= TEXT_DOCUMENT_MIN)
            documents_add(number++ % HELDOUT_EVERY == HELDOUT_EVERY - 1
                              ? &text.heldout
                              : &text.training,
                          bytes + at, length);
        at += (size_t)length;
    }
    if (text.heldout.count == 0) {
        trainer_fail("%zu bytes of text are too few: they make %d of the %d "
                     "documents needed (pieces between blank lines)",
                     size, number, HELDOUT_EVERY);
        goto free_text;
    }
    *out = text;
    return true;

free_text:
    text_free(&text);
    return false;
}

bool text_load(char *const *paths, int path_count, struct text *out)
{
    glob_t found = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    int seen_count = 0;
    bool ok = false;

    if (path_count == 0) {
        if (glob(TEXT_DEFAULT_FILES, 0, NULL, &found) != 0)
            return trainer_fail("there is no text at %s: name files to learn "
                                "on the command line",
                                TEXT_DEFAULT_FILES);
        paths = found.gl_pathv;
        path_count = (int)found.gl_pathc;
    }
    struct seen *seen = calloc((size_t)path_count, sizeof(*seen));
    if (seen == NULL) {
        trainer_fail("no memory for %d file names", path_count);
        goto free_found;
    }
    for (int i = 0; i < path_count; i++)
        if (!file_read(paths[i], seen, &seen_count, &bytes, &size)) {
            free(bytes);
            goto free_seen;
        }
    ok = text_cut_take(bytes, size, out);

free_seen:
    free(seen);
free_found:
    globfree(&found);
    return ok;
}

void text_free(struct text *text)
{
    free(text->heldout.items);
    free(text->training.items);
    free(text->bytes);
}
