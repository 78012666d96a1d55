import { describe, expect, it } from "vitest";
import { hostileHost, outcomes } from "../../support/hostile-host.ts";

const hostile = hostileHost();

const crlf = "\r\n";
const lines = (...parts: string[]): string => parts.join(crlf);
const query = '{"query":"{ sameLabel(given: \\"canary_acme wire\\") }"}';
const own = "200";
const bad = "400 BAD_REQUEST";

/** A mutation that would leave a row if it were ever taken for a request. */
const mutation = `{"query":"mutation { addItem(input: { label: \\"smuggled\\", mood: calm }) { result { rowId } } }"}`;
const smuggled = lines(
  "POST /graphql HTTP/1.1",
  "Host: globex.example",
  "Content-Type: application/json",
  `Content-Length: ${mutation.length}`,
  "Connection: close",
  "",
  mutation,
);

const head = (...more: string[]): string =>
  lines("POST /graphql HTTP/1.1", "Host: acme.example", "Content-Type: application/json", ...more, "", "");
const length = `Content-Length: ${query.length}`;
const close = "Connection: close";
const chunked = "Transfer-Encoding: chunked";
const chunk = (text: string, extension = ""): string =>
  `${text.length.toString(16)}${extension}${crlf}${text}${crlf}`;
const end = `0${crlf}${crlf}`;

