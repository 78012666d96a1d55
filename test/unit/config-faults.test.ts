import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/validation/config-error.ts";
import { configFiles, faultsOf } from "../support/config-files.ts";

const { loadJson } = configFiles();
const url = "postgres://rowhouse:hunter2@db.example/app";
const databases = { main: { url } };

describe("values", () => {
  it("are read in their units", async () => {
    const config = await loadJson({
      cells: { idleTtl: "1.5h", drainTimeout: 250, stallTimeout: "20s", memoryMb: 512 },
      builds: { timeout: "2m" },
      limits: { bodyBytes: "512 KB", resultBytes: "1.5MB", requestTimeout: "500ms" },
      routing: ["path:/t/:tenant"],
    });
    expect(config.cells).toMatchObject({
      idleTtlMs: 5_400_000,
      drainTimeoutMs: 250,
      stallTimeoutMs: 20_000,
      memoryMb: 512,
    });
    expect(config.builds.timeoutMs).toBe(120_000);
    expect(config.limits).toMatchObject({
      bodyBytes: 524_288,
      resultBytes: 1_572_864,
      requestTimeoutMs: 500,
      statementTimeoutMs: 500,
    });
    expect(config.routing).toEqual([{ kind: "path", segments: ["t", null] }]);
  });

  it("name headers and cookies for presets", async () => {
    const requestHeaders = ["x-user-locale", "cookie:Session.id", "host"];
    expect((await loadJson({ requestHeaders })).requestHeaders).toEqual(requestHeaders);
  });

  it("set a role-safety mode alone, or with its exceptions", async () => {
    const accept = ["app.audit"];
    expect(await loadJson({ roleSafety: "refuse" })).toMatchObject({ roleSafety: "refuse", acceptedSql: [] });
    expect(await loadJson({ roleSafety: { accept } })).toMatchObject({
      roleSafety: "warn",
      acceptedSql: accept,
    });
  });

  it.each([
    [{ listen: { port: 65_536 } }, "listen.port"],
    [{ listen: { port: "80" } }, "listen.port"],
    [{ listen: { host: "http://x" } }, "listen.host"],
    [{ listen: { trustProxy: 0 } }, "listen.trustProxy"],
    [{ listen: { trustProxy: 1.5 } }, "listen.trustProxy"],
    [{ listen: { trustProxy: null } }, "listen.trustProxy"],
    [{ listen: { trustProxy: "" } }, "listen.trustProxy"],
    [{ listen: { trustProxy: "proxy.example" } }, "listen.trustProxy"],
    [{ listen: { trustProxy: "10.0.0.0/33" } }, "listen.trustProxy"],
    [{ listen: { trustProxy: ["loopback", "10.0.0.0/8/8"] } }, "listen.trustProxy[1]"],
    [{ listen: { trustProxy: ["::/0"] } }, "listen.trustProxy[0]"],
    [{ listen: { trustProxy: ["loopback, 10.0.0.1"] } }, "listen.trustProxy[0]"],
    [{ listen: { trustProxy: ["1"] } }, "listen.trustProxy[0]"],
    [{ listen: { trustProxy: [1] } }, "listen.trustProxy[0]"],
    [{ admin: { trustProxy: true } }, "admin.trustProxy"],
    [{ admin: { host: "0.0.0.0" } }, "admin.token"],
    [{ admin: { host: "::", token: "x".repeat(15) } }, "admin.token"],
    [{ admin: { token: "with blank" } }, "admin.token"],
    [{ admin: { port: 5678 } }, "admin.port"],
    [{ listen: { host: "0.0.0.0", port: 5679 } }, "admin.port"],
    [{ routing: [] }, "routing"],
    [{ routing: ["host", "cookie:x"] }, "routing[1]"],
    [{ requestHeaders: "x-user-locale" }, "requestHeaders"],
    [{ requestHeaders: ["x-user-locale", "X-User"] }, "requestHeaders[1]"],
    [{ requestHeaders: ["x user"] }, "requestHeaders[0]"],
    [{ requestHeaders: [""] }, "requestHeaders[0]"],
    [{ requestHeaders: ["__proto__"] }, "requestHeaders[0]"],
    [{ requestHeaders: ["authorization"] }, "requestHeaders[0]"],
    [{ requestHeaders: ["proxy-authorization"] }, "requestHeaders[0]"],
    [{ requestHeaders: ["transfer-encoding"] }, "requestHeaders[0]"],
    [{ requestHeaders: ["cookie"] }, "requestHeaders[0]"],
    [{ requestHeaders: ["cookie:"] }, "requestHeaders[0]"],
    [{ requestHeaders: ["cookie:a=b"] }, "requestHeaders[0]"],
    [{ requestHeaders: [`x-${"a".repeat(64)}`] }, "requestHeaders[0]"],
    [{ requestHeaders: ["x-user", "x-user"] }, "requestHeaders"],
    [{ requestHeaders: Array.from({ length: 33 }, (_, n) => `x-${n}`) }, "requestHeaders"],
    [{ pooling: "yes" }, "pooling"],
    [{ guard: "on" }, "guard"],
    [{ roleSafety: "on" }, "roleSafety"],
    [{ roleSafety: { mode: "on" } }, "roleSafety.mode"],
    [{ roleSafety: { accept: ["audit"] } }, "roleSafety.accept[0]"],
    [{ cells: { heapMb: 1.5 } }, "cells.heapMb"],
    [{ cells: { spare: -1 } }, "cells.spare"],
    [{ cells: { hardLimitFactor: 0.5 } }, "cells.hardLimitFactor"],
    [{ cells: { headroomMb: -1 } }, "cells.headroomMb"],
    [{ cells: { quarantineShare: 0 } }, "cells.quarantineShare"],
    [{ cells: { quarantineShare: 1.1 } }, "cells.quarantineShare"],
    [{ cells: { quarantineWindow: "10ms" } }, "cells.quarantineWindow"],
    [{ limits: { variables: 0 } }, "limits.variables"],
    [{ limits: { variablesDepth: "64" } }, "limits.variablesDepth"],
    [{ cells: { idleTtl: "30d" } }, "cells.idleTtl"],
    [{ cells: { drainTimeout: "-1s" } }, "cells.drainTimeout"],
    [{ limits: { bodyBytes: "1 XB" } }, "limits.bodyBytes"],
    [{ limits: { bodyBytes: 0 } }, "limits.bodyBytes"],
    [{ limits: { fields: 0 } }, "limits.fields"],
    [{ limits: { tenantInFlight: 0 } }, "limits.tenantInFlight"],
    [{ limits: { tenantInFlight: 5_000 } }, "limits.tenantInFlight"],
    [{ limits: { connections: "many" } }, "limits.connections"],
    [{ limits: { addressConnections: 0 } }, "limits.addressConnections"],
    [{ limits: { depth: "16" } }, "limits.depth"],
    [{ limits: { statementTimeout: 0 } }, "limits.statementTimeout"],
    [{ introspection: "off" }, "introspection"],
    [{ cells: { heapMB: 256 } }, "cells.heapMB"],
    [{ port: 80 }, "port"],
    [{ graphiql: 1 }, "graphiql"],
  ])("%j is a fault at its path", async (config, path) => {
    expect(Object.keys(await faultsOf(loadJson(config)))).toEqual([path]);
  });

  it("a listener beyond loopback needs a long token, a loopback one needs none", async () => {
    const open = await loadJson({ admin: { host: "0.0.0.0", token: "x".repeat(16) } });
    expect(open.admin).toEqual({ host: "0.0.0.0", port: 5679, token: "x".repeat(16) });
    for (const host of ["localhost", "::1", "[::1]", "127.1.2.3"]) {
      expect((await loadJson({ admin: { host } })).admin.token).toBeNull();
    }
  });
});

