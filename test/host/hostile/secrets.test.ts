import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { directoryWith, TestHost } from "../../support/host.ts";
import { runCli } from "../../support/host-process.ts";
import { type DatabaseProxy, openProxy } from "../../support/host-proxy.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../../support/host-tenants.ts";

const secret = (name: string): string => `${name}-${randomBytes(12).toString("hex")}`;
const secrets = {
  admin: secret("admin"),
  wrongPassword: secret("wrong"),
  lostPassword: secret("lost"),
  // With characters that must be encoded in a URL.
  listenPassword: `${secret("listen")}/@:#`,
  jwt: `${secret("jwt")}${"x".repeat(32)}`,
  bearer: secret("bearer"),
  guess: secret("guess"),
};

let database: TenantDatabase;
let tenants: TenantRecord[];
let host: TestHost;
let proxy: DatabaseProxy;
/** Everything that the host sent or printed. */
const told: string[] = [];

const withPassword = (url: string, password: string, change: Partial<URL> = {}): string => {
  const changed = Object.assign(new URL(url), change);
  changed.password = encodeURIComponent(password);
  return changed.href;
};

/** With `wrong`, a host that does not start. */
function config(wrong: boolean): Record<string, unknown> {
  const { hostUrl } = database;
  const [acme, globex, hooli] = tenants;
  return {
    databases: {
      main: { url: hostUrl, install: false },
      ...(wrong ? { wrong: { url: withPassword(hostUrl, secrets.wrongPassword), install: false } } : {}),
      // Valid for a host that starts, and lost later.
      lost: wrong
        ? {
            url: withPassword(hostUrl, secrets.lostPassword, { port: "1" }),
            listenUrl: withPassword(hostUrl, secrets.listenPassword, { port: "1" }),
            install: false,
          }
        : { url: proxy.through(hostUrl), install: false },
    },
    admin: { port: 0, token: secrets.admin },
    tenants: [
      { ...acme, database: "main", jwt: { secret: secrets.jwt } },
      { ...globex, database: wrong ? "wrong" : "lost" },
      { ...hooli, database: "lost" },
    ],
    guard: "off",
  };
}

beforeAll(async () => {
  database = await createTenantDatabase("secrets");
  tenants = [await database.tenant("acme"), await database.tenant("globex"), await database.tenant("hooli")];
  proxy = await openProxy(database.hostUrl);
  host = await TestHost.start({ config: config(false), connected: database.connected });
  await proxy.cut();
});
afterAll(async () => {
  await host.stop();
  await proxy.close();
  await database.drop();
});

/** Every form in which a secret may appear. */
const forms = (): string[] =>
  [...Object.values(secrets), database.password].flatMap((each) => [
    each,
    encodeURIComponent(each),
    Buffer.from(each).toString("base64").replace(/=+$/, ""),
    Buffer.from(each).toString("hex"),
  ]);

const admin = async (path: string, options: { method?: "POST"; body?: string; token?: string } = {}) => {
  const { token = secrets.admin, ...rest } = options;
  const answer = await host.admin(path, {
    ...rest,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
  });
  told.push(JSON.stringify(answer.headers), answer.text);
  return answer;
};
const ask = async (tenant: string, headers: Record<string, string> = {}) => {
  const answer = await host.graphql(tenant, itemsQuery, { headers: { "x-tenant": tenant, ...headers } });
  told.push(JSON.stringify(answer.headers), answer.text);
  return answer;
};

describe("no secret of the config is", () => {
  it("in any answer, metric or log line, whatever goes wrong", async () => {
    expect(await ask("acme")).toMatchObject({ data: itemsOf("acme") });
    expect(await ask("globex")).toMatchObject({ status: 503, code: "DATABASE_UNREACHABLE" });
    expect(await ask("hooli")).toMatchObject({ status: 503, code: "DATABASE_UNREACHABLE" });
    expect(await ask("acme", { authorization: `Bearer ${secrets.bearer}` })).toMatchObject({ status: 401 });
    await ask("globex", { authorization: `Bearer ${secrets.bearer}` });
    await ask("acme", {
      authorization: `Basic ${secrets.bearer}`,
      "x-request-id": secrets.bearer.slice(0, 3),
    });
    for (const path of [
      "/status",
      "/metrics",
      "/healthz",
      "/tenants/acme",
      "/tenants/globex",
      "/tenants/hooli",
      "/nothing",
    ]) {
      await admin(path);
    }
    expect(await admin("/status", { token: secrets.guess })).toMatchObject({ status: 401 });
    const migrate = { method: "POST", body: JSON.stringify({ sql: "select broken" }) } as const;
    for (const id of ["acme", "globex", "hooli"]) await admin(`/tenants/${id}/migrate`, migrate);
    await admin("/evict", { method: "POST", body: '{"tenant":"acme"}' });
    await admin("/flush", { method: "POST", body: "{}" });
    const { stdout, stderr } = host.process;
    expect(host.process.linesOf("request.failed").length).toBeGreaterThan(2);
    expect(host.process.linesOf("admin.refused")).toHaveLength(1);
    told.push(stdout, stderr);
    const all = told.join("\n");
    expect(all.length).toBeGreaterThan(5_000);
    expect(forms().filter((form) => all.includes(form))).toEqual([]);
  });

  it.each([
    ["serve"],
    ["check"],
    ["doctor"],
    ["shape", "acme"],
    ["shape", "globex"],
    ["migrate", "--sql", "none.sql", "--all"],
  ])("printed by rowhouse %s %s", async (...args) => {
    const { path, remove } = await directoryWith({ "rowhouse.config.json": JSON.stringify(config(true)) });
    const { stdout, stderr } = await runCli({ args: args.filter((arg) => arg !== undefined), cwd: path });
    await remove();
    expect(`${stdout}${stderr}`).not.toBe("");
    expect(forms().filter((form) => `${stdout}${stderr}`.includes(form))).toEqual([]);
  });
});
