import { homedir } from "node:os";
import { describe, expect, it } from "vitest";
import { Candidates, candidatesOf } from "../../src/shared/connect/candidates.ts";
import { matches } from "../../src/shared/connect/session-state.ts";
import { tlsOptions } from "../../src/shared/connect/tls.ts";
import { parseConnectionUrl, type TlsRules } from "../../src/shared/connect/url.ts";

const parse = (url: string, env: Record<string, string> = {}) => parseConnectionUrl(url, env);
const places = (url: string, env: Record<string, string> = {}) =>
  parse(url, env).hosts.map(({ host, port }) => `${host} ${port}`);
const ways = (url: string) =>
  candidatesOf(parse(url)).map(
    ({ place, tls, attributes }) => `${place.host} ${tls ? "tls" : "plain"} ${attributes}`,
  );

describe("a connection string", () => {
  it.each<[string, Record<string, string>, string[]]>([
    ["postgres://u:p@h:5433/d", {}, ["h 5433"]],
    ["postgresql://h/d", {}, ["h 5432"]],
    ["postgres://u@h1,h2:5433/db", {}, ["h1 5432", "h2 5433"]],
    ["postgres://u@h1:1,h2:2,[::1]:3/db", {}, ["h1 1", "h2 2", "::1 3"]],
    ["postgres:///db?host=/run/postgresql", {}, ["/run/postgresql 5432"]],
    ["postgres:///db?host=h1,h2&port=1,2", {}, ["h1 1", "h2 2"]],
    ["postgres:///db?host=h1,h2&port=7", {}, ["h1 7", "h2 7"]],
    ["postgres://%2Fvar%2Frun/db", {}, ["/var/run 5432"]],
    ["postgres://", {}, ["localhost 5432"]],
    ["postgres://", { PGHOST: "a,b", PGPORT: "1,2" }, ["a 1", "b 2"]],
    ["postgres:///d", { PGHOST: "/run", PGPORT: "6543" }, ["/run 6543"]],
    ["postgres://h/d", { PGHOST: "other", PGPORT: "6543" }, ["h 6543"]],
  ])("%s names its hosts as libpq reads it", (url, env, expected) => {
    expect(places(url, env)).toEqual(expected);
  });

  it.each([
    ["mysql://u:hunter2@h/d", /postgres:\/\//],
    ["postgres://u:hunter2@h1:1,h2:2:3/d", /host or its port/],
    ["postgres://u:hunter2@h:99999/d", /port must be/],
    ["postgres://u:hunter2@h:x/d", /host or its port/],
    ["postgres://u:hunter2@a,b,c/d?port=1,2", /2 ports for 3 hosts/],
    ["postgres://u:hunter2@h/d?sslmode=maybe", /sslmode must be disable, .* or verify-full/],
    ["postgres://u:hunter2@h/d?target_session_attrs=master", /target_session_attrs must be any/],
    ["postgres://u:hunter2@h/d?sslrootcert=system&sslmode=require", /verify-full/],
    ["postgres://u:hunter2@h/d?sslnegotiation=direct&sslmode=prefer", /sslnegotiation=direct/],
    ["postgres://u:hunter2@h/d?sslcrl=/crl.pem", /sslcrl is not supported/],
    ["postgres://u:hunter2@h%zz/d", /percent sign/],
  ])("%s is a fault whose message does not repeat it", (url, words) => {
    expect(() => parse(url)).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", message: expect.stringMatching(words) }),
    );
    expect(() => parse(url)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining("hunter2") }),
    );
  });

  it("passes user, password, database and other parameters on to node-postgres, for each host", () => {
    const { hosts, urlOf } = parse("postgres://u%40x:p%3A@h1,[::1]:7/d?options=-c%20a%3Db&sslmode=require");
    expect(hosts.map(urlOf)).toEqual([
      "postgres://u%40x:p%3A@h1:5432/d?options=-c%20a%3Db",
      "postgres://u%40x:p%3A@[::1]:7/d?options=-c%20a%3Db",
    ]);
    const socket = parse("postgres://u@/d?host=/run/x");
    expect(socket.hosts.map(socket.urlOf)).toEqual(["postgres://u@localhost:5432/d?host=%2Frun%2Fx"]);
  });

  it.each<[string, Record<string, string>, string]>([
    ["postgres://h/d", {}, "prefer"],
    ["postgres://h/d", { PGSSLMODE: "verify-full" }, "verify-full"],
    ["postgres://h/d?sslmode=disable", { PGSSLMODE: "verify-full" }, "disable"],
    ["postgres://h/d?sslrootcert=system", {}, "verify-full"],
    ["postgres://h/d?sslnegotiation=direct", {}, "require"],
    ["postgres://h/d?ssl=true", {}, "verify-full"],
    ["postgres://h/d?ssl=0", {}, "disable"],
    ["postgres://h/d?sslmode=no-verify", {}, "require"],
  ])("%s with %o asks for TLS by sslmode=%s", (url, env, mode) => {
    expect(parse(url, env).tls.mode).toBe(mode);
  });
});

