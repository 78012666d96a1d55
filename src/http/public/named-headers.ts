/** The request headers and cookies that the config passes on to presets. */
import type { IncomingMessage } from "node:http";
import { headerNamesOf, requestHeadersOf } from "../../config/request-headers.ts";
import { HostError } from "../../shared/kernel/errors.ts";
import { isSingle } from "../request-head.ts";

/** Browsers do not store longer cookies. */
const maxCharacters = 4_096;
const maxInAll = 8_192;

const badRequest = (message: string): HostError => new HostError("BAD_REQUEST", message);

export class NamedHeaders {
  readonly #headers: readonly string[];
  readonly #cookies: ReadonlySet<string>;
  /** The `Vary` header for caches between here and the client; null if nothing is named. */
  readonly vary: string | null;

  /** Takes the config's list. */
  constructor(entries: readonly string[]) {
    const { headers, cookies } = requestHeadersOf(entries);
    this.#headers = headers;
    this.#cookies = new Set(cookies);
    const names = headerNamesOf(entries);
    this.vary = names.length === 0 ? null : names.join(", ");
  }

  /**
   * Copies the named headers of `incoming` into `picked`, and the named cookies as a Cookie header without any others. Throws `BAD_REQUEST`
   * for a header that was sent more than once, because the next reader may choose another of its values, for a cookie with two values,
   * and for what is too long.
   */
  pick(incoming: IncomingMessage, picked: Record<string, string>): void {
    if (this.vary === null) return;
    let length = 0;
    const take = (name: string, value: string): void => {
      length += value.length;
      if (length > maxInAll) throw badRequest(`The headers up to ${name} are too long.`);
      picked[name] = value;
    };
    for (const name of this.#headers) {
      const value = Object.hasOwn(incoming.headers, name) ? incoming.headers[name] : undefined;
      if (value === undefined) continue;
      if (typeof value !== "string" || !isSingle(incoming.rawHeaders, name)) {
        throw badRequest(`More than one ${name} header.`);
      }
      if (value.length > maxCharacters) {
        throw badRequest(`The ${name} header is longer than ${maxCharacters} characters.`);
      }
      // Headers that every cell gets have been copied already.
      if (!Object.hasOwn(picked, name)) take(name, value);
    }
    const { cookie } = incoming.headers;
    if (this.#cookies.size === 0 || cookie === undefined) return;
    const named = this.#namedCookies(cookie);
    if (named !== "") take("cookie", named);
  }

  #namedCookies(header: string): string {
    const found = new Map<string, string>();
    for (const pair of header.split(";")) {
      const at = pair.indexOf("=");
      const name = at === -1 ? "" : pair.slice(0, at).trim();
      if (!this.#cookies.has(name)) continue;
      const value = pair.slice(at + 1).trim();
      if (value.length > maxCharacters) {
        throw badRequest(`The cookie ${name} is longer than ${maxCharacters} characters.`);
      }
      const before = found.get(name);
      if (before !== undefined && before !== value) throw badRequest(`The cookie ${name} has two values.`);
      found.set(name, value);
    }
    return [...found].map(([name, value]) => `${name}=${value}`).join("; ");
  }
}

/** Adds `names` to the Vary header of an answer. */
export function varyBy(headers: Record<string, string>, names: string): void {
  const before = headers["vary"];
  if (before === undefined || before === "") headers["vary"] = names;
  else if (before.trim() !== "*") headers["vary"] = `${before}, ${names}`;
}
