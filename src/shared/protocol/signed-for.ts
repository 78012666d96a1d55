/**
 * The claim that names the tenant in a token signed by this host; not a valid setting name, so it never
 * becomes a setting.
 */
export const signedForClaim = "rowhouse:tenant";
