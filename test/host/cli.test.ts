import { spawn, spawnSync } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

let database: TenantDatabase;
let acme: TenantRecord;

beforeAll(async () => {
  database = await createTenantDatabase("cli");
  acme = await database.tenant("acme");
});

afterAll(() => database.drop());

const working = () => ({
  databases: { main: { url: database.hostUrl, install: false } },
  tenants: [acme],
  pooling: true,
  listen: { port: 0 },
  admin: { port: 0 },
});

/** Runs a command in a directory with a config file. */
async function run(
  args: readonly string[],
  config: object | string = working(),
  env: Record<string, string> = {},
) {
  const text = typeof config === "string" ? config : JSON.stringify(config);
  const { path, remove } = await directoryWith({ "rowhouse.config.json": text });
  try {
    return await runCli({ args, cwd: path, env });
  } finally {
    await remove();
  }
}

describe("rowhouse check", () => {
  it("finds no faults in a valid config, and says what it examined", async () => {
    const { code, stdout, stderr } = await run(["check"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/no faults/);
    expect(stdout).toMatch(/database main: reachable/);
    expect(stdout).toMatch(/memory: \d+ cells/);
  });

  it("reports every fault of a config at once, each with its path", async () => {
    const faulty = {
      ...working(),
      listen: { port: 99_999 },
      admin: { host: "0.0.0.0", port: 0 },
      cells: { heapMb: "large", drainTimeout: "soon" },
      tenants: [acme, { ...acme, id: "other", database: "elsewhere" }],
      preset: "./missing.ts",
      nonsense: true,
    };
    const { code, stdout, stderr } = await run(["check"], faulty, { GRAPHILE_CACHE_MAX: "many" });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    for (const path of [
      "listen.port",
      "admin.token",
      "cells.heapMb",
      "cells.drainTimeout",
      "tenants[1].hosts",
      "tenants[1].database",
      "preset",
      "nonsense",
      "GRAPHILE_CACHE_MAX",
    ]) {
      expect(stderr).toContain(`rowhouse: ${path}`);
    }
  });

  it("reports an unreachable server and tenants' missing schemas", async () => {
    const config = {
      ...working(),
      databases: { ...working().databases, gone: { url: "postgres://nobody:hunter2@127.0.0.1:1/none" } },
      tenants: [acme, { id: "later", schemas: ["canary_later"] }],
    };
    const { code, stderr } = await run(["check"], config);
    expect(code).toBe(1);
    expect(stderr).toMatch(/tenant later: schema canary_later does not exist/);
    expect(stderr).toMatch(/databases\.gone: /);
    expect(stderr).not.toContain("hunter2");
  });
});

describe("rowhouse shape", () => {
  it("prints a tenant's key, shape and revisions", async () => {
    const { code, stdout } = await run(["shape", "acme", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      id: "acme",
      kind: "pooled",
      key: expect.stringMatching(/^bp:[0-9a-f]{64}$/),
      shape: expect.stringMatching(/^[0-9a-f]{64}$/),
      core: expect.stringMatching(/^[0-9a-f]{64}$/),
      sharesBy: expect.stringMatching(/^the core shape: no preset is configured/),
      revisions: { canary_acme: expect.stringMatching(/^\d+$/), public: expect.stringMatching(/^\d+$/) },
      schemas: { app: "canary_acme" },
    });
    const text = await run(["shape", "acme"]);
    expect(text.stdout).toContain(JSON.parse(stdout).shape);
    expect(text.stdout).toMatch(/pooled/);
    expect(text.stdout).toMatch(/^shares by the core shape: no preset/m);
  });

  it("names an unknown tenant", async () => {
    const { code, stderr } = await run(["shape", "nobody"]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/there is no tenant named "nobody"/),
    });
  });
});

describe("the command line", () => {
  it.each([
    [[], /rowhouse/],
    [["sevre"], /unknown command "sevre"/],
    [["serve", "--prot", "1"], /unknown option --prot/],
    [["serve", "--port", "many"], /--port must be a whole number/],
    [["serve", "--port"], /--port needs a value/],
    [["check", "extra"], /too many arguments/],
    [["shape"], /TENANT|tenant/],
    [["serve", "--tenants", "3"], /--tenants works only in the demo/],
  ] as const)("exits with 2 and prints the usage for %j", async (args, words) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(words);
    expect(stderr).toMatch(/USAGE/);
  });

  it.each([["--help"], ["--version"], ["serve", "--help"]])("exits with 0 for %s %s", async (...args) => {
    const { code, stdout, stderr } = await run(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/\d+\.\d+\.\d+/);
  });
});

