/** The claim by which a token that this host signed names its tenant; no name of a setting, so that it becomes none. */
export const signedForClaim = "rowhouse:tenant";
