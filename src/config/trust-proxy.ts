/** The proxies in front whose word is taken for a client's address. */
import { isIP } from "node:net";
import proxyAddr from "proxy-addr";

/** False: none. True: whoever connects. A number: so many of them in a row, the nearest first. A list: addresses, networks, and names of such. */
export type TrustProxy = boolean | number | readonly string[];

/** Names that stand for networks. */
const names: ReadonlySet<string> = new Set(["loopback", "linklocal", "uniquelocal"]);

/** Whether `entry` can stand in a list of trusted proxies. */
export function isProxyEntry(entry: string): boolean {
  // The library takes "1" for 0.0.0.1: more likely it was meant as a number of proxies.
  if (!names.has(entry) && isIP(entry.split("/", 1)[0] ?? "") === 0) return false;
  try {
    proxyAddr.compile(entry);
    return true;
  } catch {
    return false;
  }
}
