/* client.h - libvarve: a small Kafka client over the same codec as the server.
 *
 * One `struct client` is used by one thread. Calls block until they are done, their deadline
 * (`timeout_ms`) passes, or the error is final; retriable errors are retried inside with back-off
 * and refreshed metadata. Every error comes with a sentence: client_error(). Memory handed in is
 * borrowed for the call; memory handed out belongs to the object named in its comment.
 *
 *   client    connections, metadata (refreshed, leader routing), raw requests
 *   producer  batching per partition, compression, idempotence, retries, delivery reports
 *   consumer  by assignment: partitions with offsets; batches decoded to records
 *   admin     create, delete, list, describe, alter topics and configs */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H
#include "base/bytes.h"
#include "base/err.h"
#include "proto/kafka_api.h"
#include "proto/record_batch.h"