describe("rowhouse serve", () => {
  it("refuses to start with a heap limit for all threads", async () => {
    const { code, stderr } = await run(["serve"], working(), { NODE_OPTIONS: "--max-old-space-size=512" });
    expect(code).toBe(1);
    expect(stderr).toMatch(/NODE_OPTIONS: --max-old-space-size overrides the heap limit/);
  });

  it("reports a port that is in use", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const address = other.address();
    const port = address !== null && typeof address === "object" ? address.port : 0;
    const { code, stderr } = await run(["serve", "--port", String(port)]);
    other.close();
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`cannot listen on 127\\.0\\.0\\.1 port ${port}: another process`));
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(await database.connected()).toEqual([]);
  });

  it("reports why a database refuses it, without the password", async () => {
    const url = new URL(database.hostUrl);
    url.password = "not_the_password";
    const { code, stdout, stderr } = await run(["serve"], {
      ...working(),
      databases: { main: { url: url.href } },
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/password authentication failed|cannot be reached|database main/);
    expect(stdout + stderr).not.toContain("not_the_password");
  });

  it("drains at the first signal: a slow request completes, and it exits with 0 and leaves nothing behind", async () => {
    const host = await TestHost.start({ config: working(), connected: database.connected });
    const asked = host.graphql("acme", "{ slow(seconds: 2) }");
    await database.asleep();
    await host.stop();
    expect(await asked).toMatchObject({ status: 200, data: { slow: "canary_acme one" } });
  });

  it("keeps serving at SIGHUP, with decisions that it makes anew", async () => {
    const host = await TestHost.start({ config: working(), connected: database.connected });
    const slow = host.graphql("acme", "{ slow(seconds: 2) }");
    await database.asleep();
    for (let decided = 1; decided <= 2; decided += 1) {
      host.process.signal("SIGHUP");
      await vi.waitFor(async () => {
        expect(await host.graphql("acme", "{ __typename }")).toMatchObject({ status: 200 });
        expect(host.process.linesOf("tenant.decided")).toHaveLength(decided + 1);
      }, 20_000);
    }
    // It was running all the time.
    expect(await slow).toMatchObject({ status: 200, data: { slow: "canary_acme one" } });
    await host.process.line("instance.evicted", { reason: "flushed" });
    await host.stop();
  });

  // util-linux's `script` provides a terminal, which ends with `script`.
  it.skipIf(spawnSync("script", ["--version"]).status !== 0)(
    "shuts down in order when its terminal goes away",
    async () => {
      const { path, remove } = await directoryWith({ "host.json": JSON.stringify(working()) });
      const program = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
      const command = `echo pid $$; exec '${process.execPath}' '${program}' serve --config host.json`;
      const terminal = spawn("script", ["-qfec", command, "/dev/null"], {
        cwd: path,
        stdio: ["ignore", "pipe", "inherit"],
        detached: true,
      });
      const output = new EventEmitter();
      let shown = "";
      terminal.stdout.setEncoding("utf8").on("data", (text: string) => {
        shown += text;
        output.emit("shown");
      });
      while (!/GraphQL +http/.test(shown)) await once(output, "shown");
      const pid = Number(/pid (\d+)/.exec(shown)?.[1]);
      try {
        expect(await database.connected()).not.toEqual([]);
        terminal.kill("SIGKILL");
        await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"), {
          timeout: 20_000,
          interval: 50,
        });
        // In order means that it closed its connections itself.
        expect(await database.connected()).toEqual([]);
      } finally {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // Gone, as it should be.
        }
        await remove();
      }
    },
  );

  it("exits at once at the second signal", async () => {
    const host = await TestHost.start({ config: working(), connected: database.connected });
    const asked = host.graphql("acme", "{ slow(seconds: 25) }").catch((error: Error) => error);
    await database.asleep();
    host.process.signal("SIGINT");
    await host.process.line("host.phase", { phase: "draining" });
    host.process.signal("SIGINT");
    expect(await host.process.ended).toEqual({ code: 1, signal: null });
    expect(await asked).toBeInstanceOf(Error);
    expect(host.process.groupAlive).toBe(false);
    // PostgreSQL itself notices that nobody waits for the answer any more.
    await vi.waitFor(async () => expect(await database.connected()).toEqual([]), {
      timeout: 20_000,
      interval: 100,
    });
  });

  it("never shows a secret in its output, status or metrics", async () => {
    const token = "token-of-more-than-16";
    const host = await TestHost.start({
      config: { ...working(), admin: { port: 0, token } },
      connected: database.connected,
    });
    const authorization = `Bearer ${token}`;
    await host.graphql("acme", "{ broken }");
    await host.admin("/status", { headers: { authorization: "Bearer wrong" } });
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}'",
    );
    await host.process.line("database.lost");
    const seen: string[] = [];
    for (const path of ["/status", "/metrics", "/tenants/acme"]) {
      const { status, text } = await host.admin(path, { headers: { authorization } });
      expect(status).toBe(200);
      seen.push(text);
    }
    await host.stop();
    for (const text of [...seen, host.process.stdout, host.process.stderr]) {
      expect(text).not.toContain(database.password);
      expect(text).not.toContain(token);
    }
  });
});
