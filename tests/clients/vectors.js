// Checks schemas/vectors.json with Node's crypto, kafkajs, avsc and avro-js. `npm install kafkajs avsc avro-js underscore`, then
// `node vectors.js ../../schemas/vectors.json FOLDER`, with FOLDER holding NAME.avsc of each event type.
'use strict'
const crypto = require('crypto')
const fs = require('fs')
const path = require('path')
const avsc = require('avsc')
const avro = require('avro-js')
const legacyMurmur2 = require('kafkajs/src/producer/partitioners/legacy/murmur2')
const murmur2 = require('kafkajs/src/producer/partitioners/default/murmur2')

const vectors = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const folder = process.argv[3]
const faults = []
const expect = (what, found, wanted) => found === wanted || faults.push(`${what}: ${found}, not ${wanted}`)

const outer = new Set(vectors.outer_space.map(code => String.fromCodePoint(parseInt(code, 16))))
const trim = text => {
  let [from, to] = [0, text.length]
  while (from < to && outer.has(text[from])) from++
  while (from < to && outer.has(text[to - 1])) to--
  return text.slice(from, to)
}
let trimmedOtherwise = 0
for (const { identifier, normal, key } of vectors.identifiers) {
  const found = trim(identifier.normalize('NFC'))
  if (identifier.normalize('NFC').trim() !== normal) trimmedOtherwise++
  expect('normal', found, normal)
  expect('key', crypto.createHmac('sha256', vectors.pepper).update(found, 'utf8').digest('hex').slice(0, 32), key)
}
for (const event of vectors.events) {
  const schema = JSON.parse(fs.readFileSync(path.join(folder, `${event.event}.avsc`), 'utf8'))
  const days = Date.parse(event.occurred_on) / 86400000
  const datum = {
    case_key: Buffer.from(event.case_key, 'hex'),
    event_id: Buffer.from(event.event_id.replaceAll('-', ''), 'hex'),
    revision: event.revision,
    occurred_on: days,
    ...event.attributes,
  }
  expect('timestamp', days * 86400000, event.timestamp)
  const header = Buffer.from('c301' + vectors.fingerprints[event.event], 'hex')
  for (const [name, type] of [['avsc', avsc.Type.forSchema(schema)], ['avro-js', avro.parse(schema)]]) {
    expect(`${name} ${event.event}`, Buffer.concat([header, type.toBuffer(datum)]).toString('hex'), event.value)
  }
}
let differing = 0
for (const { key, partitions, partition, kafkajs_legacy } of vectors.partitions) {
  const bytes = Buffer.from(key, 'hex')
  expect('partition', (murmur2(bytes) & 0x7fffffff) % partitions, partition)
  expect('legacy', (legacyMurmur2(bytes) & 0x7fffffff) % partitions, kafkajs_legacy)
  if (partition !== kafkajs_legacy) differing++
}
// avsc computes no CRC-64-AVRO; of its canonical form it is this.
for (const [name, wanted] of Object.entries(vectors.fingerprints)) {
  const schema = JSON.parse(fs.readFileSync(path.join(folder, `${name}.avsc`), 'utf8'))
  expect(`fingerprint ${name}`, crc(avsc.Type.forSchema(schema).schema()), wanted)
}
console.log(faults.slice(0, 20).join('\n'))
console.log(`${faults.length} faults; ${trimmedOtherwise} identifiers that trim() makes another; ` +
  `${differing} of ${vectors.partitions.length} partitions differ in the legacy partitioner`)
function crc(canonical) {
  const empty = 0xc15d213aa4d7a795n
  const table = [...Array(256)].map((_, index) => {
    let value = BigInt(index)
    for (let bit = 0; bit < 8; bit++) value = (value >> 1n) ^ (empty & -(value & 1n))
    return value
  })
  let value = empty
  for (const byte of Buffer.from(JSON.stringify(canonical))) {
    value = (value >> 8n) ^ table[Number((value ^ BigInt(byte)) & 0xffn)]
  }
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes.toString('hex')
}
process.exitCode = faults.length ? 1 : 0
