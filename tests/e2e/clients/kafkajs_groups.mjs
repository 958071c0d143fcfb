// Groups of kafkajs: its own metadata in the classic protocol. Two members share, one leaves; offsets are found again.
import { Kafka, logLevel } from 'kafkajs'
import assert from 'node:assert'

const broker = process.argv[process.argv.length - 1]
const kafka = new Kafka({ clientId: 'groups', brokers: [broker], logLevel: logLevel.NOTHING })
const admin = kafka.admin()
await admin.connect()
await admin.createTopics({ topics: [{ topic: 'jsg', numPartitions: 4 }] })
const producer = kafka.producer()
await producer.connect()
const seen = new Map()
let total = 0
async function produce (from, to) {
  const messages = []
  for (let i = from; i < to; i++) messages.push({ value: String(i), partition: i % 4 })
  await producer.send({ topic: 'jsg', messages })
}
async function until (what, done) {
  for (let i = 0; !done(); i++) {
    assert.ok(i < 3000, `waited for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
function member (name) {
  const consumer = kafka.consumer({ groupId: 'jsg', sessionTimeout: 6000, heartbeatInterval: 200, rebalanceTimeout: 10000, maxWaitTimeInMs: 100 })
  const state = { consumer, partitions: [] }
  consumer.on(consumer.events.GROUP_JOIN, e => { state.partitions = e.payload.memberAssignment.jsg || [] })
  state.ready = (async () => {
    await consumer.connect()
    await consumer.subscribe({ topics: ['jsg'], fromBeginning: true })
    await consumer.run({ autoCommit: true, autoCommitThreshold: 1, eachMessage: async ({ message }) => {
      seen.set(message.value.toString(), (seen.get(message.value.toString()) || 0) + 1)
      total++
    } })
  })()
  return state
}
await produce(0, 400)
const a = member('a')
await a.ready
await until('one member', () => a.partitions.length === 4 && seen.size === 400)
const b = member('b')
await b.ready
await until('two members', () => a.partitions.length === 2 && b.partitions.length === 2)
await produce(400, 800)
await until('records of both', () => seen.size === 800)
await a.consumer.disconnect()
await until('one is left', () => b.partitions.length === 4)
await b.consumer.disconnect()
const offsets = await admin.fetchOffsets({ groupId: 'jsg', topics: ['jsg'] })
assert.deepEqual(offsets[0].partitions.map(p => p.offset), ['200', '200', '200', '200'])
assert.equal(total, 800, 'records came twice')
const described = await admin.describeGroups(['jsg'])
assert.equal(described.groups[0].state, 'Empty')
assert.ok((await admin.listGroups()).groups.some(g => g.groupId === 'jsg' && g.protocolType === 'consumer'))
await admin.resetOffsets({ groupId: 'jsg', topic: 'jsg', earliest: true })
const back = await admin.fetchOffsets({ groupId: 'jsg', topics: ['jsg'], resolveOffsets: true })
assert.deepEqual(back[0].partitions.map(p => p.offset), ['0', '0', '0', '0'])
await admin.deleteGroups(['jsg'])
assert.ok(!(await admin.listGroups()).groups.some(g => g.groupId === 'jsg'))
await producer.disconnect()
await admin.disconnect()
console.log('ok')
