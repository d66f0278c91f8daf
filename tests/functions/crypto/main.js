// SPDX-License-Identifier: Apache-2.0
// Encrypts a message again and again with node:crypto, and shows what tells a clone from its siblings.
'use strict';
const crypto = require('node:crypto');
const reseed = require('../common/memplate_reseed.js');
const { serve } = require('../common/http_service.js');

// NIST SP 800-38A, F.5.1 CTR-AES128.Encrypt
const KEY = Buffer.from('2b7e151628aed2a6abf7158809cf4f3c', 'hex');
const COUNTER = Buffer.from('f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff', 'hex');
const PLAIN = Buffer.from('6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51' +
    '30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710', 'hex');
const CIPHER = Buffer.from('874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff' +
    '5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee', 'hex');

function ctr(key, counter, data) {
  const cipher = crypto.createCipheriv('aes-128-ctr', key, counter);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

function number(parameters, name, otherwise) {
  const value = Number(parameters.get(name) ?? otherwise);
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name}: not a number`);
  return value;
}

/** ?bytes=N&rounds=N: each round encrypts what the one before gave. */
function encrypt(parameters) {
  const size = number(parameters, 'bytes', 2000);
  const rounds = number(parameters, 'rounds', 10000);
  const counter = Buffer.from(COUNTER).reverse();
  let text = Buffer.from(Array.from({ length: size }, (_, index) => index % 251));
  for (let round = 0; round < rounds; ++round) text = ctr(KEY, counter, text);
  const digest = crypto.createHash('sha256').update(text).digest('hex');
  return `${size} bytes, ${rounds} rounds: ${digest}\n`;
}

function check() {
  return ctr(KEY, COUNTER, PLAIN).equals(CIPHER) ? 'NIST SP 800-38A F.5.1 ok\n' : 'wrong\n';
}

/** Numbers of the generators that lie in memory; all differ between clones. */
function draw() {
  return `${Math.random()} ${crypto.randomBytes(8).toString('hex')} ${crypto.randomUUID()}\n`;
}

if (check() === 'wrong\n') throw new Error('crypto: wrong answer to NIST SP 800-38A F.5.1');
reseed.install();
serve({
  '/': encrypt,
  '/check': check,
  '/random': draw,
  '/identity': () => JSON.stringify(reseed.identity()) + '\n',
});
