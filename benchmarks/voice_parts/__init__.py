"""Parts of the benchmark of recordings; each module gives one `measure`."""
