/* api_configs.h - lists of configuration entries, as DescribeConfigs and CreateTopics show them. */
#ifndef SERVER_API_CONFIGS_H
#define SERVER_API_CONFIGS_H
#include "proto/kafka_messages.h"
#include "server/api.h"

/* Kafka's ConfigSource. */
enum {
    SOURCE_TOPIC = 1, SOURCE_DYNAMIC_BROKER = 2, SOURCE_DYNAMIC_DEFAULT = 3, SOURCE_STATIC_BROKER = 4, SOURCE_DEFAULT = 5,
    SOURCE_LOGGER = 6, SOURCE_GROUP = 8,
};

struct config_listing {
    /* in */
    struct request *rq;
    const struct topic_override *overrides; /* of the topic */
    size_t override_count;
    const struct str *keys;                 /* only these; NULL: all */
    int32_t key_count;
    bool synonyms, documentation;
    /* out, in the request's memory */
    struct k_describe_configs_response_results_configs *list;
    int32_t count;
};
/* False: closing. */
MUST_CHECK bool list_topic_configs(struct config_listing *l);
MUST_CHECK bool list_broker_configs(struct config_listing *l);
MUST_CHECK bool list_default_broker_configs(struct config_listing *l);

/* Loggers, as Kafka has them: the levels' names in capitals. */
#define LOGGER_ROOT "root"
const char *logger_level_text(int level);
/* Where the change of a logger leads; false: no such level. FATAL and TRACE are the nearest that there are. */
bool logger_level_parse(struct str text, int *level);
#endif
