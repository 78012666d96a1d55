/** Events on their way to a subscriber's operation, as JSON in the headers of its request and answer. */

/** A schema in PostgreSQL, a topic and its payload. */
export type TopicEvent = readonly [schema: string, topic: string, payload: string];

/** In the request of a subscriber: JSON of the TopicEvents that a `Subscription` operation is to be given, if there are any. */
export const eventsHeader = "rowhouse-events";

/** In the answer to a `Subscription` operation: JSON of a FeedReport. The body has its results, one a line. */
export const feedHeader = "rowhouse-feed";

export interface FeedReport {
  /** What the operation listens to. */
  readonly topics: readonly string[];
  /** How many of the events, from the first on, need not be sent again. */
  readonly handled: number;
}
