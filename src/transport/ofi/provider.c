// SPDX-License-Identifier: BSD-3-Clause
// Which of libfabric's providers is used, and on which of its domains.
#include <rdma/fi_errno.h>
#include <stddef.h>
#include <string.h>

#include "transport/ofi/ofi.h"
#include "transport/ofi/status.h"
#include "transport/ofi/version.h"

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

// FI_SUCCESS with *out, or a positive fi_errno value. source: the address to
// have, or NULL.
static int ask(const struct ofi_library *library, const char *name,
               const char *domain, const char *source, struct fi_info **out)
{
    struct fi_info *hints = make_hints(library, name);
    struct fi_info *list = NULL;

    if (hints == NULL)
        return FI_ENOMEM;
    int error = -library->getinfo(OFI_API, source, NULL,
                                  source != NULL ? FI_SOURCE : 0, hints, &list);
    library->freeinfo(hints);
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

tally_status_t ofi_provider_choose(const tally_transport_host_t *host,
                                   const tally_transport_params_t *params,
                                   const struct ofi_library *library,
                                   struct fi_info **out)
{
    const char *named = setting(host, "TALLY_OFI_PROVIDER");
    const char *domain = setting(host, "TALLY_OFI_DOMAIN");
    const char *source = domain[0] == '\0' ? told_address(params) : NULL;
    const char *const *names = named[0] != '\0' ? &named : preference;
    size_t count = named[0] != '\0' ? 1 : PREFERENCES;
    int error = FI_ENODATA;

    for (size_t i = 0; i < count && error != FI_SUCCESS; i++)
        error = ask(library, names[i], domain, source, out);
    if (error == FI_SUCCESS)
        return TALLY_OK;
    return ofi_fail(host, TALLY_ERR_TRANSPORT,
                    "libfabric has no provider of tagged messages%s%s "
                    "(TALLY_OFI_PROVIDER=\"%s\", TALLY_OFI_DOMAIN=\"%s\"): %s",
                    source != NULL ? " at " : "", source != NULL ? source : "",
                    named, domain, library->strerror(error));
}
