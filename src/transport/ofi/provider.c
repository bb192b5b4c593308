// SPDX-License-Identifier: BSD-3-Clause
// Which of libfabric's providers is used, and on which of its domains; and
// which there are.
#include <rdma/fi_errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"
#include "transport/ofi/version.h"
#include "transport/signals.h"

// The first that there is, unless the operator names another. What has hardware
// below it comes first. Used only if named:
//   shm          cannot leave the node, and within it no transport is needed
//   net          holds up all messages of a peer behind one of more than 128
//                bytes that no receive is posted for yet (libfabric 1.17)
//   udp;ofi_rxd  completes injected sends without their context (1.17)
//   sockets      takes milliseconds for a message where processors are few
static const char *const preference[] = {
    "efa", "cxi", "verbs;ofi_rxm", "psm3", "tcp;ofi_rxm",
};

// Whether the highest bits of a tag are among those of the provider. A format
// marks its fields by runs of equal bits, so the lowest run may be zeroes.
#define TAG_HIGHEST_BITS (3ull << 62)

#define PREFERENCES (sizeof(preference) / sizeof(preference[0]))

static const char *setting(const tally_transport_host_t *host, const char *name)
{
    const char *value = host->config(host->context, name);

    return value != NULL ? value : "";
}

static struct fi_info *make_hints(const struct ofi_library *library,
                                  const char *name)
{
    struct fi_info *hints = library->dupinfo(NULL);

    if (hints == NULL)
        return NULL;
    hints->caps = FI_TAGGED;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    // Messages of one tag are matched in the order of their sends.
    hints->tx_attr->msg_order = FI_ORDER_SAS;
    hints->rx_attr->msg_order = FI_ORDER_SAS;
    // One thread at a time, which also drives all progress: no locks and no
    // threads of the provider's own.
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->control_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR |
                                  FI_MR_ALLOCATED | FI_MR_PROV_KEY |
                                  FI_MR_ENDPOINT;
    hints->fabric_attr->prov_name = strdup(name); // freeinfo frees it
    if (hints->fabric_attr->prov_name == NULL) {
        library->freeinfo(hints);
        return NULL;
    }
    return hints;
}

// "tcp" stands for what libfabric layers over it: "tcp;ofi_rxm".
static bool is_named(const struct fi_info *info, const char *name, bool layered)
{
    const char *own = info->fabric_attr->prov_name;
    size_t length = strlen(name);

    if (own == NULL || strncmp(own, name, length) != 0)
        return false;
    return own[length] == (layered ? ';' : '\0');
}

static bool is_of_domain(const struct fi_info *info, const char *domain)
{
    return domain[0] == '\0' || (info->domain_attr->name != NULL &&
                                 strcmp(info->domain_attr->name, domain) == 0);
}

static bool is_usable(const struct fi_info *info)
{
    return info->ep_attr->max_msg_size >= OFI_MESSAGE_BYTES_MAX &&
           (info->ep_attr->mem_tag_format & TAG_HIGHEST_BITS) != 0;
}

// libfabric itself does not hold all providers to the domain in hints.
static const struct fi_info *pick(const struct fi_info *list, const char *name,
                                  const char *domain)
{
    for (int layered = 0; layered < 2; layered++)
        for (const struct fi_info *i = list; i != NULL; i = i->next)
            if (is_named(i, name, layered != 0) && is_of_domain(i, domain) &&
                is_usable(i))
                return i;
    return NULL;
}

// All that a provider has; FI_SUCCESS, or a positive fi_errno value. source: the
// address to have, or NULL.
static int list_all(const struct ofi_library *library, const char *name,
                    const char *source, struct fi_info **out)
{
    struct fi_info *hints = make_hints(library, name);

    if (hints == NULL)
        return FI_ENOMEM;
    int error = -library->getinfo(OFI_API, source, NULL,
                                  source != NULL ? FI_SOURCE : 0, hints, out);
    library->freeinfo(hints);
    return error;
}

