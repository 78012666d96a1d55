/** The messages and close codes of graphql-ws. */
import { z } from "zod";
import type { HostError } from "../../shared/kernel/errors.ts";

const object = z.looseObject({});
const message = z.discriminatedUnion("type", [
  z.object({ type: z.literal("connection_init"), payload: object.nullish() }),
  z.object({ type: z.literal("ping"), payload: object.nullish() }),
  z.object({ type: z.literal("pong"), payload: object.nullish() }),
  z.object({
    type: z.literal("subscribe"),
    id: z.string().min(1).max(256),
    payload: z.looseObject({ query: z.string() }),
  }),
  z.object({ type: z.literal("complete"), id: z.string() }),
]);
export type Message = z.output<typeof message>;

/** Why a socket is closed. The official client subscribes again after 4403, 4408 and the 1xxx here, and gives up after the others. */
export const closeCodes = {
  badRequest: 4400,
  unauthorized: 4401,
  expired: 4403,
  initTimeout: 4408,
  idInUse: 4409,
  initTwice: 4429,
  goingAway: 1001,
  restart: 1012,
  tryAgain: 1013,
} as const;

export const nextMessage = (name: string, body: string): string =>
  `{"id":${name},"type":"next","payload":${body}}`;

/** The close code for a client that is refused. */
export function refusalCode({ code, retryable, status }: HostError): number {
  if (code === "TOKEN_EXPIRED") return closeCodes.expired;
  if (retryable) return closeCodes.tryAgain;
  return status === 400 ? closeCodes.badRequest : closeCodes.unauthorized;
}

/** The errors of a response without data. */
export function errorMessage(name: string, body: string): string {
  const { errors } = z.object({ errors: z.array(z.unknown()) }).parse(JSON.parse(body));
  return `{"id":${name},"type":"error","payload":${JSON.stringify(errors)}}`;
}

/** Null if it is no message of the protocol. */
export function parseMessage(text: string): Message | null {
  try {
    return message.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
