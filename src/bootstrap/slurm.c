// SPDX-License-Identifier: BSD-3-Clause
// See slurm.h. The notations are described in Slurm's manual pages scontrol
// (show hostnames) and sbatch (SLURM_TASKS_PER_NODE).
#include "bootstrap/slurm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool slurm_first_host(const char *list, char *host, size_t room)
{
    size_t used = 0;

    // "rack[1-2]node[3,5]": of each bracket the first number.
    while (*list != '\0' && *list != ',') {
        if (*list == '[') {
            size_t digits = strspn(list + 1, "0123456789");
            const char *end = strchr(list, ']');

            if (digits == 0 || end == NULL || used + digits >= room)
                return false;
            memcpy(host + used, list + 1, digits);
            used += digits;
            list = end + 1;
        } else {
            if (used + 1 >= room)
                return false;
            host[used++] = *list++;
        }
    }
    host[used] = '\0';
    return used > 0;
}

int32_t slurm_tasks_of_node(const char *text, long node)
{
    while (*text != '\0') {
        char *end;
        long tasks = strtol(text, &end, 10);
        long times = 1;

        if (end == text || tasks < 1 || tasks > INT32_MAX)
            return 0;
        if (strncmp(end, "(x", 2) == 0) {
            times = strtol(end + 2, &end, 10);
            if (*end++ != ')')
                return 0;
        }
        if (node < times)
            return (int32_t)tasks;
        node -= times;
        if (*end == ',')
            end++;
        else if (*end != '\0')
            return 0;
        text = end;
    }
    return 0;
}
