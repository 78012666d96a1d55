/** Which languages a request wants, the best first. */
import Negotiator from "negotiator";
import type { TenantRequest } from "../plugin-api/request.ts";

/** Browsers send three to six; what comes after these is not looked at. */
const maxCandidates = 12;
const maxHeaderLength = 512;

export interface LocaleOptions {
  /** A setting of the request, such as a claim, that goes before `Accept-Language`. */
  readonly setting?: string | undefined;
  /** Tried when none of the request's has a translation. */
  readonly fallback?: string | undefined;
}

/**
 * Locales to look for, in order, in their canonical form: each one that the request wants, followed by what remains
 * of it when its last parts are left out (`de-AT`, `de`), as RFC 4647 looks them up. What is no language tag is left out.
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
    // A single letter only announces the part that was just left out.
    if (parts[length - 1]?.length !== 1) all.push(parts.slice(0, length).join("-"));
  }
  return all;
}

/** Undefined where `text` is no language tag: `*`, and whatever else clients make up. */
function canonical(text: string): string | undefined {
  try {
    return Intl.getCanonicalLocales(text)[0];
  } catch {
    return undefined;
  }
}
