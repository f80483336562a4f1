// One client of the original rtc-signaller in a process of its own. Takes orders and tells what happens, a line of JSON each.
//
//   {"do": "announce", "data": {"room": "lobby"}}
//   {"do": "send", "args": ["/hello", "there"]}
//   {"do": "to", "target": "<id>", "args": ["/hello", "there"]}
//   {"do": "leave"}

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const messenger = require("rtc-switchboard-messenger");
const signaller = require("rtc-signaller")(messenger(process.argv[2]), process.argv[3] ? { id: process.argv[3] } : {});

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

tell({ name: "id", args: [signaller.id] });
// What came of it, and the frame that it came from, where it is a message.
signaller.feed(({ name, args }) => tell({ name, args: args.map((arg) => (arg instanceof Error ? arg.message : arg)) }));

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.do === "announce") signaller.announce(order.data);
  if (order.do === "send") signaller.send(...order.args);
  if (order.do === "to") signaller.to(order.target).send(...order.args);
  if (order.do === "leave") signaller.leave();
}
process.exit(0);
