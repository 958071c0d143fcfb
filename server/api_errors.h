/* api_errors.h - how our errors map to Kafka's codes (proto/kafka_errors.h). */
#ifndef SERVER_API_ERRORS_H
#define SERVER_API_ERRORS_H
#include <stdint.h>
#include "base/err.h"
#include "proto/kafka_errors.h"

/* The Kafka code for an operating error of the log or the controller. Never
 * UNKNOWN_SERVER_ERROR for something that a client may retry: some clients then send the batch
 * under a new sequence (KAFKA-14034). */
int16_t api_error(enum err err);
#endif
