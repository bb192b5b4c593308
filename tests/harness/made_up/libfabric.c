// SPDX-License-Identifier: BSD-3-Clause
// See libfabric.h. Not a provider for anything but tests.
#include "made_up/libfabric.h"

#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_tagged.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

#define QUEUE_MAX 4096
#define OWN_ADDRESS 7

TALLY_API struct made_up made_up;

struct message {
    uint64_t tag;
    void *buffer;
    size_t bytes;
    void *context; // of a receive
};

struct queue {
    struct message messages[QUEUE_MAX];
    size_t count;
};

struct completion {
    void *context;
    size_t bytes;
    int error;
};

struct registration {
    struct fid_mr mr;
    const char *memory;
    size_t bytes;
    bool enabled;
};

static struct queue unexpected, receives;
static struct completion completions[QUEUE_MAX];
static size_t completion_count;

static void rule(bool kept, const char *what)
{
    if (kept)
        return;
    fprintf(stderr, "made-up libfabric: %s\n", what);
    made_up.violations++;
}

// The context is the library's until the completion: it writes all of it.
static void context_take(void *context)
{
    rule((uintptr_t)context % sizeof(void *) == 0, "an unaligned context");
    memset(context, 0xa5, sizeof(struct fi_context2));
}

static void complete(void *context, size_t bytes, int error)
{
    const unsigned char *at = context;

    for (size_t i = 0; i < sizeof(struct fi_context2); i++)
        if (at[i] != 0xa5) {
            rule(false, "a context was written to while posted");
            break;
        }
    completions[completion_count++] =
        (struct completion){context, bytes, error};
}

static struct message take(struct queue *queue, size_t i)
{
    struct message message = queue->messages[i];

    queue->count--;
    memmove(&queue->messages[i], &queue->messages[i + 1],
            (queue->count - i) * sizeof(message));
    return message;
}

static size_t find(const struct queue *queue, uint64_t tag)
{
    size_t i = 0;

    while (i < queue->count && queue->messages[i].tag != tag)
        i++;
    return i;
}

static void check_memory(const void *buffer, size_t bytes,
                         const struct registration *registration)
{
    if ((made_up.mr_mode & FI_MR_LOCAL) == 0)
        return;
    rule(registration != NULL, "no descriptor");
    if (registration == NULL)
        return;
    rule(registration->enabled, "a registration that is not bound");
    rule((const char *)buffer >= registration->memory &&
             (const char *)buffer + bytes <=
                 registration->memory + registration->bytes,
         "memory that is not registered");
}

static ssize_t refused(void)
{
    int error = made_up.post_error;

    if (made_up.refusals > 0) {
        made_up.refusals--;
        return -FI_EAGAIN;
    }
    made_up.post_error = 0;
    return -error;
}

static void deliver(const struct message *receive, const void *buffer,
                    size_t bytes)
{
    size_t fits = bytes < receive->bytes ? bytes : receive->bytes;

    memcpy(receive->buffer, buffer, fits);
    complete(receive->context, fits, fits < bytes ? FI_ETRUNC : 0);
}

static void transfer(const void *buffer, size_t bytes, uint64_t tag,
                     void *context)
{
    size_t i = find(&receives, tag);

    context_take(context);
    complete(context, bytes, made_up.send_error);
    if (made_up.send_error != 0) {
        made_up.send_error = 0;
    } else if (i < receives.count) {
        struct message receive = take(&receives, i);
        deliver(&receive, buffer, bytes);
    } else {
        struct message *message = &unexpected.messages[unexpected.count++];
        *message = (struct message){tag, malloc(bytes + 1), bytes, NULL};
        memcpy(message->buffer, buffer, bytes);
    }
}

static ssize_t tagged_send(struct fid_ep *ep, const void *buffer, size_t bytes,
                           void *descriptor, fi_addr_t address, uint64_t tag,
                           void *context)
{
    ssize_t result = refused();

    (void)ep;
    rule(address == OWN_ADDRESS, "an unknown address");
    check_memory(buffer, bytes, descriptor);
    if (result == 0)
        transfer(buffer, bytes, tag, context);
    return result;
}

static ssize_t tagged_sendmsg(struct fid_ep *ep,
                              const struct fi_msg_tagged *message,
                              uint64_t flags)
{
    size_t bytes = message->iov_count > 0 ? message->msg_iov[0].iov_len : 0;
    ssize_t result = refused();

    (void)ep;
    rule(flags == (FI_INJECT | FI_COMPLETION), "flags of an injected send");
    rule(bytes <= made_up.inject_size, "too large to be injected");
    if (result == 0)
        transfer(message->msg_iov[0].iov_base, bytes, message->tag,
                 message->context);
    return result;
}

