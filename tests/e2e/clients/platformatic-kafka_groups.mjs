// Groups of @platformatic/kafka: classic, and KIP-848 where the broker serves it.
import assert from 'node:assert'

Promise.withResolvers ??= () => { // Node.js before 22
  const r = {}
  r.promise = new Promise((resolve, reject) => Object.assign(r, { resolve, reject }))
  return r
}
const { Producer, Admin, Consumer, stringSerializers, stringDeserializers } = await import('@platformatic/kafka')
const broker = process.argv[process.argv.length - 1]
const options = { clientId: 'groups', bootstrapBrokers: [broker] }
const admin = new Admin(options)
await admin.createTopics({ topics: ['pkg'], partitions: 4, replicas: 1 })
const producer = new Producer({ ...options, serializers: stringSerializers })
async function produce (from, to) {
  const messages = []
  for (let i = from; i < to; i++) messages.push({ topic: 'pkg', key: 'k', value: String(i), partition: i % 4 })
  await producer.send({ messages })
}
async function read (groupId, groupProtocol, want) {
  const consumer = new Consumer({ ...options, groupId, groupProtocol, autocommit: false, deserializers: stringDeserializers, sessionTimeout: 10000, rebalanceTimeout: 20000, heartbeatInterval: 500, maxWaitTime: 200 })
  const stream = await consumer.consume({ topics: ['pkg'], mode: 'committed', fallbackMode: 'earliest' })
  const got = []
  const guard = setTimeout(() => { console.error(`${groupProtocol}: ${got.length} of ${want}`); process.exit(1) }, 60000)
  for await (const message of stream) {
    got.push(message.value)
    await message.commit()
    if (got.length === want) break
  }
  clearTimeout(guard)
  await stream.close().catch(() => {})
  await consumer.close(true)
  return got.map(Number).sort((x, y) => x - y)
}
async function servesConsumerProtocol () {
  const versions = await new Promise((resolve, reject) => admin.listApis((e, apis) => e ? reject(e) : resolve(apis)))
  return versions.some(a => a.apiKey === 68)
}
let produced = 0
for (const protocol of ['classic', 'consumer']) {
  if (protocol === 'consumer' && !await servesConsumerProtocol()) {
    console.log('the broker does not serve KIP-848')
    continue
  }
  await produce(produced, produced + 40)
  produced += 40
  const first = await read(`pkg-${protocol}`, protocol, produced)
  assert.deepEqual(first, Array.from({ length: produced }, (_, i) => i))
  await produce(produced, produced + 40)
  const second = await read(`pkg-${protocol}`, protocol, 40)
  assert.deepEqual(second, Array.from({ length: 40 }, (_, i) => produced + i), 'committed records came again')
  produced += 40
  console.log('ok', protocol)
}
await producer.close()
await admin.close()
process.exit(0)
