#include "replication/config.h"

int replica_config_find(const struct replica_config *c, const struct replica_member *m) {
    for (int i = 0; i < c->count; i++)
        if (replica_member_eq(&c->members[i], m)) return i;
    return -1;
}

bool replica_config_has_node(const struct replica_config *c, int32_t node) {
    for (int i = 0; i < c->count; i++)
        if (c->members[i].node == node) return true;
    return false;
}

bool replica_config_is_voter(const struct replica_config *c, const struct replica_member *m) {
    int i = replica_config_find(c, m);
    return i >= 0 && i < c->voters;
}

static uint32_t voters_missing(const struct replica_config *from, const struct replica_config *in) {
    uint32_t n = 0;
    for (int i = 0; i < from->voters; i++) n += !replica_config_is_voter(in, &from->members[i]);
    return n;
}

bool replica_config_is_single_step(const struct replica_config *from, const struct replica_config *to) {
    return voters_missing(from, to) + voters_missing(to, from) <= 1;
}

bool replica_config_is_valid(const struct replica_config *c) {
    if (c->voters < 1 || c->count < c->voters || c->count > REPLICA_MEMBERS_MAX) return false;
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < i; k++)
            if (c->members[i].node == c->members[k].node) return false;
    return true;
}
