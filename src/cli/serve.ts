/** `rowhouse serve`: runs the server, with the configured databases or a demo of its own. */
import { flushCompileCache } from "node:module";
import { join } from "node:path";
import { isatty } from "node:tty";
import { type Host, startHost } from "../app/host.ts";
import type { Config } from "../config/config.ts";
import { copyFaults } from "../config/preset-copies.ts";
import { resolveRealtime } from "../config/resolve.ts";
import { demoPassword, seedDemo } from "../demo/seed.ts";
import { welcomePage } from "../demo/welcome.ts";
import { startEmbedded } from "../embedded/server.ts";
import type { Logger } from "../observability/logger.ts";
import type { Observe } from "../observability/observation.ts";
import { releaseFreePages } from "../shared/memory/gc.ts";
import { parseTenant } from "../tenants/tenant.ts";
import { ConfigError } from "../validation/config-error.ts";
import { type Command, UsageError } from "./command.ts";
import { openLog } from "./log.ts";
import { commandConfig, configOption, numberOption } from "./options.ts";
import { hostVersion } from "./version.ts";

export const serveCommand: Command = {
  name: "serve",
  description:
    "Serve GraphQL for every tenant, or a demo on embedded PostgreSQL if there is no config and no DATABASE_URL",
  args: {
    ...configOption,
    port: { type: "string", description: "public port (default 5678)", valueHint: "N" },
    "admin-port": { type: "string", description: "admin port (default 5679)", valueHint: "N" },
    tenants: { type: "string", description: "demo only: add N tenants of the first shape", valueHint: "N" },
  },
  async run(args) {
    const more = numberOption(args, "tenants", 0, 9_999);
    const config = await commandConfig(args);
    const faults = await copyFaults(config.preset);
    if (faults.length > 0) throw new ConfigError(faults);
    if (more !== undefined && config.tenants.kind !== "demo") {
      throw new UsageError("--tenants works only in the demo, but a database or tenants are configured");
    }
    return serve(config, more ?? 0);
  },
};

async function serve(config: Config, moreTenants: number): Promise<number> {
  const signals = new Signals();
  const terminal = signals.terminal && !config.production;
  const opened = openLog(terminal ? "terminal" : "json");
  // A closed terminal accepts no output, and nobody reads the log while the host drains.
  const log: Logger = {
    ...opened,
    observe: (observation) => {
      if (!signals.hungUp) opened.observe(observation);
    },
  };
  const demo = config.tenants.kind === "demo" ? await startDemo(config, moreTenants, log.observe) : null;
  try {
    // In production the page must not reveal the tenants.
    const welcome =
      demo === null || config.production ? null : welcomePage({ ...demo, graphiql: config.graphiql });
    const host = await startHost({
      config: demo?.config ?? config,
      version: await hostVersion(),
      log,
      ...(welcome === null ? {} : { welcome }),
    });
    console.log(banner(host, config, demo));
    // Flushed now, because a process that is killed would leave no cache for the next start.
    flushCompileCache();
    releaseFreePages();
    signals.onFlush(() => host.flush());
    await signals.stopped;
    await host.close();
    return 0;
  } finally {
    await demo?.close();
  }
}

/** Handles the signals of a serving process. */
class Signals {
  /** Whether standard output was a terminal when the process started. */
  readonly terminal = process.stdout.isTTY === true;
  readonly #stop = Promise.withResolvers<void>();
  #asked = false;
  #hungUp = false;
  #flush: () => Promise<void> = async () => {};

  constructor() {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (this.#asked) process.exit(1);
        this.#end();
      });
    }
    process.on("SIGHUP", () => this.#hangUp());
  }

  /**
   * Resolves at the first SIGTERM or SIGINT, or when the terminal is closed; the next SIGTERM or SIGINT ends
   * the process at once.
   */
  get stopped(): Promise<void> {
    return this.#stop.promise;
  }

  get hungUp(): boolean {
    return this.#hungUp;
  }

  /** Sets what a SIGHUP does that is not caused by a closed terminal; without this it does nothing. */
  onFlush(flush: () => Promise<void>): void {
    this.#flush = flush;
  }

  /** When a terminal closes, kernel and shell may each send SIGHUP: the second is no request to end at once. */
  #hangUp(): void {
    // On Windows a closed console is the only cause. Elsewhere, a closed terminal is no longer a tty when the
    // signal arrives.
    if (this.terminal && (process.platform === "win32" || !isatty(1))) {
      this.#hungUp = true;
      if (!this.#asked) this.#end();
    } else if (!this.#asked) {
      // It works in memory and does not fail.
      void this.#flush();
    }
  }

  #end(): void {
    this.#asked = true;
    this.#stop.resolve();
  }
}

interface RunningDemo {
  readonly config: Config;
  readonly tenants: readonly { readonly id: string; readonly hosts: readonly string[] }[];
  close(): Promise<void>;
}

async function startDemo(config: Config, moreTenants: number, observe: Observe): Promise<RunningDemo> {
  const directory = join(process.cwd(), ".rowhouse");
  const server = await startEmbedded({ directory, persistent: true, observe });
  try {
    const { url, tenants } = await seedDemo(server.url, { tenants: moreTenants, observe });
    const defaults = { database: "main", databases: ["main"] };
    const list = tenants.map((tenant) => parseTenant(tenant, defaults));
    return {
      config: {
        ...config,
        // Pooling is what the demo shows, and its tenants are suited to it.
        pooling: true,
        realtime: config.realtime ?? resolveRealtime(true, config.limits.connections),
        databases: { main: { url, listenUrl: url, poolSize: 4, poolReserve: 4, install: false } },
        tenants: { kind: "list", list },
      },
      tenants,
      close: () => server.close(),
    };
  } catch (error) {
    await server.close();
    throw error;
  }
}

function banner(host: Host, config: Config, demo: RunningDemo | null): string {
  const lines = [
    `\nConfig   ${config.file ?? "none (environment and defaults)"}`,
    `GraphQL  ${host.publicUrl}/graphql`,
    `Admin    ${host.adminUrl}/status`,
  ];
  if (demo !== null) {
    const { port } = new URL(host.publicUrl);
    const [first] = demo.tenants;
    const shown = demo.tenants.slice(0, 6).map((tenant) => tenant.id);
    const more = demo.tenants.length - shown.length;
    lines.push(
      `Tenants  ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""} (every password in the demo is "${demoPassword}")`,
      ...(config.production ? [] : [`Browser  ${host.publicUrl}/`]),
      `GraphiQL http://${first?.hosts[0] ?? "acme.localhost"}:${port}/`,
      "",
      `  curl ${host.publicUrl}/graphql -H 'x-tenant: ${first?.id ?? "acme"}' -H 'content-type: application/json' \\`,
      `    -d '{"query":"{ allProducts { nodes { name unitPrice } } }"}'`,
    );
  }
  lines.push("", "Press Ctrl-C to stop, twice to stop without waiting for requests in flight.");
  return lines.join("\n");
}
