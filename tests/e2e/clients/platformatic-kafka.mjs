// @platformatic/kafka: flexible versions, topic ids, asks for fetch sessions.
import assert from 'node:assert'

Promise.withResolvers ??= () => { // Node.js before 22
  const r = {}
  r.promise = new Promise((resolve, reject) => Object.assign(r, { resolve, reject }))
  return r
}
const { Producer, Admin, Consumer, MessagesStreamModes, stringSerializers, stringDeserializers, ProduceAcks } = await import('@platformatic/kafka')
const broker = process.argv[process.argv.length - 1]
const options = { clientId: 'check', bootstrapBrokers: [broker] }
const admin = new Admin(options)
await admin.createTopics({ topics: ['pk'], partitions: 2, replicas: 1 })
for (const compression of ['none', 'gzip', 'lz4', 'snappy']) {
  for (const idempotent of [false, true]) {
    const producer = new Producer({ ...options, serializers: stringSerializers, idempotent, compression })
    for (let i = 0; i < 20; i++) {
      const messages = Array.from({ length: 100 }, (_, n) => ({ topic: 'pk', key: `k${n}`, value: `v${i} ${n}`, headers: { h: 'x' }, partition: n % 2 }))
      const result = await producer.send({ messages, acks: ProduceAcks.ALL })
      assert.ok(result.offsets.length >= 1)
    }
    await producer.close()
  }
}
const metadata = await admin.metadata({ topics: ['pk'] })
assert.equal(metadata.topics.get('pk').partitionsCount, 2)
// Everything comes back, each partition in its order, over a fetch session and from a group.
const consumer = new Consumer({ ...options, groupId: 'check', autocommit: false, deserializers: stringDeserializers })
const stream = await consumer.consume({ topics: ['pk'], mode: MessagesStreamModes.EARLIEST, maxWaitTime: 200 })
const expected = 4 * 2 * 20 * 100
const next = [0n, 0n]
let got = 0
for await (const m of stream) {
  assert.equal(m.offset, next[m.partition]++)
  if (++got === expected) break
}
assert.equal(got, expected)
await consumer.close(true)
await admin.deleteTopics({ topics: ['pk'] })
await admin.close()
console.log('ok')
process.exit(0)
