import { createServer } from "node:http";

const port = Number(process.env.PORT ?? 8080);
const greeting = process.env.GREETING ?? "Hello";

const server = createServer((request, reply) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const [status, text] =
    pathname === "/" ? [200, `${greeting} from Node`]
    : pathname === "/healthz" ? [200, "ok"]
    : [404, "not found"];
  reply.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  reply.end(`${text}\n`);
});

server.listen(port, () => console.log(`listening on port ${server.address().port}`));

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    console.log("stopping: finishing the requests in flight");
    server.close();
    server.closeIdleConnections();
  });
}