describe("a connection that carries", () => {
  it.each<[string, string, string[]]>([
    ["one request", head(length, close) + query, [own]],
    ["one chunked request", head(chunked, close) + chunk(query) + end, [own]],
    ["two requests in one write", head(length) + query + head(length, close) + query, [own, own]],
    ["a length and chunks", head(length, chunked) + chunk(query) + end + smuggled, [bad]],
    ["chunks and a length", head(chunked, length) + chunk(query) + end + smuggled, [bad]],
    ["chunks and a length of nothing", head(chunked, "Content-Length: 0") + end + smuggled, [bad]],
    [
      "two lengths",
      head(length, `Content-Length: ${query.length + smuggled.length}`) + query + smuggled,
      [bad],
    ],
    ["one length twice", head(length, length) + query + smuggled, [bad]],
    ["a list of lengths", head(`Content-Length: ${query.length}, ${query.length}`) + query + smuggled, [bad]],
    ["a length with a sign", head(`Content-Length: +${query.length}`) + query + smuggled, [bad]],
    ["a negative length", head("Content-Length: -1") + query + smuggled, [bad]],
    [
      "a length in hexadecimal",
      head(`Content-Length: 0x${query.length.toString(16)}`) + query + smuggled,
      [bad],
    ],
    ["a length with a decimal point", head(`Content-Length: ${query.length}.0`) + query + smuggled, [bad]],
    ["a length with a space in it", head("Content-Length: 4 2") + query + smuggled, [bad]],
    ["a length out of range", head(`Content-Length: ${"9".repeat(40)}`) + query, [bad]],
    ["an empty length", head("Content-Length:") + query + smuggled, [bad]],
    ["a length in UTF-8 digits", head("Content-Length: \xef\xbc\x94\xef\xbc\x92") + query, [bad]],
    ["a header name with a space", head(`Content-Length : ${query.length}`) + query + smuggled, [bad]],
    ["a header name with a tab", head(`Transfer-Encoding\t: chunked`) + chunk(query) + end + smuggled, [bad]],
    ["a header name with a NUL", head(`Content-Length\0: ${query.length}`) + query + smuggled, [bad]],
    ["an unknown encoding", head("Transfer-Encoding: xchunked") + chunk(query) + end + smuggled, [bad]],
    ["identity", head("Transfer-Encoding: identity", length) + query + smuggled, [bad]],
    ["chunked, then gzip", head("Transfer-Encoding: chunked, gzip") + chunk(query) + end + smuggled, [bad]],
    [
      "chunked on the next line",
      head("Transfer-Encoding:", " chunked") + chunk(query) + end + smuggled,
      [bad],
    ],
    ["two encodings", head(chunked, "Transfer-Encoding: identity") + chunk(query) + end + smuggled, [bad]],
    ["chunked in quotes", head('Transfer-Encoding: "chunked"') + chunk(query) + end + smuggled, [bad]],
    ["chunked after a vertical tab", head("Transfer-Encoding: \x0bchunked") + chunk(query) + end, [bad]],
    ["a folded header", head("X-Long: a", "  b", length, close) + query, [bad]],
    ["a folded length", head("Content-Length:", ` ${query.length}`) + query + smuggled, [bad]],
    ["a header without a colon", head("Nonsense", length) + query + smuggled, [bad]],
    ["a header without a name", head(": value", length) + query + smuggled, [bad]],
    ["a bare LF after a header", `${head(length).replace(crlf, "\n")}${query}${smuggled}`, [bad]],
    ["bare LFs throughout", head(length).replaceAll(crlf, "\n") + query + smuggled, [bad]],
    ["a bare CR in a header", head(`X-A: b\rX-Tenant: globex`, length) + query, [bad]],
    ["a NUL in a header", head("X-A: b\0c", length) + query, [bad]],
    ["a space before the method", ` ${head(length)}${query}`, [bad]],
    ["blank lines before the method", `${crlf}${crlf}${head(length, close)}${query}`, [own]],
    ["two spaces in the request line", head(length, close).replace("/graphql ", "/graphql  ") + query, [own]],
    ["a tab in the request line", head(length).replace(" /graphql", "\t/graphql") + query, [bad]],
    ["no version", head(length).replace(" HTTP/1.1", "") + query, [bad]],
    ["HTTP/0.9", `GET /graphql${crlf}${crlf}`, [bad]],
    ["HTTP/1.2", head(length, close).replace("HTTP/1.1", "HTTP/1.2") + query, [bad]],
    ["HTTP/2's preface", `PRI * HTTP/2.0${crlf}${crlf}SM${crlf}${crlf}`, [bad]],
    ["TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [bad]],
    ["an unknown method", head(length).replace("POST", "BREW") + query, [bad]],
    ["CONNECT", lines("CONNECT globex.example:80 HTTP/1.1", "Host: acme.example", "", ""), [bad]],
    ["a chunk's length with a sign", `${head(chunked)}+${chunk(query)}${end}${smuggled}`, [bad]],
    ["a chunk's length with 0x", `${head(chunked)}0x${chunk(query)}${end}${smuggled}`, [bad]],
    ["a chunk's length out of range", `${head(chunked)}${"f".repeat(20)}${crlf}${query}`, [bad]],
    ["a chunk without length", `${head(chunked)}${crlf}${query}${crlf}${end}${smuggled}`, [bad]],
    ["a chunk longer than it says", `${head(chunked)}5${crlf}${query}${crlf}${end}${smuggled}`, [bad]],
    ["a chunk with a bare LF", `${head(chunked)}${chunk(query).replace(crlf, "\n")}${end}${smuggled}`, [bad]],
    ["a chunk ended by a bare CR", `${head(chunked)}${chunk(query).slice(0, -1)}X${end}${smuggled}`, [bad]],
    ["a chunk's extension", head(chunked, close) + chunk(query, ";a=b") + end, [own]],
    ["a chunk's extension with a bare LF", head(chunked) + chunk(query, ";a=\nb") + end + smuggled, [bad]],
    ["twenty kilobytes of extensions", head(chunked) + chunk(query, `;${"a".repeat(20_000)}`) + end, [bad]],
    ["trailers", `${head(chunked, close)}${chunk(query)}0${crlf}X-Tenant: globex${crlf}${crlf}`, [own]],
    [
      "a trailer that is a length",
      `${head(chunked, close)}${chunk(query)}0${crlf}Content-Length: 5${crlf}${crlf}`,
      [bad],
    ],
    [
      "three thousand headers",
      head(...Array.from({ length: 3_000 }, (_, n) => `a${n}: b`), length) + query,
      [bad],
    ],
    ["a header of twenty kilobytes", head(`X-Long: ${"a".repeat(20_000)}`, length) + query, [bad]],
    ["garbage after a request", `${head(length)}${query}\x00\x01\x02${smuggled}`, [own]],
    [
      "a request in a GET's body",
      `${lines("GET /graphql HTTP/1.1", "Host: acme.example", `Content-Length: ${smuggled.length}`, "", "")}${smuggled}`,
      [bad],
    ],
    [
      "a request after a body that is too large",
      `${head("Content-Length: 2000000")}${smuggled}`,
      ["413 BODY_TOO_LARGE"],
    ],
    [
      "a request with an upgrade",
      `${head(length, "Connection: Upgrade, close", "Upgrade: websocket")}${query}`,
      [own],
    ],
    ["nothing but a blank line", `${crlf}${crlf}${crlf}x${crlf}${crlf}`, [bad]],
  ])("%s gets exactly the expected answers", async (_, text, expected) => {
    const received = await hostile.at.host.raw(text, "acme");
    expect(outcomes(received)).toEqual(expected);
    expect(received).not.toContain("rowId");
  });
});

describe("a request's head", () => {
  it("may have as many headers as fit, and the last of them is read like the first", async () => {
    const many = Array.from({ length: 900 }, (_, n) => `a${n}: b`);
    expect(outcomes(await hostile.at.host.raw(head(...many, length, close) + query, "acme"))).toEqual([own]);
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
