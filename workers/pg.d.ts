/** What pg 8.23 has and its published types lack. */
declare module "pg/lib/utils.js" {
  const utils: {
    /** A parameter as it goes on the wire; throws for what cannot be written, such as an object with a cycle. */
    prepareValue(value: unknown): string | Buffer | null;
  };
  export default utils;
}
