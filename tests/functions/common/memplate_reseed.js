// SPDX-License-Identifier: Apache-2.0
//
// Gives a clone its own identity and randomness: the Node twin of memplate_reseed.py, which tells
// about the files and the signal.
//
// Use: `require('.../memplate_reseed.js').install()` before the service is ready. Then
// - Math.random and the random* functions of node:crypto (and of globalThis.crypto) come from a
//   generator of our own, which every clone seeds afresh. Node offers no way to reseed the ones
//   they have by themselves: those lie in the memory of the process and are alike in all clones;
// - randomBytes(n) draws from the same generator;
// - identity() is the content of identity.json ({} in a process that is no clone);
// - functions given to onClone() are called after each reseed.
//
// Not covered: what OpenSSL draws inside itself (generateKey*, TLS handshakes): keep TLS outside the
// function or pass it keys; and values a program drew earlier and kept.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { syncBuiltinESMExports } = require('node:module');

let directory = '/run/memplate';
let current = {};
let seen = '';
const callbacks = [];

/** HMAC_DRBG of NIST SP 800-90A with SHA-256, without reseed counter. */
class HmacDrbg {
  constructor(seed) {
    this.key = Buffer.alloc(32);
    this.value = Buffer.alloc(32, 1);
    this.update(seed);
  }
  mac(...parts) {
    const hmac = crypto.createHmac('sha256', this.key);
    for (const part of parts) hmac.update(part);
    return hmac.digest();
  }
  update(data) {
    for (const separator of data ? [0, 1] : [0]) {
      this.key = this.mac(this.value, Buffer.of(separator), data || Buffer.alloc(0));
      this.value = this.mac(this.value);
    }
  }
  fill(buffer) {
    for (let offset = 0; offset < buffer.length; offset += 32) {
      this.value = this.mac(this.value);
      this.value.copy(buffer, offset);
    }
    this.update(null);
    return buffer;
  }
}

let generator = new HmacDrbg(crypto.randomBytes(64));
let pool = Buffer.alloc(0);  // drawn ahead for Math.random, which programs expect to be quick

const randomBytes = (count) => generator.fill(Buffer.alloc(count));

/** 53 bits: all that a double below 1 has. */
function randomFraction() {
  if (pool.length < 8) pool = randomBytes(4096);
  const value = (pool.readUInt32BE(0) >>> 5) * 2 ** 26 + (pool.readUInt32BE(4) >>> 6);
  pool = pool.subarray(8);
  return value / 2 ** 53;
}

/** The bytes of any array or buffer that may be filled. */
function bytesOf(target, offset = 0, size = undefined) {
  const view = ArrayBuffer.isView(target)
      ? Buffer.from(target.buffer, target.byteOffset, target.byteLength) : Buffer.from(target);
  const unit = target.BYTES_PER_ELEMENT || 1;
  return view.subarray(offset * unit, size === undefined ? view.length : (offset + size) * unit);
}

function randomInteger(low, high) {
  if (high === undefined) [low, high] = [0, low];
  const range = high - low;
  if (!Number.isSafeInteger(low) || !Number.isSafeInteger(high) || range <= 0 || range > 2 ** 48)
    throw new RangeError('randomInt: needs safe integers, min < max, max - min <= 2^48');
  const limit = 2 ** 48 - (2 ** 48 % range);
  let value;
  do value = randomBytes(6).readUIntBE(0, 6); while (value >= limit);  // no modulo bias
  return low + (value % range);
}

function randomUuid() {
  const bytes = randomBytes(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** node:crypto's functions answer at once, or through a callback given last. */
const withCallback = (compute) => (...parameters) => {
  const callback = typeof parameters.at(-1) === 'function' ? parameters.pop() : null;
  const value = compute(...parameters);
  if (!callback) return value;
  setImmediate(callback, null, value);
};

function replaceGenerators() {
  const fill = (target, offset, size) => (generator.fill(bytesOf(target, offset, size)), target);
  const randomBytesAsync = withCallback(randomBytes);
  Math.random = randomFraction;
  Object.assign(crypto, {
    randomBytes: randomBytesAsync, pseudoRandomBytes: randomBytesAsync,
    randomFill: withCallback(fill), randomFillSync: fill,
    randomInt: withCallback(randomInteger), randomUUID: randomUuid,
  });
  // crypto.getRandomValues and globalThis.crypto look these two up here at each call.
  const webcrypto = Object.getPrototypeOf(crypto.webcrypto);
  webcrypto.randomUUID = randomUuid;
  webcrypto.getRandomValues = (target) => {
    if (!ArrayBuffer.isView(target)) throw new TypeError('getRandomValues: not a typed array');
    return fill(target);
  };
  syncBuiltinESMExports();
}

/** Reads the two files if they are new to this process; true if they were. A service that cannot
 *  accept even one answer before the signal arrives calls this before it draws a number. */
function refresh() {
  const file = path.join(directory, 'identity.json');
  const status = fs.statSync(file, { bigint: true, throwIfNoEntry: false });
  const mark = status ? `${status.dev} ${status.ino} ${status.mtimeNs}` : '';
  if (!status || mark === seen) return false;
  const text = fs.readFileSync(file);
  const entropy = fs.readFileSync(path.join(directory, 'entropy'));
  if (entropy.length !== 64)
    throw new Error(`${directory}/entropy has ${entropy.length} bytes instead of 64`);
  current = JSON.parse(text);
  seen = mark;
  generator = new HmacDrbg(crypto.createHmac('sha512', entropy).update(text).digest());
  pool = Buffer.alloc(0);
  for (const callback of callbacks) callback(current);
  return true;
}

function install(options = {}) {
  directory = options.directory || directory;
  replaceGenerators();
  process.on(options.signal || 'SIGUSR2', refresh);
  refresh();
}

module.exports = {
  install, refresh, randomBytes, HmacDrbg,
  identity: () => current,
  onClone: (callback) => callbacks.push(callback),
};
