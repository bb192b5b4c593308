// SPDX-License-Identifier: BSD-3-Clause
// The text to learn: files cut into documents of ragged length, at blank lines.
// It does not say which documents make a step (batch.h).
#ifndef TRAINER_TEXT_H
#define TRAINER_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_DOCUMENT_MIN 8   // bytes; shorter paragraphs are left out
#define TEXT_DOCUMENT_MAX 384 // bytes; longer ones become several documents

// The files read where none are named.
#define TEXT_DEFAULT_FILES "/usr/share/common-licenses/*"

struct text_document {
    const uint8_t *bytes;
    int32_t length;
};

struct text_documents {
    struct text_document *items;
    int32_t count;
};

struct text {
    uint8_t *bytes; // of all files, one after the other
    size_t size;
    struct text_documents training;
    struct text_documents heldout; // every 16th document, never trained on
};

// Reads `paths`, or TEXT_DEFAULT_FILES if path_count is 0. A file that appears
// under several names is read once.
bool text_load(char *const *paths, int path_count, struct text *out);

// Cuts bytes that the caller allocated into documents; takes the bytes, even
// where it fails.
bool text_cut_take(uint8_t *bytes, size_t size, struct text *out);

void text_free(struct text *text);

#endif