describe("the addresses of a database", () => {
  it.each([
    ["postgres://a,b/d", ["a tls any", "a plain any", "b tls any", "b plain any"]],
    ["postgres://a/d?sslmode=allow", ["a plain any", "a tls any"]],
    ["postgres://a/d?sslmode=disable", ["a plain any"]],
    ["postgres://a/d?sslmode=verify-ca", ["a tls any"]],
    ["postgres:///d?host=/run&sslmode=verify-full", ["/run plain any"]],
    [
      "postgres://a,b/d?sslmode=require&target_session_attrs=prefer-standby",
      ["a tls standby", "b tls standby", "a tls any", "b tls any"],
    ],
  ])("of %s come in libpq's order", (url, expected) => {
    expect(ways(url)).toEqual(expected);
  });

  it("that failed are skipped for a while, all of a host at once, and come first again afterwards", () => {
    let now = 0;
    const all = candidatesOf(parse("postgres://a,b/d"));
    const candidates = new Candidates(all, () => now);
    const [aTls, aPlain, bTls, bPlain] = all;
    if (!aTls || !aPlain || !bTls || !bPlain) throw new Error("four were expected");
    candidates.failed(aTls, "encryption");
    expect(candidates.next()).toBe(aPlain);
    candidates.failed(aPlain, "host");
    expect(candidates.next()).toBe(bTls);
    candidates.failed(bTls, "host");
    expect(candidates.hasNext).toBe(false);
    now = 1;
    // All have failed: it is the turn of the one that did so first.
    expect([aTls, aPlain]).toContain(candidates.next());
    now = 120_000;
    expect(candidates.next()).toBe(aTls);
    expect(candidates.hasNext).toBe(true);
  });

  it.each([
    ["any", [true, true, true]],
    ["read-write", [true, false, false]],
    ["read-only", [false, true, true]],
    ["primary", [true, true, false]],
    ["standby", [false, false, true]],
  ] as const)(
    "with target_session_attrs %s match a writer, a read-only primary and a standby as libpq would",
    (attributes, expected) => {
      const states = [
        { standby: false, readOnly: false },
        { standby: false, readOnly: true },
        { standby: true, readOnly: true },
      ];
      expect(states.map((state) => matches(attributes, state))).toEqual(expected);
    },
  );
});

describe("the files of TLS", () => {
  const rules: TlsRules = {
    mode: "verify-full",
    rootCert: null,
    cert: null,
    key: null,
    keyPassword: null,
    direct: false,
  };

  it.each<[Partial<TlsRules>, RegExp]>([
    [
      { rootCert: "/no/such/ca.pem" },
      /^sslrootcert: \/no\/such\/ca\.pem does not exist: .*sslrootcert=system/,
    ],
    [{ rootCert: homedir() }, /is a directory/],
    [{ rootCert: import.meta.filename }, /contains no PEM data/],
    [{ cert: "/no/client.crt", key: "/no/client.key" }, /^sslcert: \/no\/client\.crt does not exist/],
    [{ mode: "require", cert: import.meta.filename }, /PEM/],
    [{ mode: "verify-ca" }, /verify-ca needs .*sslrootcert=/],
  ])("%o are a fault with the path and a cure", (more, words) => {
    expect(() => tlsOptions({ ...rules, ...more })).toThrow(
      expect.objectContaining({ code: "CONFIG_INVALID", message: expect.stringMatching(words) }),
    );
  });

  it("verify nothing with require alone, and use Node.js's trusted authorities with verify-full alone", () => {
    expect(tlsOptions({ ...rules, mode: "require" })).toEqual({ rejectUnauthorized: false });
    expect(tlsOptions({ ...rules, mode: "prefer" })).toEqual({ rejectUnauthorized: false });
    expect(tlsOptions(rules)).toEqual({});
  });
});
