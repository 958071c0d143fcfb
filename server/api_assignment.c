#include "server/api_assignment.h"
#include "server/image.h"

static int16_t refuse(struct str *why, int16_t error, struct str text) {
    *why = text;
    return error;
}

int16_t assignment_check(struct request *rq, const struct image *im, const int32_t *nodes, int32_t count, struct str *why) {
    const int16_t error = KERR_INVALID_REPLICA_ASSIGNMENT;
    if (count <= 0) return refuse(why, error, STR_LIT("The manual partition assignment includes an empty replica list."));
    if (count > IMAGE_REPLICAS_MAX)
        return refuse(why, error, request_printf(rq, "The manual partition assignment includes %d replicas of one partition; %d are the most.",
                                                 count, IMAGE_REPLICAS_MAX));
    for (int32_t i = 0; i < count; i++) {
        const struct image_node *n = image_node(im, nodes[i]);
        if (!placement_knows(request_broker(rq), im, nodes[i]))
            return refuse(why, error, request_printf(rq, "The manual partition assignment includes broker %d, but no such broker is registered.",
                                                     nodes[i]));
        if (n && n->drained)
            return refuse(why, error, request_printf(rq, "The manual partition assignment includes broker %d, which is drained.", nodes[i]));
        for (int32_t k = 0; k < i; k++)
            if (nodes[k] == nodes[i])
                return refuse(why, error, request_printf(rq, "The manual partition assignment includes the broker %d more than once.", nodes[i]));
    }
    return KERR_NONE;
}

int16_t assignment_check_new(struct request *rq, const struct image *im, int32_t partition, const int32_t *nodes, int32_t count, struct str *why) {
    int16_t error = assignment_check(rq, im, nodes, count, why);
    if (error) return error;
    for (int32_t i = 0; i < count; i++)
        if (placement_is_up(request_broker(rq), im, nodes[i])) return KERR_NONE;
    return refuse(why, KERR_INVALID_REPLICA_ASSIGNMENT,
                  request_printf(rq, "All brokers specified in the manual partition assignment for partition %d are fenced or in controlled shutdown.",
                                 partition));
}

int16_t assignment_check_factor(struct request *rq, const struct placement *p, int32_t factor, struct str *why) {
    const int16_t error = KERR_INVALID_REPLICATION_FACTOR;
    if (factor <= 0)
        return refuse(why, error, STR_LIT("Replication factor must be larger than 0, or -1 to use the default value."));
    if (factor > IMAGE_REPLICAS_MAX)
        return refuse(why, error, request_printf(rq, "Unable to replicate the partition %d time(s): %d are the most.", factor, IMAGE_REPLICAS_MAX));
    if (p->up == 0)
        return refuse(why, error, request_printf(rq, "Unable to replicate the partition %d time(s): All brokers are currently fenced.", factor));
    if ((uint32_t)factor > p->count)
        return refuse(why, error, request_printf(rq, "Unable to replicate the partition %d time(s): The target replication factor of %d cannot be "
                                                 "reached because only %u broker(s) are registered%s.", factor, factor, p->count,
                                                 p->registered > p->count ? " and not drained" : ""));
    return KERR_NONE;
}
