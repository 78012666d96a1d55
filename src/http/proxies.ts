/** The proxies that the config trusts to report a client's address. */
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import proxyAddr from "proxy-addr";
import type { TrustProxy } from "../config/trust-proxy.ts";

/** Longer than any real chain of proxies. Clients write into this header too, so its length must be bounded before it is parsed. */
const maxCharacters = 1_000;
/** Some load balancers append the client's port. */
const withPort = /^(?:(\d+\.\d+\.\d+\.\d+):\d{1,5}|\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?)$/;

export class Proxies {
  readonly #trusts: (address: string, hop: number) => boolean;

  constructor(trust: TrustProxy) {
    if (typeof trust === "boolean") this.#trusts = () => trust;
    else if (typeof trust === "number") this.#trusts = (_, hop) => hop < trust;
    else this.#trusts = proxyAddr.compile([...trust]);
  }

  /** Whether `address`, the remote end of a connection, is a trusted proxy's. */
  isProxy(address: string): boolean {
    return this.#trusts(address, 0);
  }

  /**
   * The address of the client for which a proxy has sent `incoming`: starting from the connection's own address and going back through
   * `X-Forwarded-For`, the first that is not a trusted proxy's. Null if that is not an IP address, or if the header is too long.
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
