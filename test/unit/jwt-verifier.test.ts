import { describe, expect, it } from "vitest";
import type { Tenant } from "../../src/tenants/tenant.ts";
import {
  codeOf,
  ec,
  ed,
  facts,
  identities,
  pem,
  rsa,
  seconds,
  secret,
  settingsOf,
  tenant,
  token,
  unsigned,
} from "../support/tokens.ts";

describe("a JWT is refused", () => {
  const invalid = async (of: Tenant, text: string): Promise<void> => {
    expect(await codeOf(identities.settings(of, facts(`Bearer ${text}`)))).toBe("TOKEN_INVALID");
  };

  it.each(["none", "None", "NONE", "nOnE"])("with the algorithm %s, signed or not", async (alg) => {
    await invalid(tenant(), unsigned({ alg }, { aud: "acme" }));
    const good = await token({});
    await invalid(tenant(), unsigned({ alg }, { aud: "acme" }, good.split(".")[2]));
  });

  it("if a public key is used as a secret", async () => {
    const asymmetric = tenant({ jwt: { publicKey: pem(rsa.publicKey) } });
    for (const key of [pem(rsa.publicKey), pem(rsa.publicKey).trim()]) {
      for (const alg of ["HS256", "HS384", "HS512"]) {
        await invalid(asymmetric, await token({}, { key: Buffer.from(key), header: { alg } }));
      }
    }
    expect(
      await codeOf(settingsOf(asymmetric, {}, { key: rsa.privateKey, header: { alg: "RS256" } })),
    ).toMatch(/^accepted/);
  });

  it("if it brings its own key, or says where to find one", async () => {
    const jwk = ec.publicKey.export({ format: "jwk" });
    for (const header of [
      { jwk },
      { jku: "http://127.0.0.1:1/keys" },
      { kid: "../../etc/passwd" },
      { kid: "' or 1=1 --" },
    ]) {
      await invalid(tenant(), await token({}, { key: ec.privateKey, header: { ...header, alg: "ES256" } }));
    }
    const asymmetric = tenant({ jwt: { publicKey: pem(ed.publicKey) } });
    await invalid(asymmetric, await token({}, { key: ec.privateKey, header: { jwk, alg: "ES256" } }));
  });

  it("if it is malformed or has been changed", async () => {
    const good = await token({ role: "acme_user" });
    const [header, , signature] = good.split(".");
    const forged = Buffer.from(JSON.stringify({ aud: "acme", role: "acme_admin" })).toString("base64url");
    for (const text of [
      "x",
      "a.b.c",
      "...",
      `${header}.${forged}.${signature}`,
      `${good}x`,
      good.slice(0, -2),
    ]) {
      await invalid(tenant(), text);
    }
  });

  it("with a critical extension that is not understood", async () => {
    await invalid(tenant(), unsigned({ alg: "HS256", crit: ["exp"], exp: 1 }, { aud: "acme" }, "x"));
  });

  it("from another issuer, before its time, or with a malformed time", async () => {
    const issued = tenant({ jwt: { secret, issuer: ["https://a.example", "https://b.example"] } });
    expect(await codeOf(settingsOf(issued, { iss: "https://b.example" }))).toMatch(/^accepted/);
    for (const claims of [{}, { iss: "https://c.example" }, { iss: ["https://a.example"] }]) {
      expect(await codeOf(settingsOf(issued, claims))).toBe("TOKEN_INVALID");
    }
    for (const claims of [{ nbf: seconds(60) }, { exp: "tomorrow" }, { nbf: "yesterday" }, { exp: null }]) {
      expect(await codeOf(settingsOf(tenant(), claims))).toBe("TOKEN_INVALID");
    }
  });
});

describe("a token's lifetime", () => {
  it("ends one second after its expiry, unless the tenant tolerates more", async () => {
    const over = { exp: seconds(-1) };
    expect(await codeOf(settingsOf(tenant(), over))).toBe("TOKEN_EXPIRED");
    const patient = tenant({ jwt: { secret, clockTolerance: "10s" } });
    expect(await codeOf(settingsOf(patient, over))).toMatch(/^accepted/);
    expect(await codeOf(settingsOf(patient, { exp: seconds(-20) }))).toBe("TOKEN_EXPIRED");
    expect(await codeOf(settingsOf(patient, { nbf: seconds(5) }))).toMatch(/^accepted/);
  });
});
