/** Whose word is taken for a client's address: the proxies that the config trusts. */
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import proxyAddr from "proxy-addr";
import type { TrustProxy } from "../config/trust-proxy.ts";

/** Longer than any chain of proxies that is meant: what a client has put into the header is not read at any length. */
const maxCharacters = 1_000;
/** As some balancers write an address: with the client's port. */
const withPort = /^(?:(\d+\.\d+\.\d+\.\d+):\d{1,5}|\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?)$/;

export class Proxies {
  readonly #trusts: (address: string, hop: number) => boolean;

  constructor(trust: TrustProxy) {
    if (typeof trust === "boolean") this.#trusts = () => trust;
    else if (typeof trust === "number") this.#trusts = (_, hop) => hop < trust;
    else this.#trusts = proxyAddr.compile([...trust]);
  }

  /** Whether `address`, at the other end of a connection, is a trusted proxy's. */
  isProxy(address: string): boolean {
    return this.#trusts(address, 0);
  }

  /**
   * The address of the client for whom a proxy has sent `incoming`: of those in `X-Forwarded-For` and the connection's own the first,
   * from the near end, that is no trusted proxy's. Null where that is no IP address, or the header is too long to be read.
   */
  clientOf(incoming: IncomingMessage): string | null {
    const forwarded = incoming.headers["x-forwarded-for"] ?? "";
    if (forwarded.length > maxCharacters || incoming.socket.remoteAddress === undefined) return null;
    const named = proxyAddr(incoming, this.#trusts);
    const [, v4, v6] = withPort.exec(named) ?? [];
    const address = v4 ?? v6 ?? named;
    return isIP(address) === 0 ? null : address;
  }
}
