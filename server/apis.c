/* apis.c - what is served: the one list behind ApiVersions, dispatch and docs/protocol.md.
 *
 * Ranges are those of Apache Kafka 4.3, because some clients guess the broker's release from them.
 * Nothing is listed that is not served, but for a range that old clients look at to decide
 * whether they may compress: Produce from 0 (KAFKA-18659; below 3 the connection is closed). */
#include "server/api.h"

static const struct api table[] = {
    {0, 3, 13, 0, api_produce, false},
    {1, 4, 18, 4, api_fetch, false},
    {2, 1, 11, 1, api_list_offsets, false},
    {3, 0, 13, 0, api_metadata, false},
    {8, 2, 10, 2, api_offset_commit, false},
    {9, 1, 10, 1, api_offset_fetch, false},
    {10, 0, 6, 0, api_find_coordinator, false},
    {11, 0, 9, 0, api_join_group, false},
    {12, 0, 4, 0, api_heartbeat, false},
    {13, 0, 5, 0, api_leave_group, false},
    {14, 0, 5, 0, api_sync_group, false},
    {15, 0, 6, 0, api_describe_groups, false},
    {16, 0, 5, 0, api_list_groups, false},
    {18, 0, 4, 0, api_api_versions, false},
    {19, 2, 7, 2, api_create_topics, true},
    {20, 1, 6, 1, api_delete_topics, true},
    {21, 0, 2, 0, api_delete_records, false},
    {22, 0, 5, 0, api_init_producer_id, false},
    {23, 2, 4, 2, api_offset_for_leader_epoch, false},
    {29, 1, 3, 1, api_describe_acls, false},
    {30, 1, 3, 1, api_create_acls, false},
    {31, 1, 3, 1, api_delete_acls, false},
    {32, 1, 4, 1, api_describe_configs, false},
    {33, 0, 2, 0, api_alter_configs, true},
    {34, 1, 2, 1, api_alter_replica_log_dirs, false},
    {35, 1, 5, 1, api_describe_log_dirs, false},
    {37, 0, 3, 0, api_create_partitions, true},
    {42, 0, 2, 0, api_delete_groups, false},
    {43, 0, 2, 0, api_elect_leaders, true},
    {44, 0, 1, 0, api_incremental_alter_configs, true},
    {45, 0, 1, 0, api_alter_partition_reassignments, true},
    {46, 0, 0, 0, api_list_partition_reassignments, true},
    {47, 0, 0, 0, api_offset_delete, false},
    {48, 0, 1, 0, api_describe_client_quotas, false},
    {49, 0, 1, 0, api_alter_client_quotas, true},
    {50, 0, 0, 0, api_describe_user_scram_credentials, false},
    {55, 0, 2, 0, api_describe_quorum, true},
    {57, 0, 2, 0, api_update_features, true},
    {60, 0, 2, 0, api_describe_cluster, false},
    {61, 0, 0, 0, api_describe_producers, false},
    {64, 0, 0, 0, api_unregister_broker, true},
    {68, 0, 1, 0, api_consumer_group_heartbeat, false},
    {69, 0, 1, 0, api_consumer_group_describe, false},
    {74, 0, 1, 0, api_list_config_resources, false},
    {75, 0, 0, 0, api_describe_topic_partitions, false},
    {80, 0, 1, 0, api_add_raft_voter, true},
    {81, 0, 0, 0, api_remove_raft_voter, true},
    {32000, 0, 0, 0, api_describe_storage, false},
    {32001, 0, 0, 0, api_describe_group_history, false},
    {32002, 0, 0, 0, api_drain_brokers, true},
};

const struct api *api_table(size_t *count) {
    *count = ARRAY_LEN(table);
    return table;
}

const struct api *api_find(int16_t key) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].key == key) return &table[i];
    return NULL;
}