describe("trusted proxies", () => {
  it.each([
    [false, false],
    [true, true],
    [2, 2],
    ["loopback", ["loopback"]],
    [[], []],
    [
      ["uniquelocal", "linklocal", "192.0.2.1", "10.0.0.0/8", "172.16.0.0/255.240.0.0", "2001:db8::/32"],
      ["uniquelocal", "linklocal", "192.0.2.1", "10.0.0.0/8", "172.16.0.0/255.240.0.0", "2001:db8::/32"],
    ],
  ])("may be %j", async (trustProxy, read) => {
    expect((await loadJson({ listen: { trustProxy } })).listen.trustProxy).toEqual(read);
  });
});

describe("faults", () => {
  it("are all reported at once, those across keys beside those of single values", async () => {
    const config = {
      listen: { port: -1 },
      admin: { host: "0.0.0.0" },
      preset: "nope.ts",
      colour: "red",
      databases: { main: { url: "x" } },
      tenants: [
        { id: "a", schemas: ["a"], hosts: ["h.example"] },
        { id: "b", schemas: [], hosts: ["h.example"], database: "nope" },
      ],
    };
    const env = { GRAPHILE_CACHE_MAX: "many", NODE_OPTIONS: "--max-old-space-size=512" };
    const faults = await faultsOf(loadJson(config, { env }));
    expect(Object.keys(faults).sort()).toEqual([
      "GRAPHILE_CACHE_MAX",
      "NODE_OPTIONS",
      "admin.token",
      "colour",
      "databases.main.url",
      "listen.port",
      "preset",
      "tenants[1].database",
      "tenants[1].hosts",
      "tenants[1].schemas",
    ]);
  });

  it("never contain a URL's credentials, wherever the URL was put", async () => {
    const secret = "postgres://rowhouse:hunter2/x@y@db.example/app";
    const configs = [
      { databases: { [secret]: { url } } },
      { [secret]: 1 },
      { databases, tenants: [{ id: secret, schemas: [secret.repeat(2)], database: secret }] },
      {
        databases,
        routing: [secret],
        preset: secret,
        guard: secret,
        tenants: { table: { database: secret } },
      },
    ];
    for (const config of configs) {
      const error: unknown = await loadJson(config).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(ConfigError);
      expect(`${error}${JSON.stringify(error)}`).not.toMatch(/hunter2/);
    }
  });
});
