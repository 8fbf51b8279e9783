/** How GNU tar is called wherever a whole tree goes through it. */

/**
 * All extended attributes, ACLs among them. XFS shows each ACL a second time (`trusted.SGI_ACL_FILE`), as it is on the disk there; that is of no use
 * elsewhere, and wrong where owners are mapped.
 */
export const ALL_XATTRS = ['--xattrs', '--xattrs-include=*', '--xattrs-exclude=trusted.SGI_ACL_*'] as const;
