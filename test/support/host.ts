/** A host under test: the real command line with a config file, and its two listeners as a client sees them. */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, request } from "undici";
import { afterAll, expect } from "vitest";
import type { GraphqlAnswer, HttpAnswer, SendOptions } from "./exchanged.ts";
import { CliProcess } from "./host-process.ts";
import { rawRequest } from "./http.ts";
import { postSentinel, type Sentinel, tenantNamed, type Whose } from "./sentinel.ts";

export interface HostOptions {
  /** Merged over the defaults, section by section. With null there is no config file, only options and environment. */
  readonly config: Record<string, unknown> | null;
  readonly env?: Record<string, string>;
  readonly args?: readonly string[];
  /** Further files beside the config, by name. */
  readonly files?: Record<string, string>;
  /** The command line to run instead of the checkout's own. */
  readonly cli?: string;
  /** The working directory, instead of a temporary one that is removed with the host. */
  readonly directory?: string;
  /** Lists who is connected to the database, by application name. */
  readonly connected?: () => Promise<string[]>;
}

const defaults: Record<string, object> = {
  listen: { port: 0 },
  admin: { port: 0 },
  // Two small cells, because a test's host shares its machine with other tests' hosts. Whether a tenant uses too much of a cell
  // depends on how busy that machine is, so only tests of quarantine enable it.
  cells: { memoryMb: 700, heapMb: 192, max: 2, instanceHeapMb: 16, quarantineShare: 1 },
};

function merged(config: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = { ...defaults, ...config };
  for (const [section, value] of Object.entries(defaults)) {
    const given = config[section];
    if (typeof given === "object") result[section] = { ...value, ...given };
  }
  return result;
}

/** Whether the host has tenants: those of the demo if nothing is configured, or those of a list, a table or a module. */
function hasTenants(config: Record<string, unknown> | null): boolean {
  const tenants = config?.["tenants"];
  return !Array.isArray(tenants) || tenants.length > 0;
}

const directories = new Set<string>();
afterAll(async () => {
  for (const each of directories) await rm(each, { recursive: true, force: true });
});

/** Creates a directory with these files, which `remove` or the end of the test file deletes. */
export async function directoryWith(
  files: Record<string, string>,
): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), "rowhouse-host-"));
  directories.add(path);
  // Readable like a project's directory: a server that root starts as another user has to traverse it.
  await chmod(path, 0o755);
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text);
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

export class TestHost {
  readonly process: CliProcess;
  readonly url: string;
  readonly adminUrl: string;
  readonly sentinel: Sentinel;
  readonly #agent = new Agent({ connections: 64, bodyTimeout: 120_000, headersTimeout: 120_000 });
  readonly #names: readonly string[];
  readonly #options: HostOptions;
  readonly #remove: (() => Promise<void>) | undefined;

  private constructor(
    process: CliProcess,
    urls: { public: string; admin: string },
    names: readonly string[],
    options: HostOptions,
    remove: (() => Promise<void>) | undefined,
  ) {
    this.process = process;
    this.url = urls.public;
    this.adminUrl = urls.admin;
    this.sentinel = postSentinel(options.config === null ? "demo" : "canaries", hasTenants(options.config));
    this.#names = names;
    this.#options = options;
    this.#remove = remove;
  }

  /** Starts a host and waits until it is ready. */
  static async start(options: HostOptions): Promise<TestHost> {
    const { config, directory, files } = options;
    const written = config === null ? {} : { "host.json": JSON.stringify(merged(config)) };
    const own = directory === undefined ? await directoryWith({ ...written, ...files }) : null;
    const before = new Set(await options.connected?.());
    const ports = ["--port", "0", "--admin-port", "0"];
    const args = ["serve", ...(config === null ? ports : ["--config", "host.json"]), ...(options.args ?? [])];
    const cwd = directory ?? own?.path ?? tmpdir();
    const process = new CliProcess({
      args,
      cwd,
      ...(options.env ? { env: options.env } : {}),
      ...(options.cli === undefined ? {} : { cli: options.cli }),
    });
    await process.line("host.phase", { phase: "ready" });
    const urlOf = async (name: string): Promise<string> =>
      String((await process.line("host.listening", { name }))["url"]);
    const urls = { public: await urlOf("public"), admin: await urlOf("admin") };
    const names = ((await options.connected?.()) ?? []).filter((name) => !before.has(name));
    return new TestHost(process, urls, [...new Set(names.map(hostPart))], options, own?.remove);
  }

