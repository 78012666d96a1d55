/** What everything that builds beside a request has in common: a replacement, a replica, a quarantine. */
import type { Condition } from "../shared/kernel/condition.ts";
import type { BoundedSemaphore } from "../shared/kernel/semaphore.ts";
import type { Builder } from "./builder.ts";
import type { BuildsInFlight } from "./builds-in-flight.ts";
import type { Eviction } from "./eviction.ts";
import type { Registry } from "./registry.ts";

export interface BuildParts {
  readonly registry: Registry;
  readonly eviction: Eviction;
  readonly builder: Builder;
  /** Admits `builds.concurrency` builds at a time; throws `BUILD_QUEUE_FULL` if too many wait. */
  readonly buildQueue: BoundedSemaphore;
  readonly buildsInFlight: BuildsInFlight;
  /** Notified whenever cells or instances change. */
  readonly changed: Condition;
}
