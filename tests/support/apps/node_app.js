// The same small application on Node's http server: node node_app.js PORT KEEP_ALIVE_MS
"use strict";

const crypto = require("node:crypto");
const http = require("node:http");

const [port, keepAliveMs] = process.argv.slice(2).map(Number);

function home(request, response) {
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ pid: process.pid, headers: request.headers, path: request.url }));
}

function digest(request, response) {
  const found = crypto.createHash("sha256");
  request.on("data", (piece) => found.update(piece));
  request.on("end", () => response.end(found.digest("hex")));
}

function events(request, response) {
  response.setHeader("Content-Type", "text/event-stream");
  [0, 1, 2].forEach((n) => setTimeout(() => response.write(`data: ${n}\n\n`), n * 100));
  setTimeout(() => response.end(), 210);
}

function cookies(request, response) {
  response.writeHead(302, { Location: "/", "Set-Cookie": ["a=1", "b=2"] });
  response.end();
}

function fail(request, response) {
  response.statusCode = 503;
  response.end("mine");
}

function nowhere(request, response) {
  response.statusCode = 404;
  response.end();
}

const routes = { "/": home, "/digest": digest, "/events": events, "/cookies": cookies, "/fail": fail };
const server = http.createServer((request, response) => {
  // server.keepAliveTimeout itself would do, but for the second that newer versions of Node wait
  // longer than they say, to hide the race that is tested.
  response.on("finish", () => setImmediate(() => request.socket.setTimeout(keepAliveMs)));
  (routes[request.url] || nowhere)(request, response);
});
server.keepAliveTimeout = keepAliveMs;
server.listen(port, "127.0.0.1");
