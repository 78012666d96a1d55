/** Leaves out the notes that PostGraphile makes for `graphile-export` on everything it builds, which a cell never uses. */

const factory = "$exporter$factory";

const define = Object.defineProperties;

/**
 * Each function and object that graphile-build 5.1, @dataplan/pg and their like make by `EXPORTABLE` is given the function that
 * made it and its arguments: 20,000 of them in an instance of 300 tables. With them it keeps what those functions can see, which
 * is all that was read of the catalogue: 18 of 58 MB. Nothing but `graphile-export` reads them; whether something has been
 * marked is asked during a build, and that mark stays. Each package has an EXPORTABLE of its own, but all of them define the
 * properties in one call, and no other call has that name. Another version that goes about it differently keeps its notes.
 */
export function leaveOutExportMarks(): true {
  Object.defineProperties = function defineProperties<Target>(
    target: Target,
    properties: PropertyDescriptorMap & ThisType<unknown>,
  ): Target {
    if (!Object.hasOwn(properties, factory)) return define(target, properties);
    const { $exporter$name: name = { writable: true, value: undefined } } = properties;
    // An existing name is not defined again, which would fail on a frozen object.
    return define(target, { [factory]: { value: true }, $exporter$name: name });
  };
  return true;
}