static ssize_t tagged_recv(struct fid_ep *ep, void *buffer, size_t bytes,
                           void *descriptor, fi_addr_t source, uint64_t tag,
                           uint64_t ignored, void *context)
{
    const struct message receive = {tag, buffer, bytes, context};
    ssize_t result = refused();
    size_t i = find(&unexpected, tag);

    (void)ep;
    rule(source == FI_ADDR_UNSPEC && ignored == 0, "a receive of one tag");
    check_memory(buffer, bytes, descriptor);
    if (result != 0)
        return result;
    context_take(context);
    if (i < unexpected.count) {
        struct message message = take(&unexpected, i);
        deliver(&receive, message.buffer, message.bytes);
        free(message.buffer);
    } else {
        receives.messages[receives.count++] = receive;
    }
    return 0;
}

static ssize_t ep_cancel(fid_t fid, void *context)
{
    (void)fid;
    for (size_t i = 0; i < receives.count; i++)
        if (receives.messages[i].context == context) {
            take(&receives, i);
            complete(context, 0, FI_ECANCELED);
            return 0;
        }
    return -FI_ENOENT;
}

static struct completion next_completion(void)
{
    struct completion completion = completions[0];

    completion_count--;
    memmove(completions, completions + 1,
            completion_count * sizeof(completion));
    return completion;
}

static ssize_t cq_read(struct fid_cq *cq, void *buffer, size_t count)
{
    struct fi_cq_msg_entry *entry = buffer;
    size_t i = 0;

    (void)cq;
    if (completion_count == 0)
        return -FI_EAGAIN;
    if (completions[0].error != 0)
        return -FI_EAVAIL;
    for (; i < count && completion_count > 0 && completions[0].error == 0;
         i++) {
        struct completion completion = next_completion();
        entry[i] = (struct fi_cq_msg_entry){
            .op_context = completion.context,
            .len = completion.bytes,
        };
    }
    return (ssize_t)i;
}

static ssize_t cq_readerr(struct fid_cq *cq, struct fi_cq_err_entry *entry,
                          uint64_t flags)
{
    struct completion completion = next_completion();

    (void)cq;
    (void)flags;
    entry->op_context = completion.context;
    entry->err = completion.error;
    return 1;
}

static int close_object(struct fid *fid)
{
    made_up.open_objects--;
    free(fid);
    return 0;
}

static int bind_object(struct fid *fid, struct fid *to, uint64_t flags)
{
    (void)fid;
    (void)to;
    (void)flags;
    return 0;
}

static int control(struct fid *fid, int command, void *argument)
{
    (void)argument;
    if (fid->fclass == FI_CLASS_MR && command == FI_ENABLE)
        ((struct registration *)fid)->enabled = true;
    return 0;
}

static struct fi_ops object_ops = {
    .size = sizeof(object_ops),
    .close = close_object,
    .bind = bind_object,
    .control = control,
};

static void *make(size_t bytes, size_t class)
{
    struct fid *fid = calloc(1, bytes);

    fid->fclass = class;
    fid->ops = &object_ops;
    made_up.open_objects++;
    return fid;
}

static int mr_reg(struct fid *fid, const void *buffer, size_t bytes,
                  uint64_t access, uint64_t offset, uint64_t key,
                  uint64_t flags, struct fid_mr **mr, void *context)
{
    struct registration *made = make(sizeof(*made), FI_CLASS_MR);

    (void)fid;
    (void)offset;
    (void)flags;
    (void)context;
    rule(access == (FI_SEND | FI_RECV), "the access of a registration");
    rule(key == (uint64_t)made_up.registrations, "a key that was used");
    made_up.registrations++;
    made->mr.mem_desc = made;
    made->memory = buffer;
    made->bytes = bytes;
    made->enabled = (made_up.mr_mode & FI_MR_ENDPOINT) == 0;
    *mr = &made->mr;
    return 0;
}

static int get_name(fid_t fid, void *address, size_t *bytes)
{
    (void)fid;
    memcpy(address, "self", 4);
    *bytes = 4;
    return 0;
}

static int av_insert(struct fid_av *av, const void *address, size_t count,
                     fi_addr_t *out, uint64_t flags, void *context)
{
    (void)av;
    (void)flags;
    (void)context;
    rule(count == 1 && memcmp(address, "self", 4) == 0, "an address");
    *out = OWN_ADDRESS;
    return 1;
}

static int av_open(struct fid_domain *domain, struct fi_av_attr *attr,
                   struct fid_av **av, void *context)
{
    static struct fi_ops_av ops = {.size = sizeof(ops), .insert = av_insert};

    (void)domain;
    (void)context;
    rule(attr->type == FI_AV_TABLE, "the kind of address vector");
    *av = make(sizeof(**av), FI_CLASS_AV);
    (*av)->ops = &ops;
    return 0;
}

static int cq_open(struct fid_domain *domain, struct fi_cq_attr *attr,
                   struct fid_cq **cq, void *context)
{
    static struct fi_ops_cq ops = {
        .size = sizeof(ops), .read = cq_read, .readerr = cq_readerr};

