import { describe, expect, it } from "vitest";
import { type LocaleOptions, localesOf } from "../../workers/plugins/locales.ts";

const locales = (header: string, options: LocaleOptions = {}, settings: Record<string, string> = {}) =>
  localesOf({ headers: { "accept-language": header }, settings }, options);

describe("the locales of a request", () => {
  it.each<[string, string[]]>([
    ["de", ["de"]],
    ["de-at, en;q=0.5", ["de-AT", "de", "en"]],
    ["en;q=0.5, de-AT;q=0.9", ["de-AT", "de", "en"]],
    ["zh-hant-tw", ["zh-Hant-TW", "zh-Hant", "zh"]],
    ["de-a-foo-x-bar", ["de-a-foo-x-bar", "de-a-foo", "de"]],
    ["de-AT, de, de-DE", ["de-AT", "de", "de-DE"]],
    ["*, fr;q=0", []],
    ["de_AT, en", ["en"]],
    ["", []],
  ])("in %j are %j", (header, expected) => {
    expect(locales(header)).toEqual(expected);
  });

  it("come from the setting if it has a value, and end in the fallback", () => {
    const options = { setting: "jwt.claims.locale", fallback: "en-GB" };
    expect(locales("fr", options, { "jwt.claims.locale": "de-CH" })).toEqual(["de-CH", "de", "en-GB", "en"]);
    expect(locales("fr", options, { "jwt.claims.locale": "" })).toEqual(["fr", "en-GB", "en"]);
    expect(locales("fr", options)).toEqual(["fr", "en-GB", "en"]);
  });

  it("are few, however many are requested, and include the fallback", () => {
    const many = Array.from({ length: 26 }, (_, n) => `${String.fromCharCode(97 + n)}a-DE`).join(",");
    const found = locales(many, { fallback: "en" });
    expect(found.length).toBeLessThan(15);
    expect(found.at(-1)).toBe("en");
  });
});
