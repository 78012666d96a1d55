/** What an answer means for whoever subscribed to its operation. */
import { hash } from "node:crypto";
import { discardBody } from "../shared/protocol/body-stream.ts";
import { type FeedReport, feedHeader } from "../shared/protocol/events.ts";
import { type Answer, liveHeader } from "../shared/protocol/messages.ts";

export interface LiveResult {
  /** The JSON of a GraphQL response, in one line; of a `Subscription` operation any number of lines. */
  readonly body: string;
  /** Differs where bodies do. A subscription keeps this one instead: results may have megabytes. */
  readonly digest: string;
  /** Whether the request was refused; the body has errors and no data. */
  readonly refused: boolean;
  /** Null if the operation is not live; 0 if it runs for events only. */
  readonly refreshMs: number | null;
  /** Of a `Subscription` operation. */
  readonly feed: FeedReport | null;
}

const refusal = JSON.stringify({
  errors: [
    { message: "@defer and @stream cannot be used in a subscription.", extensions: { code: "BAD_REQUEST" } },
  ],
});

export function liveResult(answer: Answer): LiveResult {
  if (answer.kind === "stream") {
    discardBody(answer.port);
    return { body: refusal, digest: digestOf(refusal), refused: true, refreshMs: null, feed: null };
  }
  const { status, headers } = answer;
  const body = answer.kind === "text" ? answer.body : new TextDecoder().decode(answer.body);
  const refresh = headers[liveHeader];
  const refused = status >= 400;
  const refreshMs = refresh === undefined || refused ? null : 1_000 * Number(refresh);
  const report = headers[feedHeader];
  const feed = report === undefined ? null : JSON.parse(report);
  return { body, digest: digestOf(body), refused, refreshMs, feed };
}

const digestOf = (body: string): string => hash("sha256", body, "base64url");
