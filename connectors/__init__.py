"""The sources syncd can read: one a file, named after the `type:` a configuration gives it."""
