/** Opens the two listeners: one for operators, one for clients. */
import type { Config } from "../config/config.ts";
import { createAdminApp } from "../http/admin/app.ts";
import type { AdminOperations } from "../http/admin/contract.ts";
import { ClientBacklog } from "../http/client-backlog.ts";
import { serveApp } from "../http/fetch-app.ts";
import { Proxies } from "../http/proxies.ts";
import { type PublicDeps, servePublic } from "../http/public/app.ts";
import { NamedHeaders } from "../http/public/named-headers.ts";
import { WebSockets } from "../http/public/web-sockets.ts";
import { type Listening, listen } from "../http/server.ts";
import type { Metrics } from "../observability/metrics.ts";
import type { Observe } from "../observability/observation.ts";
import type { HostContext } from "./context.ts";

const adminDrainMs = 1_000;

/** Opens the admin listener. */
export async function listenForOperators(
  { config, observe, started }: HostContext,
  operations: AdminOperations,
  metrics: Metrics,
): Promise<Listening> {
  const app = createAdminApp({
    operations,
    token: config.admin.token,
    metricsText: async () => ({ contentType: metrics.contentType, text: await metrics.text() }),
    observe,
  });
  const { host, port } = config.admin;
  const admin = await listen(serveApp(app), { host, port }, observe);
  started.add(() => admin.close(adminDrainMs));
  observe({ kind: "host.listening", name: "admin", url: admin.url });
  return admin;
}

/** The memory for slow clients. The plan gives the front 100 MB; with more memory, they may use more of it. */
export function clientBacklog({ cells, limits }: Config): ClientBacklog {
  return new ClientBacklog(Math.max(64 * 2 ** 20, 2 * limits.bodyBytes, (cells.memoryMb * 2 ** 20) / 16));
}

/** Opens the public listener; when it closes, requests in flight may continue for `cells.drainTimeout`. */
export async function listenForClients(
  { config, observe, started }: HostContext,
  {
    handle,
    backlog,
    subscriptions,
    phase,
  }: Pick<PublicDeps, "handle" | "backlog" | "subscriptions" | "phase">,
): Promise<Listening> {
  const { cells, limits } = config;
  const proxies = new Proxies(config.listen.trustProxy);
  const { bodyBytes } = limits;
  const namedHeaders = new NamedHeaders(config.requestHeaders);
  const both = { backlog, proxies, namedHeaders, observe, phase };
  const sockets = subscriptions === null ? null : new WebSockets({ ...both, subscriptions, bodyBytes });
  const serve = servePublic({ ...both, handle, subscriptions, limits });
  const { host, port } = config.listen;
  const { connections, addressConnections } = limits;
  const isProxy = (address: string): boolean => proxies.isProxy(address);
  const onCrowded = warnOnce(observe, addressConnections);
  const listening = await listen(
    serve,
    {
      host,
      port,
      connections,
      addressConnections,
      isProxy,
      onCrowded,
      ...(sockets === null ? {} : { upgrade: sockets.upgrade }),
    },
    observe,
  );
  started.add(() => {
    const closed = listening.close(cells.drainTimeoutMs);
    sockets?.drain(cells.drainTimeoutMs);
    subscriptions?.drain();
    return closed;
  });
  observe({ kind: "host.listening", name: "public", url: listening.url });
  return listening;
}

/** Warns about the first address with too many connections only, so that a flood of connections does not flood the log. */
function warnOnce(observe: Observe, most: number): (address: string) => void {
  let isTold = false;
  return (address) => {
    if (isTold) return;
    isTold = true;
    const message = `${address} has ${most} connections, limits.addressConnections, and was refused more: if it is a proxy, list it here`;
    observe({ kind: "config.warning", path: "listen.trustProxy", message });
  };
}
