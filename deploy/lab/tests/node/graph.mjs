// Builds Vates' xen-api object graph of a pool and, when told, waits until it equals what
// get_all_records answers for every class.
//
// Usage: XAPI_URL=… XAPI_USER=… XAPI_PASSWORD=… node graph.mjs
// Prints one JSON object a line: {"ready": objects}, then for each line on standard input
// {"equal": true, "classes": …, "objects": …} or {"equal": false, "differences": […]}.

import { createInterface } from 'node:readline'
import { isDeepStrictEqual } from 'node:util'
import { setTimeout as pause } from 'node:timers/promises'
import { createClient } from 'xen-api'

const PATIENCE = 20_000 // milliseconds until a graph that differs is called different
const REMOVED = 'MESSAGE_REMOVED'
// The comparison's own calls make and end tasks, and refresh sessions.
const OWN_TRACES = new Set(['task', 'session'])

const tell = message => process.stdout.write(JSON.stringify(message) + '\n')

async function recordsByClass(xapi) {
  const found = new Map()
  for (const method of await xapi._call('system.listMethods')) {
    const [cls, name] = method.split('.')
    if (name !== 'get_all_records' || OWN_TRACES.has(cls)) continue
    try {
      found.set(cls, await xapi.call(method))
    } catch (error) {
      if (error.code !== REMOVED) throw error
    }
  }
  return found
}

function differences(xapi, found) {
  const cached = new Map()
  for (const object of Object.values(xapi.objects.all)) {
    if (!cached.has(object.$type)) cached.set(object.$type, new Map())
    cached.get(object.$type).set(object.$ref, object)
  }
  const wrong = []
  for (const [cls, records] of found) {
    const objects = cached.get(cls) ?? new Map()
    for (const ref of objects.keys()) if (!(ref in records)) wrong.push(`${cls} ${ref} is gone`)
    for (const [ref, record] of Object.entries(records)) {
      const object = objects.get(ref)
      if (object === undefined) wrong.push(`${cls} ${ref} is missing`)
      else {
        for (const [field, value] of Object.entries(record)) {
          const seen = structuredClone(object[field])
          if (!isDeepStrictEqual(seen, value)) {
            wrong.push(`${cls} ${ref} ${field}: ${JSON.stringify(seen)}, not ${JSON.stringify(value)}`)
          }
        }
      }
    }
  }
  return wrong
}

async function compare(xapi) {
  const deadline = Date.now() + PATIENCE
  for (;;) {
    const found = await recordsByClass(xapi)
    const wrong = differences(xapi, found)
    if (wrong.length === 0) {
      const objects = [...found.values()].reduce((sum, records) => sum + Object.keys(records).length, 0)
      return { equal: true, classes: found.size, objects }
    }
    if (Date.now() > deadline) return { equal: false, differences: wrong.slice(0, 20) }
    await pause(100)
  }
}

const xapi = createClient({
  allowUnauthorized: true,
  auth: { user: process.env.XAPI_USER, password: process.env.XAPI_PASSWORD },
  url: process.env.XAPI_URL,
})
await xapi.connect()
await xapi.objectsFetched
tell({ ready: Object.keys(xapi.objects.all).length })
for await (const _ of createInterface({ input: process.stdin })) tell(await compare(xapi))
await xapi.disconnect()
process.exit(0)
