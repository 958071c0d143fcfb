/* errors.c - what a Kafka error code means for a caller of libvarve. */
#include "client/client.h"
#include "proto/kafka_errors.h"

enum err client_err_from_code(int16_t kafka_code) {
    switch (kafka_code) {
    case KERR_NONE: return OK;
    case KERR_OFFSET_OUT_OF_RANGE: return ERR_RANGE;
    case KERR_CORRUPT_MESSAGE: return ERR_CORRUPT;
    case KERR_UNKNOWN_TOPIC_OR_PARTITION:
    case KERR_UNKNOWN_TOPIC_ID: return ERR_NOT_FOUND;
    case KERR_TOPIC_ALREADY_EXISTS: return ERR_EXISTS;
    case KERR_REQUEST_TIMED_OUT: return ERR_TIMEOUT;
    case KERR_MESSAGE_TOO_LARGE:
    case KERR_RECORD_LIST_TOO_LARGE: return ERR_TOO_LARGE;
    case KERR_UNSUPPORTED_VERSION:
    case KERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case KERR_UNSUPPORTED_COMPRESSION_TYPE: return ERR_UNSUPPORTED;
    case KERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case KERR_UNKNOWN_PRODUCER_ID: return ERR_SEQUENCE;
    case KERR_DUPLICATE_SEQUENCE_NUMBER: return ERR_DUPLICATE;
    case KERR_INVALID_PRODUCER_EPOCH:
    case KERR_PRODUCER_FENCED:
    case KERR_FENCED_LEADER_EPOCH: return ERR_FENCED;
    case KERR_KAFKA_STORAGE_ERROR: return ERR_IO;
    case KERR_LEADER_NOT_AVAILABLE:
    case KERR_NOT_LEADER_OR_FOLLOWER:
    case KERR_REPLICA_NOT_AVAILABLE:
    case KERR_NOT_ENOUGH_REPLICAS:
    case KERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case KERR_COORDINATOR_LOAD_IN_PROGRESS:
    case KERR_COORDINATOR_NOT_AVAILABLE:
    case KERR_NOT_COORDINATOR:
    case KERR_NOT_CONTROLLER: return ERR_AGAIN;
    default: return ERR_INVALID;
    }
}
