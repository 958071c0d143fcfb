// A producer and a group's members of kafkajs, all with its defaults but idempotence, for ride.py, which says what they print.
import { Kafka, logLevel } from 'kafkajs'
import readline from 'node:readline'

const [bootstrap, topic, who, partitions, rate] = process.argv.slice(2)
const kafka = new Kafka({ clientId: who, brokers: bootstrap.split(','), logLevel: logLevel.NOTHING })
const say = line => process.stdout.write(line + '\n')
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const members = []
for (const name of ['1', '2']) {
  const consumer = kafka.consumer({ groupId: who })
  consumer.on(consumer.events.GROUP_JOIN, e => say(`assigned ${name} ${(e.payload.memberAssignment[topic] || []).length}`))
  consumer.on(consumer.events.CRASH, e => say(`${e.payload.restart ? 'crashed' : 'broken'} ${name} ${e.payload.error}`.replace(/\n/g, ' ')))
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ partition, message }) => say(`read ${name} ${partition} ${message.offset} ${message.value}`) })
  members.push(consumer)
}

const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
await producer.connect()
let over = false
let sequence = 0
// A loop for each partition: one send waits for its answer, so a partition without a leader holds up only its own.
async function produce (partition) {
  while (!over) {
    const begun = performance.now()
    const value = `${who}:${++sequence}:`
    try {
      const [r] = await producer.send({ topic, messages: [{ partition, value }] })
      say(`acked ${process.hrtime.bigint() / 1000n} ${r.partition} ${r.baseOffset} ${value}`)
    } catch (e) {
      say(`failed ${value} ${e}`.replace(/\n/g, ' '))
    }
    await sleep(Math.max(0, 1000 * partitions / rate - (performance.now() - begun)))
  }
}
const loops = Array.from({ length: Number(partitions) }, (_, i) => produce(i))
const lines = readline.createInterface({ input: process.stdin })
lines.once('line', async () => {
  over = true
  await Promise.all(loops)
  say('produced')
})
lines.once('close', () => process.exit(0))
