import { describe, expect, it } from "vitest";
import { renderFailure, renderRawFailure } from "../../src/http/error-response.ts";
import { type ErrorCode, errorTable, HostError } from "../../src/shared/kernel/errors.ts";

const codes = Object.keys(errorTable) as ErrorCode[];

describe("a failure", () => {
  it.each(codes)("%s is JSON with its code and public text, and never its cause", (code) => {
    const error = new HostError(code, undefined, { cause: new Error("inner detail") });
    const { status, headers, body } = renderFailure(error, "r1");
    expect(status).toBe(errorTable[code].status);
    expect(headers["content-type"]).toBe("application/json; charset=utf-8");
    expect(headers["content-length"]).toBe(String(Buffer.byteLength(body)));
    expect(body).not.toContain("inner detail");
    const requestId = status >= 500 ? { requestId: "r1" } : {};
    expect(JSON.parse(body)).toEqual({
      errors: [{ message: error.publicText, extensions: { code, ...requestId } }],
    });
  });

  it.each(codes)("%s says when to retry exactly if a retry may help", (code) => {
    const seconds = renderFailure(new HostError(code), null).headers["retry-after"];
    if (errorTable[code].retryable) expect(Number(seconds)).toBeGreaterThanOrEqual(1);
    else expect(seconds).toBeUndefined();
    expect(errorTable[code].status === 503).toBe(errorTable[code].retryable);
  });

  it.each(codes.filter((code) => errorTable[code].status === 401))(
    "%s names the scheme to authenticate with",
    (code) => {
      expect(renderFailure(new HostError(code), null).headers["www-authenticate"]).toMatch(/^Bearer/);
    },
  );

  it("does not show the log's message if there is a public text", () => {
    const { body } = renderFailure(new HostError("INTERNAL", "column of secret_table"), null);
    expect(body).not.toContain("secret_table");
  });

  it("before a request was complete is one whole answer that ends the connection", () => {
    const [head, body] = renderRawFailure(new HostError("DEADLINE")).split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
    expect(head).toContain("connection: close");
    expect(head).toContain(`content-length: ${body?.length}`);
  });
});
