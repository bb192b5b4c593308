// SPDX-License-Identifier: BSD-3-Clause
// How many rounds of messages an all-reduce of so many leaders takes, one after
// the other, as the schedule that would be used here has it: what its time is
// measured against. Prints one JSON object; its keys are numbers of leaders.
#include <stdio.h>
#include <stdlib.h>

#include "collective/schedule.h"
#include "json.h"

#define LEADERS_MAX 16

int main(int count, char **words)
{
    int32_t processors = count > 1 ? atoi(words[1]) : LEADERS_MAX;
    struct json json = {.out = stdout};

    json_object_open(&json, NULL);
    for (int32_t leaders = 2; leaders <= LEADERS_MAX; leaders++) {
        struct schedule_plan plan;
        char key[16];

        schedule_plan(leaders, 0, schedule_costs_measured(leaders > processors),
                      &plan);
        snprintf(key, sizeof(key), "%d", (int)leaders);
        json_integer(&json, key, plan.stages);
    }
    json_object_close(&json);
    json_end(&json);
    return 0;
}
