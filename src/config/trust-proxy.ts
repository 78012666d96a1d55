/** Which proxies in front are trusted to report a client's address. */
import { isIP } from "node:net";
import proxyAddr from "proxy-addr";

/**
 * False: none. True: any. A number: that many in a row, the nearest first. A list: addresses, networks, and
 * names of networks.
 */
export type TrustProxy = boolean | number | readonly string[];

/** Names that stand for networks. */
const names: ReadonlySet<string> = new Set(["loopback", "linklocal", "uniquelocal"]);

/** Whether `entry` is valid in a list of trusted proxies. */
export function isProxyEntry(entry: string): boolean {
  // The library reads "1" as 0.0.0.1, but it was probably meant as a number of proxies.
  if (!names.has(entry) && isIP(entry.split("/", 1)[0] ?? "") === 0) return false;
  try {
    proxyAddr.compile(entry);
    return true;
  } catch {
    return false;
  }
}
