"""The methods: one file each, with its formula, shapes and source."""
