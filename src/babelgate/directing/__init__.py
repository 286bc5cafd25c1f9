"""`babelgate directions`: refusal directions by language, selected, transferred and written."""
