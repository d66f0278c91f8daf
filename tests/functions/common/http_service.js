// SPDX-License-Identifier: Apache-2.0
// A small HTTP service: one function per path, one connection per request.
'use strict';
const http = require('node:http');

/** argv[2], else PORT of the environment, else 8080. */
function listenPort() {
  return Number(process.argv[2] || process.env.PORT || 8080);
}

/** `routes` maps a path to a function of (URLSearchParams) that returns the text of the answer. */
function serve(routes) {
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    const route = Object.hasOwn(routes, url.pathname) ? routes[url.pathname] : undefined;
    request.resume();  // no function here reads a body
    response.setHeader('Connection', 'close');
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
    try {
      response.statusCode = route ? 200 : 404;
      response.end(route ? route(url.searchParams) : `no such path: ${url.pathname}\n`);
    } catch (error) {
      response.statusCode = error instanceof RangeError ? 400 : 500;
      response.end(`${error.message}\n`);
    }
  });
  server.listen(listenPort(), '0.0.0.0');
}

module.exports = { serve };
