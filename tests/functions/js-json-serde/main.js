// SPDX-License-Identifier: Apache-2.0
// Parses and writes five JSON documents; json-serde has the same ones and the same answer.
'use strict';
const crypto = require('node:crypto');
const { serve } = require('../common/http_service.js');

function numbers(state) {
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
}

function makeDocument(index) {
  const draw = numbers(index);
  const records = Array.from({ length: 200 * (index + 1) }, (_, position) => ({
    key: `record-${index}-${position}`,
    value: draw(),
    flags: [draw() % 2 === 0, null, position % 3 === 0],
    place: { x: draw() % 1000, y: 0 - (draw() % 1000) },
    note: 'a "quoted" note\n'.repeat(draw() % 4),
  }));
  return { document: index, records };
}

const documents = Array.from({ length: 5 }, (_, index) => JSON.stringify(makeDocument(index)));

function answer() {
  const digest = crypto.createHash('sha256');
  let size = 0;
  let total = 0;
  for (const text of documents) {
    const document = JSON.parse(text);
    for (const record of document.records) total += record.value++;
    const written = Buffer.from(JSON.stringify(document));
    digest.update(written);
    size += written.length;
  }
  return `documents ${documents.length} bytes ${size} sum ${total} sha256 ${digest.digest('hex')}\n`;
}

serve({ '/': answer });
