// SPDX-License-Identifier: BSD-3-Clause
// libfabric by itself: see raw.h.
#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pingpong/raw.h"
#include "transport/ofi/ofi.h"

enum direction { SENT, RECEIVED, DIRECTIONS };

struct raw {
    struct ofi_library library;
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    fi_addr_t peer;
    struct fi_context2 contexts[DIRECTIONS];
    bool done[DIRECTIONS];
    char version[128];
};

static void must(const struct raw *raw, const char *what, long result)
{
    if (result < 0)
        raw_die(what, raw->library.strerror((int)-result));
}

static void open_objects(struct raw *raw)
{
    struct fi_info *info = raw->info;
    struct fi_av_attr av = {.type = info->domain_attr->av_type};
    struct fi_cq_attr cq = {.format = FI_CQ_FORMAT_MSG,
                            .wait_obj = FI_WAIT_NONE};

    if (av.type == FI_AV_UNSPEC)
        av.type = FI_AV_MAP;
    must(raw, "fabric",
         raw->library.fabric(info->fabric_attr, &raw->fabric, NULL));
    must(raw, "domain", fi_domain(raw->fabric, info, &raw->domain, NULL));
    must(raw, "address vector", fi_av_open(raw->domain, &av, &raw->av, NULL));
    must(raw, "queue", fi_cq_open(raw->domain, &cq, &raw->cq, NULL));
    must(raw, "endpoint", fi_endpoint(raw->domain, info, &raw->ep, NULL));
    must(raw, "endpoint", fi_ep_bind(raw->ep, &raw->av->fid, 0));
    must(raw, "endpoint",
         fi_ep_bind(raw->ep, &raw->cq->fid, FI_TRANSMIT | FI_RECV));
    must(raw, "endpoint", fi_enable(raw->ep));
}

struct raw *raw_open(void)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    char library[64];

    // These say why themselves, by raw_host.
    if (raw == NULL || ofi_library_open(&raw_host, &raw->library) != TALLY_OK ||
        ofi_provider_choose(&raw_host, &raw_params, &raw->library,
                            &raw->info) != TALLY_OK)
        exit(EXIT_FAILURE);
    if ((raw->info->domain_attr->mr_mode & FI_MR_LOCAL) != 0)
        raw_die(raw->info->fabric_attr->prov_name,
                "it wants registered memory, which is not measured here");
    open_objects(raw);
    ofi_library_version(library, sizeof(library));
    snprintf(raw->version, sizeof(raw->version), "%s; %s", library,
             raw->info->fabric_attr->prov_name);
    return raw;
}

void raw_close(struct raw *raw)
{
    fi_close(&raw->ep->fid);
    fi_close(&raw->cq->fid);
    fi_close(&raw->av->fid);
    fi_close(&raw->domain->fid);
    fi_close(&raw->fabric->fid);
    raw->library.freeinfo(raw->info);
    ofi_library_close(&raw->library);
    free(raw);
}

const char *raw_library(const struct raw *raw)
{
    return raw->version;
}

size_t raw_address(struct raw *raw, void *address)
{
    size_t bytes = RAW_ADDRESS_BYTES_MAX;

    must(raw, "address", fi_getname(&raw->ep->fid, address, &bytes));
    return bytes;
}

void raw_connect(struct raw *raw, const void *address, size_t bytes)
{
    (void)bytes; // of the provider's own format
    if (fi_av_insert(raw->av, address, 1, &raw->peer, 0, NULL) != 1)
        raw_die("address", "the peer's is refused");
}

static void progress(struct raw *raw)
{
    struct fi_cq_msg_entry entry;
    ssize_t count = fi_cq_read(raw->cq, &entry, 1);

    if (count == 1)
        for (int i = 0; i < DIRECTIONS; i++)
            raw->done[i] |= entry.op_context == &raw->contexts[i];
    else if (count != -FI_EAGAIN)
        must(raw, "a message", count);
}

static void wait_for(struct raw *raw, enum direction direction)
{
    while (!raw->done[direction])
        progress(raw);
}

static bool is_small(const struct raw *raw, size_t bytes)
{
    return bytes <= raw->info->tx_attr->inject_size;
}

void raw_send(struct raw *raw, const void *message, size_t bytes)
{
    bool small = is_small(raw, bytes);
    ssize_t result;

    raw->done[SENT] = small;
    while ((result =
                small ? fi_tinject(raw->ep, message, bytes, raw->peer, RAW_TAG)
                      : fi_tsend(raw->ep, message, bytes, NULL, raw->peer,
                                 RAW_TAG, &raw->contexts[SENT])) == -FI_EAGAIN)
        progress(raw);
    must(raw, "a send", result);
    wait_for(raw, SENT);
}

void raw_receive_post(struct raw *raw, void *message, size_t bytes)
{
    ssize_t result;

    raw->done[RECEIVED] = false;
    while ((result = fi_trecv(raw->ep, message, bytes, NULL, FI_ADDR_UNSPEC,
                              RAW_TAG, 0, &raw->contexts[RECEIVED])) ==
           -FI_EAGAIN)
        progress(raw);
    must(raw, "a receive", result);
}

void raw_receive_wait(struct raw *raw)
{
    wait_for(raw, RECEIVED);
}
