/** Exposes observations of subscriptions as Prometheus metrics. */
import type { Makers } from "./metrics-makers.ts";
import type { Observation, RealtimeObservation } from "./observation.ts";

/** Those that the host closes WebSockets with, and those of clients that leave. A client may send any other one. */
const closeCodes = [1000, 1001, 1005, 1006, 1009, 1012, 1013, 4400, 4401, 4403, 4408, 4409, 4429];

const pollSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

export const isRealtime = (observation: Observation): observation is RealtimeObservation =>
  observation.kind.startsWith("realtime.");

/** Counts observations of subscriptions. */
export function realtimeTally({ counter, histogram }: Makers): (observation: RealtimeObservation) => void {
  const events = counter("realtime_events_total", "Events read for schemas with subscribers.");
  const polls = histogram("realtime_poll_seconds", "Time to read the events of a database.", pollSeconds);
  const runs = counter("realtime_runs_total", "Operations run for subscribers.");
  const gaps = counter(
    "realtime_gaps_total",
    "Times that events may have been missed, so that all subscriptions to a database ran again.",
  );
  const closed = counter(
    "realtime_closed_total",
    "WebSockets closed by either side, by code; codes of clients that mean nothing here are one.",
    "code",
  );
  for (const code of [...closeCodes, "other"]) closed.inc({ code }, 0);
  return (observation) => {
    switch (observation.kind) {
      case "realtime.closed":
        closed.inc({ code: closeCodes.includes(observation.code) ? observation.code : "other" });
        break;
      case "realtime.polled":
        events.inc(observation.events);
        polls.observe(observation.durationMs / 1000);
        break;
      case "realtime.run":
        runs.inc();
        break;
      case "realtime.gap":
        gaps.inc();
        break;
      default:
        observation.kind satisfies "realtime.failing";
    }
  };
}

export interface SubscriptionCounts {
  readonly subscriptions: number;
  readonly executions: number;
  readonly connections: Readonly<Record<"websocket" | "sse", number>>;
}

/** Gauges of the subscriptions there are; 0 if there can be none. */
export function subscriptionGauges({ gauge }: Makers): (counts: SubscriptionCounts | null) => void {
  const subscriptions = gauge("realtime_subscriptions", "Subscriptions at the moment.");
  const executions = gauge("realtime_executions", "Executions that subscriptions with equal requests share.");
  const connections = gauge("realtime_connections", "Connections of subscribers.", "transport");
  return (counts) => {
    for (const transport of ["websocket", "sse"] as const) {
      connections.set({ transport }, counts?.connections[transport] ?? 0);
    }
    subscriptions.set(counts?.subscriptions ?? 0);
    executions.set(counts?.executions ?? 0);
  };
}