  /** Sends a request to the public listener. */
  async send(path: string, options: SendOptions = {}): Promise<HttpAnswer> {
    const answer = await this.#send(path, options, this.url);
    this.sentinel.see(options.tenant ?? tenantNamed(path, options.headers ?? {}), answer.text);
    return answer;
  }

  /**
   * Sends bytes to the public listener and returns all that came until it closed: the request says `Connection: close`, or is
   * refused.
   */
  async raw(text: string, tenant: Whose = null): Promise<string> {
    const answer = await rawRequest(Number(new URL(this.url).port), text);
    this.sentinel.see(tenant, answer);
    return answer;
  }

  async #send(path: string, options: SendOptions, base: string): Promise<HttpAnswer> {
    const { method = "GET", headers = {}, body, signal } = options;
    const answer = await request(`${base}${path}`, {
      method,
      headers,
      dispatcher: this.#agent,
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    });
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
  }

  /** Sends a tenant's GraphQL request, with the tenant in the header; throws if the answer contains another tenant's data. */
  async graphql(
    tenant: string,
    query: string,
    options: {
      variables?: object;
      signal?: AbortSignal;
      headers?: Record<string, string>;
      path?: string;
    } = {},
  ): Promise<GraphqlAnswer> {
    const { variables = {}, signal, headers = { "x-tenant": tenant }, path = "/graphql" } = options;
    const answer = await this.send(path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ query, variables }),
      tenant,
      ...(signal === undefined ? {} : { signal }),
    });
    const { data, errors } = JSON.parse(answer.text);
    return { ...answer, data, errors, code: errors?.[0]?.extensions?.code };
  }

  /** The data of an answer; fails if it has errors. */
  // biome-ignore lint/suspicious/noExplicitAny: an answer is what the query made it.
  async data(tenant: string, query: string, variables: object = {}): Promise<any> {
    const answer = await this.graphql(tenant, query, { variables });
    expect({ status: answer.status, errors: answer.errors }, this.process.output.slice(-4_000)).toEqual({
      status: 200,
      errors: undefined,
    });
    return answer.data;
  }

  admin(path: string, options: SendOptions = {}): Promise<HttpAnswer> {
    return this.#send(path, options, this.adminUrl);
  }

  // biome-ignore lint/suspicious/noExplicitAny: whatever the admin API says.
  async adminJson(path: string, body?: object): Promise<any> {
    const answer = await this.admin(
      path,
      body === undefined
        ? {}
        : {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(body),
          },
    );
    expect(answer.status, answer.text).toBe(200);
    return JSON.parse(answer.text);
  }

  /** Every sample of `/metrics`, by its name with labels as Prometheus writes them. */
  async metrics(): Promise<Map<string, number>> {
    const { text } = await this.admin("/metrics");
    const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(
      samples.map((line) => {
        const space = line.lastIndexOf(" ");
        return [line.slice(0, space), Number(line.slice(space + 1))];
      }),
    );
  }

  async metric(name: string): Promise<number> {
    return (await this.metrics()).get(`rowhouse_${name}`) ?? Number.NaN;
  }

  /** Sends SIGTERM, and waits until the host has ended with nothing left of it here or in PostgreSQL. */
  async stop(): Promise<void> {
    await this.#agent.close();
    this.process.signal("SIGTERM");
    await this.ended();
  }

  /** Waits for an orderly end that something else has requested. */
  async ended(): Promise<void> {
    const timer = setTimeout(() => this.process.kill(), 45_000);
    const end = await this.process.ended;
    clearTimeout(timer);
    await this.#remove?.();
    expect(end, this.process.output.slice(-4_000)).toEqual({ code: 0, signal: null });
    expect(this.process.groupAlive).toBe(false);
    expect(this.process.linesOf("host.phase").map((line) => line["phase"])).toContain("closed");
    const connected = (await this.#options.connected?.()) ?? [];
    expect(connected.filter((name) => this.#names.includes(hostPart(name)))).toEqual([]);
    expect(this.sentinel.leaks).toEqual([]);
  }
}

/** Returns `rowhouse:1a2b3c4d` for `rowhouse:1a2b3c4d:front`. */
const hostPart = (applicationName: string): string => applicationName.split(":").slice(0, 2).join(":");
