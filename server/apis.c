/* apis.c - what is served: the one list behind ApiVersions, dispatch and docs/protocol.md.
 *
 * Ranges are those of Apache Kafka 4.3, because some clients guess the broker's release from them.
 * Nothing is listed that is not served, but for a range that old clients look at to decide
 * whether they may compress: Produce from 0 (KAFKA-18659; below 3 the connection is closed). */
#include "server/api.h"

static const struct api table[] = {
    {0, 3, 13, 0, api_produce},
    {1, 4, 18, 4, api_fetch},
    {2, 1, 11, 1, api_list_offsets},
    {3, 0, 13, 0, api_metadata},
    {8, 2, 10, 2, api_offset_commit},
    {9, 1, 10, 1, api_offset_fetch},
    {10, 0, 6, 0, api_find_coordinator},
    {11, 0, 9, 0, api_join_group},
    {12, 0, 4, 0, api_heartbeat},
    {13, 0, 5, 0, api_leave_group},
    {14, 0, 5, 0, api_sync_group},
    {15, 0, 6, 0, api_describe_groups},
    {16, 0, 5, 0, api_list_groups},
    {18, 0, 4, 0, api_api_versions},
    {19, 2, 7, 2, api_create_topics},
    {20, 1, 6, 1, api_delete_topics},
    {21, 0, 2, 0, api_delete_records},
    {22, 0, 5, 0, api_init_producer_id},
    {23, 2, 4, 2, api_offset_for_leader_epoch},
    {29, 1, 3, 1, api_describe_acls},
    {30, 1, 3, 1, api_create_acls},
    {31, 1, 3, 1, api_delete_acls},
    {32, 1, 4, 1, api_describe_configs},
    {33, 0, 2, 0, api_alter_configs},
    {34, 1, 2, 1, api_alter_replica_log_dirs},
    {35, 1, 5, 1, api_describe_log_dirs},
    {37, 0, 3, 0, api_create_partitions},
    {42, 0, 2, 0, api_delete_groups},
    {43, 0, 2, 0, api_elect_leaders},
    {44, 0, 1, 0, api_incremental_alter_configs},
    {45, 0, 1, 0, api_alter_partition_reassignments},
    {46, 0, 0, 0, api_list_partition_reassignments},
    {47, 0, 0, 0, api_offset_delete},
    {48, 0, 1, 0, api_describe_client_quotas},
    {49, 0, 1, 0, api_alter_client_quotas},
    {50, 0, 0, 0, api_describe_user_scram_credentials},
    {55, 0, 2, 0, api_describe_quorum},
    {57, 0, 2, 0, api_update_features},
    {60, 0, 2, 0, api_describe_cluster},
    {61, 0, 0, 0, api_describe_producers},
    {64, 0, 0, 0, api_unregister_broker},
    {68, 0, 1, 0, api_consumer_group_heartbeat},
    {69, 0, 1, 0, api_consumer_group_describe},
    {74, 0, 1, 0, api_list_config_resources},
    {75, 0, 0, 0, api_describe_topic_partitions},
    {32000, 0, 0, 0, api_describe_storage},
    {32001, 0, 0, 0, api_describe_group_history},
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
