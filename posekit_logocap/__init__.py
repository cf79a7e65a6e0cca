"""LOGO-CAP: to come. See this package's README; it registers nothing until it works."""
