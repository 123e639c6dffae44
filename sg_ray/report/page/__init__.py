"""The page: content of a sweep's folder, charts, sections, HTML."""
