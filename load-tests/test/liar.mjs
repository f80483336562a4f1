// A proxy in front of a gateway that tampers with one call, to see whether the scripts notice.

import http from "node:http";
import net from "node:net";

/** How a revocation can go wrong without anyone saying so. */
export const LIES = {
  /** It is answered as enforced, and nobody was told. */
  claimed: { matches: (url) => /\/revoke\b/.test(url), answer: { enforced: true } },
  /** The answer does not wait until it is enforced. */
  unwaited: { matches: (url) => /\/revoke\b/.test(url), rewrite: (url) => url.replace("wait=enforced", "wait=none") },
};

export class Liar {
  /** @param {string} base The gateway. @param {(typeof LIES)[keyof typeof LIES]} lie */
  static async start(base, lie) {
    const liar = new Liar();
    const { hostname, port } = new URL(base);
    liar.server = http.createServer((request, response) => {
      const told = lie.matches(request.url);
      if (told && lie.answer) return response.end(JSON.stringify(lie.answer));
      const path = told ? lie.rewrite(request.url) : request.url;
      const onward = http.request({ hostname, port, path, method: request.method, headers: request.headers }, (answer) => {
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
