/** What a test sends to a host, and what comes back. */
import type { Whose } from "./sentinel.ts";

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface GraphqlError {
  readonly message: string;
  readonly extensions?: { readonly code?: string; readonly requestId?: string };
  readonly path?: readonly string[];
}

export interface GraphqlAnswer extends HttpAnswer {
  // biome-ignore lint/suspicious/noExplicitAny: an answer is what the query made it.
  readonly data: any;
  readonly errors: readonly GraphqlError[] | undefined;
  /** The code of the first error. */
  readonly code: string | undefined;
}

export interface SendOptions {
  readonly method?: "GET" | "POST" | "PUT";
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  /** The tenant that the answer belongs to, if the request does not name it. */
  readonly tenant?: Whose;
}
