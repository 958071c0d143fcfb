// kafkajs: no flexible versions, looks only at the highest version offered. Groups come later, so
// records are read back by the admin's offsets and a raw consumer is left to the other clients.
import { Kafka, CompressionTypes, logLevel } from 'kafkajs'
import assert from 'node:assert'

const broker = process.argv[process.argv.length - 1]
const kafka = new Kafka({ clientId: 'check', brokers: [broker], logLevel: logLevel.ERROR })
const admin = kafka.admin()
await admin.connect()
assert.equal(await admin.createTopics({ topics: [{ topic: 'js', numPartitions: 2 }] }), true)
assert.equal(await admin.createTopics({ topics: [{ topic: 'js' }] }), false)
for (const idempotent of [false, true]) {
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
    const producer = kafka.producer({ idempotent, maxInFlightRequests: 1 })
    await producer.connect()
    for (let batch = 0; batch < 20; batch++) {
      const messages = Array.from({ length: 500 }, (_, i) => ({
        key: i % 3 ? `k${i}` : null, value: i % 10 ? `value ${batch} ${i}` : null, headers: { n: String(i) }, partition: i % 2
      }))
      const results = await producer.send({ topic: 'js', compression, messages })
      assert.ok(results.every(r => r.errorCode === 0), JSON.stringify(results))
    }
    await producer.disconnect()
  }
}
const offsets = await admin.fetchTopicOffsets('js')
assert.deepEqual(offsets.map(o => [o.partition, o.high, o.low]).sort(), [[0, '20000', '0'], [1, '20000', '0']])
// Created on first use.
const producer = kafka.producer({ allowAutoTopicCreation: true })
await producer.connect()
await producer.send({ topic: 'js-auto', messages: [{ value: 'x' }] })
await producer.disconnect()
assert.ok((await admin.listTopics()).includes('js-auto'))
const configs = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: 2, name: 'js' }] })
assert.equal(configs.resources[0].configEntries.find(c => c.configName === 'cleanup.policy').configValue, 'delete')
await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: 'js', configEntries: [{ name: 'retention.ms', value: '1000000' }] }] })
await admin.createPartitions({ topicPartitions: [{ topic: 'js', count: 4 }] })
assert.equal((await admin.fetchTopicMetadata({ topics: ['js'] })).topics[0].partitions.length, 4)
await admin.deleteTopics({ topics: ['js'] })
const cluster = await admin.describeCluster()
assert.equal(cluster.brokers.length, 1)
await admin.disconnect()
console.log('ok')
