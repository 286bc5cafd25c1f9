"""The embedded judge: a small classifier of a reply's opening, shipped in the package."""
