/** Determines which languages a request wants, best first. */
import Negotiator from "negotiator";
import type { TenantRequest } from "../plugin-api/request.ts";

/** Browsers send three to six; further ones are ignored. */
const maxCandidates = 12;
const maxHeaderLength = 512;

export interface LocaleOptions {
  /** A setting of the request, such as a claim, that takes precedence over `Accept-Language`. */
  readonly setting?: string | undefined;
  /** Tried if none of the request's languages has a translation. */
  readonly fallback?: string | undefined;
}

/**
 * The locales to look for, in order and in canonical form: each one that the request wants, followed by its truncations (`de-AT`,
 * `de`), as in the lookup of RFC 4647. Invalid language tags are left out.
 */
export function localesOf(
  { settings, headers }: Pick<TenantRequest, "settings" | "headers">,
  { setting, fallback }: LocaleOptions,
): string[] {
  const chosen = setting === undefined ? undefined : settings[setting];
  const header = (headers["accept-language"] ?? "").slice(0, maxHeaderLength);
  const wanted = chosen ? [chosen] : new Negotiator({ headers: { "accept-language": header } }).languages();
  const candidates = new Set<string>();
  for (const text of fallback === undefined ? wanted : [...wanted, fallback]) {
    for (const locale of truncations(text)) {
      if (candidates.size < maxCandidates || text === fallback) candidates.add(locale);
    }
  }
  return [...candidates];
}

function truncations(text: string): string[] {
  const whole = canonical(text);
  if (whole === undefined) return [];
  const parts = whole.split("-");
  const all: string[] = [];
  for (let length = parts.length; length > 0; length -= 1) {
    // A single letter only introduces the part that was just removed.
    if (parts[length - 1]?.length !== 1) all.push(parts.slice(0, length).join("-"));
  }
  return all;
}

/** The canonical form of `text`, or undefined if it is no language tag, such as `*`. */
function canonical(text: string): string | undefined {
  try {
    return Intl.getCanonicalLocales(text)[0];
  } catch {
    return undefined;
  }
}
