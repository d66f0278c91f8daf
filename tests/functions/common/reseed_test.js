// SPDX-License-Identifier: Apache-2.0
// Plays a template and its clones: the same state of the generators, then other entropy.
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const reseed = require('./memplate_reseed.js');

function give(directory, generation, byte) {
  fs.writeFileSync(path.join(directory, 'entropy'), Buffer.alloc(64, byte));
  const identity = { instance: `i-${byte}`, template: 't', generation };
  fs.writeFileSync(path.join(directory, 'new.json'), JSON.stringify(identity));
  fs.renameSync(path.join(directory, 'new.json'), path.join(directory, 'identity.json'));
}

const draw = () => [Math.random(), crypto.randomBytes(16).toString('hex'), crypto.randomUUID(),
  crypto.randomInt(1 << 30), crypto.getRandomValues(new Uint32Array(4)).join(),
  globalThis.crypto.randomUUID(), reseed.randomBytes(16).toString('hex')];

async function main(directory) {
  reseed.install({ directory });
  assert.deepStrictEqual(reseed.identity(), {});
  assert.match(crypto.randomUUID(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  for (let round = 0; round < 1000; ++round) {
    assert(crypto.randomInt(-3, 4) >= -3 && crypto.randomInt(-3, 4) < 4);
    assert(Math.random() >= 0 && Math.random() < 1);
  }
  const partly = crypto.randomFillSync(new Uint16Array(8), 2, 4);
  assert(partly[0] === 0 && partly[1] === 0 && partly[6] === 0 && partly[7] === 0);
  assert(partly.slice(2, 6).some((value) => value !== 0));
  await new Promise((done) => crypto.randomBytes(5, (error, bytes) => {
    assert(!error && bytes.length === 5);
    done();
  }));

  const told = new Promise((done) => reseed.onClone(done));
  give(directory, 1, 1);
  process.kill(process.pid, 'SIGUSR2');
  assert.strictEqual((await told).instance, 'i-1');
  const first = draw();
  assert(!reseed.refresh(), 'nothing is new');
  give(directory, 2, 1);  // same entropy, next generation
  assert(reseed.refresh());
  const second = draw();
  give(directory, 1, 2);  // another instance
  assert(reseed.refresh());
  const third = draw();
  first.forEach((value, index) => {
    assert.notStrictEqual(value, second[index]);
    assert.notStrictEqual(value, third[index]);
  });
  give(directory, 1, 1);  // the state depends on nothing but the files
  assert(reseed.refresh());
  assert.deepStrictEqual(draw(), first);
}

// From OpenSSL 3.0's HMAC-DRBG, given bytes 0 to 63 as entropy and nonce.
const drbg = new reseed.HmacDrbg(Buffer.from([...Array(64).keys()]));
assert.strictEqual(drbg.fill(Buffer.alloc(48)).toString('hex'),
                   'acb4c0527346343f45266a99a5ea86e9493b69635f509ed6871d4c871f93613b' +
                   '70af78045a86189e93f2adcbd7f4533c');
assert.strictEqual(drbg.fill(Buffer.alloc(5)).toString('hex'), '0f055feef0');

const alive = setInterval(() => {}, 1000);  // a signal listener alone does not keep Node running
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'memplate-reseed-'));
main(directory)
    .then(() => console.log('ok'))
    .catch((error) => { console.error(error); process.exitCode = 1; })
    .finally(() => {
      clearInterval(alive);
      fs.rmSync(directory, { recursive: true });
    });
