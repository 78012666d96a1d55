/** A server of key sets that a test controls: up or down, slow, too large, elsewhere. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { SignJWT } from "jose";

export interface KeyServer {
  readonly url: string;
  /** The number of requests by path. */
  readonly asked: Map<string, number>;
  /** The answer by path. */
  readonly answers: Map<string, (response: ServerResponse) => void>;
  close(): Promise<void>;
}

export async function keyServer(): Promise<KeyServer> {
  const asked = new Map<string, number>();
  const answers = new Map<string, (response: ServerResponse) => void>();
  const server = createServer(({ url = "" }, response) => {
    asked.set(url, (asked.get(url) ?? 0) + 1);
    const answer = answers.get(url);
    if (answer === undefined) response.writeHead(404).end();
    else answer(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    asked,
    answers,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

export interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly jwk: object;
}

export function signingKey(kid: string): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig" } };
}

export const keySet =
  (...keys: readonly SigningKey[]) =>
  (response: ServerResponse): void => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }));
  };

export const signedBy = (
  { kid, privateKey }: Pick<SigningKey, "kid" | "privateKey">,
  claims: Record<string, unknown>,
): Promise<string> => new SignJWT(claims).setProtectedHeader({ alg: "ES256", kid }).sign(privateKey);
