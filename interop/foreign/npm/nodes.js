// bittorrent-dht nodes, one per address, that do what lines of JSON on standard input say; see libtorrent_nodes.py, which
// speaks the same. To be started beside the folder node_modules.
//
//     node nodes.js BOOTSTRAP LISTEN...

import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import bencode from 'bencode'
import DHT from 'bittorrent-dht'

const [bootstrap, ...listen] = process.argv.slice(2)

// The DER wrappings (RFC 8410) of a seed and of a public key.
const SEED = Buffer.from('302e020100300506032b657004220420', 'hex')
const KEY = Buffer.from('302a300506032b6570032100', 'hex')
const privateKey = seed => createPrivateKey({ key: Buffer.concat([SEED, seed]), format: 'der', type: 'pkcs8' })
const publicKey = key => createPublicKey({ key: Buffer.concat([KEY, Buffer.from(key)]), format: 'der', type: 'spki' })
const isSigned = (signature, message, key) => verify(null, message, publicKey(key), Buffer.from(signature))

const hex = text => Buffer.from(text, 'hex')
const say = answer => console.log(JSON.stringify(answer))

const nodes = []
for (const at of listen) {
  const [address, port] = at.split(':')
  const known = [...bootstrap.split(',').filter(Boolean), ...listen.slice(0, Math.min(nodes.length, 3))]
  const dht = new DHT({ bootstrap: known.length ? known : false, verify: isSigned })
  dht.on('error', error => console.error(error.message))
  await new Promise(resolve => dht.listen(Number(port), address, resolve))
  nodes.push(dht)
}

const does = {
  nodes: (dht, request, answer) => answer(null, { nodes: dht.nodes.toArray().length }),
  announce: (dht, { info_hash, port }, answer) => dht.announce(hex(info_hash), port, error => answer(error, {})),
  get_peers: (dht, { info_hash }, answer) => {
    const found = []
    const add = (peer, hash) => Buffer.from(hash).toString('hex') === info_hash && found.push([peer.host, peer.port])
    dht.on('peer', add)
    dht.lookup(hex(info_hash), () => {
      dht.removeListener('peer', add)
      answer(null, { peers: found })
    })
  },
  put: (dht, { value, seed, salt, seq }, answer) => {
    const item = { v: bencode.decode(hex(value)) }
    if (seed) {
      const secret = privateKey(hex(seed))
      item.k = createPublicKey(secret).export({ format: 'der', type: 'spki' }).subarray(KEY.length)
      item.seq = seq ?? 1
      item.sign = message => sign(null, message, secret)
      if (salt) item.salt = hex(salt)
    }
    dht.put(item, error => answer(error, {}))
  },
  get: (dht, { target, key, salt }, answer) => {
    const id = key ? createHash('sha1').update(hex(key)).update(hex(salt ?? '')).digest() : hex(target)
    // Without `cache: false` it answers from what it put itself.
    dht.get(id, { cache: false, verify: isSigned, salt: salt ? hex(salt) : undefined }, (error, item) =>
      answer(error, { value: item ? Buffer.from(bencode.encode(item.v)).toString('hex') : null }))
  }
}

const version = JSON.parse(readFileSync(new URL('node_modules/bittorrent-dht/package.json', import.meta.url))).version
say({ version: `bittorrent-dht ${version} (node ${process.version})` })
createInterface({ input: process.stdin }).on('line', line => {
  const request = JSON.parse(line)
  const answer = (error, result) => say({ id: request.id, ...(error ? { error: error.message } : result) })
  try {
    does[request.do](nodes[request.node], request, answer)
  } catch (error) {
    answer(error)
  }
}).on('close', () => process.exit(0))
