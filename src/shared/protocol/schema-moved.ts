/** The error of a failed guard, with the revisions that it found. */
import { HostError } from "../kernel/errors.ts";

/** The schema changed during a request; nothing of the request was committed. */
export class SchemaChanged extends HostError<"SCHEMA_CHANGED"> {
  /** The current revisions, as `rowhouse.assert_revisions` reports them: JSON, by schema. */
  readonly revisions: string;

  constructor(revisions: string, cause: unknown) {
    super("SCHEMA_CHANGED", undefined, { cause });
    this.revisions = revisions;
  }
}
