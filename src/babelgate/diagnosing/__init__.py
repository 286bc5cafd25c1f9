"""`babelgate diagnose`: where on the way from a prompt to a reply a language fails."""
