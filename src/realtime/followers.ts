/** Reads the events themselves, once for all who follow their topics. */
import type { TopicEvent } from "../shared/protocol/events.ts";
import { type EventDatabase, readPage, type Span, type Topic } from "./event-table.ts";

interface Follower {
  readonly topics: readonly Topic[];
  readonly hear: (events: readonly TopicEvent[]) => void;
  gone: boolean;
}

/** A span that is being read for those who followed when it was polled. */
export interface Reading {
  readonly span: Span;
  readonly followers: readonly Follower[];
  readonly topics: readonly Topic[];
  readonly byTopic: ReadonlyMap<string, readonly Follower[]>;
  /** The last event that they have heard. */
  after: string;
}

const keyOf = (schema: string, topic: string): string => `${schema}\0${topic}`;

export class Followers {
  readonly #database: EventDatabase;
  readonly #bySchema = new Map<string, Set<Follower>>();

  constructor(database: EventDatabase) {
    this.#database = database;
  }

  add(topics: readonly Topic[], hear: Follower["hear"]): () => void {
    const follower: Follower = { topics, hear, gone: false };
    const schemas = new Set(topics.map(({ schema }) => schema));
    for (const schema of schemas) {
      const followers = this.#bySchema.get(schema) ?? new Set();
      followers.add(follower);
      this.#bySchema.set(schema, followers);
    }
    return () => {
      follower.gone = true;
      for (const schema of schemas) {
        const followers = this.#bySchema.get(schema);
        followers?.delete(follower);
        if (followers?.size === 0) this.#bySchema.delete(schema);
      }
    };
  }

  /** What is to be read of a span in which these schemas have events; null if nobody follows them. */
  begin(span: Span, schemas: readonly string[]): Reading | null {
    const followers = [...new Set(schemas.flatMap((schema) => [...(this.#bySchema.get(schema) ?? [])]))];
    if (followers.length === 0) return null;
    const topics = followers.flatMap((each) => each.topics);
    return { span, followers, topics, byTopic: indexed(followers), after: "0" };
  }

  /** Reads on to the end of the span. After a failure it can be called again: nobody hears an event twice. */
  async read(reading: Reading | null): Promise<void> {
    if (reading === null) return;
    const { topics, byTopic } = reading;
    while (reading.followers.some(({ gone }) => !gone)) {
      const { events, after } = await readPage(this.#database, reading.span, topics, reading.after);
      const heard = new Map<Follower, TopicEvent[]>();
      for (const event of events) {
        for (const follower of byTopic.get(keyOf(event[0], event[1])) ?? []) {
          const own = heard.get(follower);
          if (own === undefined) heard.set(follower, [event]);
          else own.push(event);
        }
      }
      for (const [follower, own] of heard) if (!follower.gone) follower.hear(own);
      if (after === null) return;
      reading.after = after;
    }
  }
}

function indexed(followers: readonly Follower[]): Map<string, Follower[]> {
  const byTopic = new Map<string, Follower[]>();
  for (const follower of followers) {
    for (const { schema, topic } of follower.topics) {
      const key = keyOf(schema, topic);
      const others = byTopic.get(key);
      if (others === undefined) byTopic.set(key, [follower]);
      else others.push(follower);
    }
  }
  return byTopic;
}

/** The events of these topics in a span; null if there are more of them, or of their payloads' characters. */
export async function readAll(
  database: EventDatabase,
  span: Span,
  topics: readonly Topic[],
  most: { readonly events: number; readonly characters: number },
): Promise<readonly TopicEvent[] | null> {
  const wanted = new Set(topics.map(({ schema, topic }) => keyOf(schema, topic)));
  const found: TopicEvent[] = [];
  let characters = 0;
  for (let after: string | null = "0"; after !== null; ) {
    const page = await readPage(database, span, topics, after);
    for (const event of page.events) {
      if (!wanted.has(keyOf(event[0], event[1]))) continue;
      found.push(event);
      characters += event[2].length;
    }
    if (found.length > most.events || characters > most.characters) return null;
    after = page.after;
  }
  return found;
}
