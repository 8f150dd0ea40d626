// Follows orders and goes on where it stopped. usage: node client.js [URL [FILE]]
//
// While it runs, `eventsource` reconnects after the stream's `retry` and sends the last id by itself. FILE keeps that id
// over the end of the process.
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { EventSource } = require("eventsource");

const [url = "http://127.0.0.1:8080/orders", file = path.join(os.tmpdir(), "orders.id")] = process.argv.slice(2);
const kept = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";

const stream = new EventSource(url, {
  fetch: (input, init) => {
    const headers = kept ? { "last-event-id": kept, ...lowercase(init.headers) } : init.headers;
    return fetch(input, { ...init, headers });
  },
});

stream.addEventListener("open", () => console.log("open"));

stream.addEventListener("order", (event) => {
  console.log(event.type, event.lastEventId, event.data);
  fs.writeFileSync(file, event.lastEventId);
});

// The gateway no longer has what came after the id: what was missed must be fetched in another way.
stream.addEventListener("reset", (event) => console.log(event.type, event.data));

process.on("SIGTERM", () => {
  stream.close();
  process.exit(0);
});

function lowercase(headers) {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
