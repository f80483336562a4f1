// A proxy in front of a gateway that answers revocations itself, to see whether the scripts notice.

import http from "node:http";
import net from "node:net";

/** Answers to a revocation of which no gateway hears. */
export const LIES = {
  /** It is done. */
  claimed: { status: 200, body: { status: "ok", enforced: true } },
  /** It is under way: what is answered to whoever does not wait. */
  unwaited: { status: 202, body: { status: "ok", enforced: false } },
};

export class Liar {
  /** @param {string} base The gateway. @param {(typeof LIES)[keyof typeof LIES]} lie */
  static async start(base, lie) {
    const liar = new Liar();
    const { hostname, port } = new URL(base);
    liar.server = http.createServer((request, response) => {
      if (/\/revoke\b/.test(request.url)) return response.writeHead(lie.status).end(JSON.stringify(lie.body));
      const { url: path, method, headers } = request;
      const onward = http.request({ hostname, port, path, method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      onward.on("error", () => response.destroy());
      request.pipe(onward);
    });
    liar.server.on("upgrade", (request, socket) => {
      const onward = net.connect(Number(port), hostname, () => {
        const headers = request.rawHeaders.map((text, at) => (at % 2 ? `${text}\r\n` : `${text}: `)).join("");
        onward.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers}\r\n`);
        socket.pipe(onward).pipe(socket);
      });
      for (const [one, other] of [[socket, onward], [onward, socket]]) one.on("error", () => other.destroy());
    });
    await new Promise((done) => liar.server.listen(0, "127.0.0.1", done));
    liar.base = `http://127.0.0.1:${liar.server.address().port}`;
    return liar;
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }
}
