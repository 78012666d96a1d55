/** What a failed guard knows beside the fact that it failed. */
import { HostError } from "../kernel/errors.ts";

/** The schema has moved under a request, and nothing of it stands. */
export class SchemaChanged extends HostError<"SCHEMA_CHANGED"> {
  /** Where it has moved to, as `rowhouse.assert_revisions` reports it: JSON, by schema. */
  readonly revisions: string;

  constructor(revisions: string, cause: unknown) {
    super("SCHEMA_CHANGED", undefined, { cause });
    this.revisions = revisions;
  }
}