// FI_SUCCESS with *out, or a positive fi_errno value.
static int ask(const struct ofi_library *library, const char *name,
               const char *domain, const char *source, struct fi_info **out)
{
    struct fi_info *list = NULL;
    int error = list_all(library, name, source, &list);

    if (error != FI_SUCCESS)
        return error;
    const struct fi_info *picked = pick(list, name, domain);
    *out = picked != NULL ? library->dupinfo(picked) : NULL;
    library->freeinfo(list);
    if (*out == NULL)
        return picked == NULL ? FI_ENODATA : FI_ENOMEM;
    return FI_SUCCESS;
}

// What core says of the address that leads to others.
static const char *told_address(const tally_transport_params_t *params)
{
    return params->size >= offsetof(tally_transport_params_t, address) +
                               sizeof(params->address)
               ? params->address
               : NULL;
}

// What the operator leaves to choose from.
struct choice {
    const char *named; // "": not said
    const char *domain;
    const char *const *names;
    size_t count;
};

static void choice_read(const tally_transport_host_t *host,
                        struct choice *choice)
{
    choice->named = setting(host, "TALLY_OFI_PROVIDER");
    choice->domain = setting(host, "TALLY_OFI_DOMAIN");
    bool free_ = choice->named[0] == '\0';
    choice->names = free_ ? preference : &choice->named;
    choice->count = free_ ? PREFERENCES : 1;
}

tally_status_t ofi_provider_choose(const tally_transport_host_t *host,
                                   const tally_transport_params_t *params,
                                   const struct ofi_library *library,
                                   struct fi_info **out)
{
    struct choice choice;
    int error = FI_ENODATA;

    choice_read(host, &choice);
    const char *source =
        choice.domain[0] == '\0' ? told_address(params) : NULL;
    for (size_t i = 0; i < choice.count && error != FI_SUCCESS; i++)
        error = ask(library, choice.names[i], choice.domain, source, out);
    if (error == FI_SUCCESS)
        return TALLY_OK;
    return ofi_fail(host, TALLY_ERR_TRANSPORT,
                    "libfabric has no provider of tagged messages%s%s "
                    "(TALLY_OFI_PROVIDER=\"%s\", TALLY_OFI_DOMAIN=\"%s\"): %s",
                    source != NULL ? " at " : "", source != NULL ? source : "",
                    choice.named, choice.domain, library->strerror(error));
}

// Whether an earlier entry of the list is the same to people: providers offer
// a device once for each kind of address.
static bool is_repeated(const struct fi_info *list, const struct fi_info *info)
{
    for (; list != info; list = list->next)
        if (list->domain_attr->name != NULL &&
            strcmp(list->domain_attr->name, info->domain_attr->name) == 0)
            return true;
    return false;
}

static void write_devices(const struct fi_info *list, const char *name,
                          const char *domain, FILE *out)
{
    for (const struct fi_info *i = list; i != NULL; i = i->next)
        if (i->domain_attr->name != NULL && is_of_domain(i, domain) &&
            is_usable(i) && !is_repeated(list, i))
            fprintf(out, "%s %s\n", name, i->domain_attr->name);
}

tally_status_t ofi_devices(const tally_transport_host_t *host, char *text,
                           size_t bytes)
{
    struct ofi_library library;
    struct signals signals;
    struct choice choice;
    FILE *out;
    tally_status_t status = ofi_library_open(host, &library);

    if (status != TALLY_OK)
        return status;
    choice_read(host, &choice);
    out = fmemopen(text, bytes, "w");
    if (out == NULL) {
        status = ofi_fail(host, TALLY_ERR_MEMORY, "no memory for devices");
        goto close_library;
    }
    signals_save(&signals); // providers catch them when they are started
    for (size_t i = 0; i < choice.count; i++) {
        struct fi_info *list = NULL;
        if (list_all(&library, choice.names[i], NULL, &list) != FI_SUCCESS)
            continue;
        write_devices(list, choice.names[i], choice.domain, out);
        library.freeinfo(list);
    }
    signals_restore(&signals);
    fclose(out);

close_library:
    ofi_library_close(&library);
    return status;
}
