#include "replication/message.h"

void replica_message_shorten(struct replica_message *m, int64_t end_offset) {
    m->end_offset = end_offset;
    while (m->marker_count > 0 && m->markers[m->marker_count - 1].start > end_offset) m->marker_count--;
}

static bool elements_ascend(const struct replica_message *m) {
    if (m->marker_count > REPLICA_MESSAGE_MARKERS_MAX) return false;
    struct replica_position at = m->prev;
    for (uint32_t i = 0; i < m->marker_count; i++) {
        if (m->markers[i].epoch <= at.epoch || m->markers[i].start < at.offset) return false;
        at = (struct replica_position){m->markers[i].epoch, m->markers[i].start};
    }
    return m->end_offset >= at.offset && replica_message_end(m).epoch <= m->epoch;
}

bool replica_message_is_valid(const struct replica_message *m) {
    if (m->kind > REPLICA_TIMEOUT_NOW || m->epoch < 0 || m->asked_epoch < 0) return false;
    if (m->prev.epoch < 0 || m->prev.offset < 0 || m->match.epoch < 0 || m->match.offset < 0) return false;
    if (m->high_watermark < 0 || m->start < 0) return false;
    if (m->config.count > 0 && !replica_config_is_valid(&m->config)) return false;
    return m->kind != REPLICA_APPEND || elements_ascend(m);
}