    (void)domain;
    (void)context;
    if (attr->wait_obj != FI_WAIT_NONE)
        return -FI_ENOSYS;
    *cq = make(sizeof(**cq), FI_CLASS_CQ);
    (*cq)->ops = &ops;
    return 0;
}

static int ep_open(struct fid_domain *domain, struct fi_info *info,
                   struct fid_ep **ep, void *context)
{
    static struct fi_ops_ep ops = {.size = sizeof(ops), .cancel = ep_cancel};
    static struct fi_ops_cm cm = {.size = sizeof(cm), .getname = get_name};
    static struct fi_ops_tagged tagged = {
        .size = sizeof(tagged),
        .recv = tagged_recv,
        .send = tagged_send,
        .sendmsg = tagged_sendmsg,
    };

    (void)domain;
    (void)info;
    (void)context;
    *ep = make(sizeof(**ep), FI_CLASS_EP);
    (*ep)->ops = &ops;
    (*ep)->cm = &cm;
    (*ep)->tagged = &tagged;
    return 0;
}

static int domain_open(struct fid_fabric *fabric, struct fi_info *info,
                       struct fid_domain **domain, void *context)
{
    static struct fi_ops_domain ops = {
        .size = sizeof(ops),
        .av_open = av_open,
        .cq_open = cq_open,
        .endpoint = ep_open,
    };
    static struct fi_ops_mr mr = {.size = sizeof(mr), .reg = mr_reg};

    (void)fabric;
    (void)info;
    (void)context;
    *domain = make(sizeof(**domain), FI_CLASS_DOMAIN);
    (*domain)->ops = &ops;
    (*domain)->mr = &mr;
    return 0;
}

// ------------------------------------------------------- what is exported

TALLY_API uint32_t fi_version(void)
{
    return FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION);
}

TALLY_API const char *fi_strerror(int error)
{
    return error == FI_ENODATA ? "nothing there" : "a made-up error";
}

TALLY_API struct fi_info *fi_dupinfo(const struct fi_info *from)
{
    struct fi_info *info = calloc(1, sizeof(*info));

    made_up.open_objects++;
    info->tx_attr = calloc(1, sizeof(*info->tx_attr));
    info->rx_attr = calloc(1, sizeof(*info->rx_attr));
    info->ep_attr = calloc(1, sizeof(*info->ep_attr));
    info->domain_attr = calloc(1, sizeof(*info->domain_attr));
    info->fabric_attr = calloc(1, sizeof(*info->fabric_attr));
    if (from == NULL)
        return info;
    *info->tx_attr = *from->tx_attr;
    *info->rx_attr = *from->rx_attr;
    *info->ep_attr = *from->ep_attr;
    *info->domain_attr = *from->domain_attr;
    *info->fabric_attr = *from->fabric_attr;
    info->domain_attr->name = strdup(from->domain_attr->name);
    info->fabric_attr->prov_name = strdup(from->fabric_attr->prov_name);
    return info;
}

TALLY_API void fi_freeinfo(struct fi_info *info)
{
    made_up.open_objects--;
    free(info->domain_attr->name);
    free(info->fabric_attr->prov_name);
    free(info->tx_attr);
    free(info->rx_attr);
    free(info->ep_attr);
    free(info->domain_attr);
    free(info->fabric_attr);
    free(info);
}

TALLY_API int fi_getinfo(uint32_t version, const char *node,
                         const char *service, uint64_t flags,
                         const struct fi_info *hints, struct fi_info **out)
{
    char name[64];
    struct fi_info *info;

    (void)node;
    (void)service;
    (void)flags;
    rule(FI_VERSION_GE(fi_version(), version), "the version asked for");
    snprintf(name, sizeof(name), " %s ", hints->fabric_attr->prov_name);
    if (strstr(made_up.providers, name) == NULL)
        return -FI_ENODATA;
    info = fi_dupinfo(NULL);
    info->fabric_attr->prov_name = strdup(hints->fabric_attr->prov_name);
    info->domain_attr->name = strdup("nowhere");
    info->domain_attr->mr_mode = made_up.mr_mode;
    info->domain_attr->av_type = FI_AV_TABLE;
    info->ep_attr->max_msg_size = SIZE_MAX;
    info->ep_attr->mem_tag_format = made_up.tag_format;
    info->tx_attr->inject_size = made_up.inject_size;
    *out = info;
    return 0;
}

TALLY_API int fi_fabric(struct fi_fabric_attr *attr, struct fid_fabric **fabric,
                        void *context)
{
    static struct fi_ops_fabric ops = {
        .size = sizeof(ops),
        .domain = domain_open,
    };

    (void)attr;
    (void)context;
    *fabric = make(sizeof(**fabric), FI_CLASS_FABRIC);
    (*fabric)->ops = &ops;
    return 0;
}
