#include "server/internal_topics.h"
#include <stdio.h>
#include "base/trace.h"
#include "server/api.h"
#include "server/group_coordinator.h"
#include "server/placement.h"

int32_t internal_topics_in_sync(int32_t replicas) { return MIN(replicas, INTERNAL_IN_SYNC); }

static void set_number(struct controller_edit *e, struct str topic, const char *key, int32_t value) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    controller_set_config(e, API_RESOURCE_TOPIC, topic, str_from(key), str_from(text));
}

void internal_topics_set_in_sync(struct controller_edit *e, struct str topic, int32_t replicas) {
    set_number(e, topic, "min.insync.replicas", internal_topics_in_sync(replicas));
}

void internal_topics_add_offsets(struct controller_edit *e) {
    const struct config *c = &controller_edit_broker(e)->config;
    const struct image *im = controller_edit_image(e);
    const struct str name = STR_LIT(GROUP_TOPIC);
    struct placement p;
    struct uuid id;
    if (image_topic_by_name(im, name)) return;
    if (im->partition_count + c->offsets_topic_num_partitions > c->max_topic_partitions) {
        trace_warn("groups", "%s cannot be made: the cluster would have more partitions than max.topic.partitions allows", GROUP_TOPIC);
        return;
    }
    placement_of_image(&p, controller_edit_broker(e), im, (uint64_t)im->partition_count);
    int32_t replicas = MIN((int32_t)p.up, INTERNAL_REPLICAS), nodes[INTERNAL_REPLICAS];
    if (replicas == 0) {
        trace_warn("groups", "%s cannot be made: every broker that is up is drained", GROUP_TOPIC);
        return;
    }
    controller_edit_new_uuid(e, &id);
    controller_add_topic(e, &id, name);
    controller_set_config(e, API_RESOURCE_TOPIC, name, STR_LIT("cleanup.policy"), STR_LIT("compact"));
    controller_set_config(e, API_RESOURCE_TOPIC, name, STR_LIT("compression.type"), STR_LIT("producer"));
    set_number(e, name, "segment.bytes", c->offsets_topic_segment_bytes);
    if (replicas > 1) internal_topics_set_in_sync(e, name, replicas);
    for (int32_t i = 0; i < c->offsets_topic_num_partitions; i++) {
        placement_next(&p, nodes, (uint32_t)replicas);
        controller_add_partition(e, &id, i, nodes, replicas);
    }
}
